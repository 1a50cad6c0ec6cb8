// What this process knows about each descriptor number: one word a number, in untouched zero pages
// until used. The word of a descriptor that we do not follow is 0, so the cost for files, pipes and
// the like is one load. Every number that the kernel may give has its place: the low ones at once,
// each further stretch of numbers when the first of them is stored.
#pragma once

#include <atomic>
#include <cstdint>

namespace xenloop {

struct Side;
struct EpollSet;
struct DatagramSide;     // a UDP socket; side/datagram_side.h
struct SubmissionQueue;  // of an io_uring; socket/submissions.h

class FdTable {
 public:
  // What one number means, read once.
  class Meaning {
   public:
    explicit Meaning(uintptr_t word) : word_(word) {}
    bool IsNothing() const { return word_ == 0; }
    Side* OfSide() const { return Of<Side>(kSideTag); }
    DatagramSide* OfDatagram() const { return Of<DatagramSide>(kDatagramTag); }
    EpollSet* OfEpollSet() const { return Of<EpollSet>(kEpollTag); }

   private:
    template <class Object>
    Object* Of(uintptr_t tag) const {
      return (word_ & kTagMask) == tag ? reinterpret_cast<Object*>(word_ & ~kTagMask) : nullptr;
    }
    const uintptr_t word_;
  };
  static Meaning Find(int fd) { return Meaning(Load(fd)); }
  static Side* FindSide(int fd) { return Find(fd).OfSide(); }
  static EpollSet* FindEpollSet(int fd) { return Find(fd).OfEpollSet(); }
  static SubmissionQueue* FindSubmissions(int fd) {
    const uintptr_t word = Load(fd);
    return (word & kTagMask) == kSubmissionsTag
               ? reinterpret_cast<SubmissionQueue*>(word & ~kTagMask)
               : nullptr;
  }
  static DatagramSide* FindDatagram(int fd) { return Find(fd).OfDatagram(); }
  static bool IsPrivate(int fd) { return Load(fd) == kPrivate; }
  static bool IsEmpty(int fd) { return Load(fd) == 0; }

  static void SetSide(int fd, Side* side) {
    Store(fd, reinterpret_cast<uintptr_t>(side) | kSideTag);
  }
  static void SetEpollSet(int fd, EpollSet* set) {
    Store(fd, reinterpret_cast<uintptr_t>(set) | kEpollTag);
  }
  static void SetSubmissions(int fd, SubmissionQueue* queue) {
    Store(fd, reinterpret_cast<uintptr_t>(queue) | kSubmissionsTag);
  }
  static void SetDatagram(int fd, DatagramSide* side) {
    Store(fd, reinterpret_cast<uintptr_t>(side) | kDatagramTag);
  }
  static void SetPrivate(int fd) { Store(fd, kPrivate); }
  static void Clear(int fd) { Store(fd, 0); }
  // Clears the entry if it is still `side`; false if somebody else was faster.
  static bool Take(int fd, Side* side);

  // Whether something can be stored for `fd`; makes room for it. False: no memory.
  static bool InRange(int fd);
  // One past the highest number that was ever stored.
  static int End() { return end_.load(std::memory_order_acquire); }
  // For walks: the number after `fd`, but for stretches where nothing was ever stored.
  static int Next(int fd);

  // For the bulletin: what it means, and the words of the numbers below kStretch.
  static constexpr uintptr_t kTagMask = 7;
  static constexpr uintptr_t kSideTag = 1;
  static constexpr int kStretch = 1 << 16;
  static constexpr const void* LowWords() { return low_; }

 private:
  static constexpr uintptr_t kEpollTag = 2;
  static constexpr uintptr_t kSubmissionsTag = 3;
  static constexpr uintptr_t kPrivate = 4;
  static constexpr uintptr_t kDatagramTag = 5;

  using Word = std::atomic<uintptr_t>;
  static constexpr int kStretches = 1 << 15;  // of them there are as many as there are numbers

  static Word* FindWord(int fd) {
    if (__builtin_expect(static_cast<unsigned>(fd) < static_cast<unsigned>(kStretch), 1))
      return &low_[fd];
    return FindFar(fd);
  }
  static Word* FindFar(int fd);
  static uintptr_t Load(int fd) {
    const Word* const word = FindWord(fd);
    return word != nullptr ? word->load(std::memory_order_acquire) : 0;
  }
  static void Store(int fd, uintptr_t word);

  static Word low_[kStretch];
  static std::atomic<Word*> far_[kStretches];  // the first one is low_
  static std::atomic<int> end_;
};

// The side behind `fd`, or nullptr if `fd` is not a TCP socket that we follow. One load; safe at
// any time, also before initialisation (then always nullptr).
inline Side* FindSide(int fd) { return FdTable::FindSide(fd); }
inline DatagramSide* FindDatagram(int fd) { return FdTable::FindDatagram(fd); }
inline EpollSet* FindEpollSet(int fd) { return FdTable::FindEpollSet(fd); }

// A descriptor of the side in this process other than `except`, or -1.
int OtherDescriptor(const Side* side, int except);
// A descriptor of the side in this process, or -1.
int DescriptorOf(Side* side);

}  // namespace xenloop
