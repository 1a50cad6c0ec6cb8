// What this process knows about each descriptor number: one word a number, in untouched zero pages
// until used. The word of a descriptor that we do not follow is 0, so the cost for files, pipes and
// the like is one load.
#pragma once

#include <atomic>
#include <cstdint>

namespace xenloop {

struct Side;
struct EpollSet;

class FdTable {
 public:
  static constexpr int kMaxFds = 1 << 18;  // descriptors above stay on TCP

  static Side* FindSide(int fd) {
    const uintptr_t word = Load(fd);
    return (word & kTagMask) == kSideTag ? reinterpret_cast<Side*>(word & ~kTagMask) : nullptr;
  }
  static EpollSet* FindEpollSet(int fd) {
    const uintptr_t word = Load(fd);
    return (word & kTagMask) == kEpollTag ? reinterpret_cast<EpollSet*>(word & ~kTagMask) : nullptr;
  }
  static bool IsPrivate(int fd) { return Load(fd) == kPrivate; }
  static bool IsEmpty(int fd) { return Load(fd) == 0; }

  static void SetSide(int fd, Side* side) {
    Store(fd, reinterpret_cast<uintptr_t>(side) | kSideTag);
  }
  static void SetEpollSet(int fd, EpollSet* set) {
    Store(fd, reinterpret_cast<uintptr_t>(set) | kEpollTag);
  }
  static void SetPrivate(int fd) { Store(fd, kPrivate); }
  static void Clear(int fd) { Store(fd, 0); }
  // Clears the entry if it is still `side`; false if somebody else was faster.
  static bool Take(int fd, Side* side);

  static bool InRange(int fd) { return static_cast<unsigned>(fd) < static_cast<unsigned>(kMaxFds); }
  // One past the highest number that was ever stored.
  static int End() { return end_.load(std::memory_order_acquire); }

 private:
  static constexpr uintptr_t kTagMask = 7;
  static constexpr uintptr_t kSideTag = 1;
  static constexpr uintptr_t kEpollTag = 2;
  static constexpr uintptr_t kPrivate = 4;

  static uintptr_t Load(int fd) {
    return InRange(fd) ? words_[fd].load(std::memory_order_acquire) : 0;
  }
  static void Store(int fd, uintptr_t word);

  static std::atomic<uintptr_t> words_[kMaxFds];
  static std::atomic<int> end_;
};

// The side behind `fd`, or nullptr if `fd` is not a TCP socket that we follow. One load; safe at
// any time, also before initialisation (then always nullptr).
inline Side* FindSide(int fd) { return FdTable::FindSide(fd); }
inline EpollSet* FindEpollSet(int fd) { return FdTable::FindEpollSet(fd); }

// A descriptor of the side in this process other than `except`, or -1.
int OtherDescriptor(const Side* side, int except);
// A descriptor of the side in this process, or -1.
int DescriptorOf(Side* side);

}  // namespace xenloop
