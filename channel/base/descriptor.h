// Descriptors of ours in the program's process: where their numbers begin, and how they come there.
// The kernel gives a new descriptor the smallest free number, on which programs rely: close(0),
// then open(). So one of ours is moved up at once; and while it has a small number, and whenever it
// has had one during a call of the program's, the program's calls know
// (preload/side/lowest_number.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/base/sys.h"
#include "channel/base/time.h"

namespace xenloop::sys {

// Where descriptors of ours begin: out of the way of small numbers, on which programs rely
// (close(0), then open()), and not so high that the kernel's table grows.
inline uint64_t DescriptorLimit() {
  uint64_t limit[2] = {1024, 1024};
  constexpr long kDescriptors = 7;  // RLIMIT_NOFILE
  Call(SYS_prlimit64, 0, kDescriptors, 0, reinterpret_cast<long>(limit));
  return limit[0];
}
// Under a tight limit the program may count on every number, and even a descriptor that is moved
// out of the way at once, or closed, has had the smallest free one for a moment: none of ours
// below.
inline constexpr uint64_t kFewestDescriptors = 256;
inline long DescriptorBase() {
  const uint64_t limit = DescriptorLimit();
  return limit >= 4096 ? 1024 : static_cast<long>(limit) * 3 / 4;
}
// Counts of this process. In the lower half of `taken`: how many descriptors of ours may have a
// small number now; in its upper half: how often one may have had. `placing`: calls of the
// program's for whose time there is to be none: those that put a descriptor on a number that they
// name or close what they do not know (dup2, close_range), and forks. `given_up`: `taken`, when
// somebody has waited for the end of it in vain.
struct LowNumbers {
  std::atomic<uint32_t> taken{0};
  std::atomic<uint32_t> placing{0};
  std::atomic<uint32_t> given_up{0};

  static constexpr uint32_t kNowMask = 0xffff;
  static constexpr uint32_t kOnce = 1 << 16;
  uint32_t Taken() const { return taken.load(std::memory_order_acquire); }
  bool AnyNow() const { return (Taken() & kNowMask) != 0; }
  // `before`: what Taken() said then.
  bool AnySince(uint32_t before) const { return (before & kNowMask) != 0 || Taken() != before; }
};
inline LowNumbers low_numbers;

// From before a call that makes a descriptor of ours until it is out of the way. No handler of this
// thread runs meanwhile: its calls would wait for what it has interrupted, and after a jump or a
// cancellation all would.
class LowNumber {
 public:
  LowNumber() {
    int yields_left = kYields;
    for (Naps naps(kPatienceNs, kNapNs);;) {
      // seq_cst: pairs with HoldLowNumbers, of which one sees the other.
      low_numbers.taken.fetch_add(LowNumbers::kOnce + 1, std::memory_order_seq_cst);
      if (low_numbers.placing.load(std::memory_order_seq_cst) == 0) return;
      low_numbers.taken.fetch_sub(1, std::memory_order_release);
      if (yields_left-- > 0) {
        Yield();
      } else if (!naps.Take()) {
        break;
      }
    }
    low_numbers.taken.fetch_add(LowNumbers::kOnce + 1, std::memory_order_seq_cst);
  }
  ~LowNumber() { low_numbers.taken.fetch_sub(1, std::memory_order_release); }
  LowNumber(const LowNumber&) = delete;
  LowNumber& operator=(const LowNumber&) = delete;

 private:
  // A call of the program's is over by then, unless it waits in the kernel for what it closes, or
  // its thread was stopped in the middle of it.
  static constexpr int kYields = 200;
  static constexpr uint64_t kPatienceNs = 20 * kNsPerMs;
  static constexpr uint64_t kNapNs = 50 * kNsPerUs;
  const SignalsBlocked blocked_;
};

// The descriptor's new number, at `base` or above, or -errno (then it is closed).
inline long MoveUp(long fd, long base) {
  if (fd < 0 || fd >= base) return fd;
  constexpr long kDuplicateCloexec = 1030;  // F_DUPFD_CLOEXEC
  const long moved = Call(SYS_fcntl, fd, kDuplicateCloexec, base);
  Close(static_cast<int>(fd));
  return moved;
}
// A system call that makes a descriptor, which is then moved up.
template <typename... Arguments>
inline long MakeDescriptor(long number, Arguments... arguments) {
  const long base = DescriptorBase();
  const LowNumber low;
  return MoveUp(Call(number, arguments...), base);
}

}  // namespace xenloop::sys
