// The program's descriptors have the numbers that the kernel gives a program that is alone: the
// smallest that is free. One of ours that had a small number during a call (channel/base/
// descriptor.h) has pushed the program's up, or stood where the program wants its own.
#pragma once

#include "channel/base/descriptor.h"

namespace xenloop {

// A descriptor that the program has just been given: its number now, `least` or above. A regular
// file keeps its number: closing one gives up this process's locks on the file.
int MoveDown(int fd, int least);
// Waits until none of ours has a small number, but not for ever.
void AwaitNoLowNumber();

// A call that makes one descriptor of the program's; -1 with errno as libc has it.
template <class KernelCall>
inline int Numbered(KernelCall kernel, int least = 0) {
  const uint32_t before = sys::low_numbers.Taken();
  const int fd = static_cast<int>(kernel());
  return __builtin_expect(sys::low_numbers.AnySince(before), 0) && fd >= 0 ? MoveDown(fd, least)
                                                                           : fd;
}
// One that makes two, in order.
template <class KernelCall>
inline int BothNumbered(int* fds, KernelCall kernel) {
  const uint32_t before = sys::low_numbers.Taken();
  const int result = static_cast<int>(kernel());
  if (__builtin_expect(sys::low_numbers.AnySince(before), 0) && result == 0) {
    fds[0] = MoveDown(fds[0], 0);
    fds[1] = MoveDown(fds[1], 0);
  }
  return result;
}

// Around a call that puts a descriptor on a number that it names: it would close ours there, which
// then would take the program's for its own.
class Placing {
 public:
  Placing();
  ~Placing() { sys::low_numbers.placing.fetch_sub(1, std::memory_order_release); }
  Placing(const Placing&) = delete;
  Placing& operator=(const Placing&) = delete;
};

// In a forked child: those threads are not here.
inline void ForgetLowNumbers() {
  sys::low_numbers.taken.store(0, std::memory_order_relaxed);
  sys::low_numbers.placing.store(0, std::memory_order_relaxed);
  sys::low_numbers.given_up.store(false, std::memory_order_relaxed);
}

// Before a close of what may be open under our descriptor's number only.
inline void BeforeUnknownClose() {
  if (__builtin_expect(sys::low_numbers.AnyNow(), 0)) AwaitNoLowNumber();
}

}  // namespace xenloop
