// The program's descriptors have the numbers that the kernel gives a program that is alone: the
// smallest that is free. One of ours that had a small number during a call (channel/base/
// descriptor.h) has pushed the program's up, or stood where the program wants its own.
#pragma once

#include "channel/base/abandon.h"
#include "channel/base/descriptor.h"
#include "preload/side/fd_table.h"

namespace xenloop {

// A descriptor that the program has just been given: its number now, `least` or above. A regular
// file keeps its number, and so does what is locked: a close gives up this process's locks on the
// file, and file systems hear of it.
int MoveDown(int fd, int least);
// Waits until none of ours has a small number, but not for ever, and for one only once.
void AwaitNoLowNumber();
// None of ours has one between these two, in which the program's tables are changed or copied.
void HoldLowNumbers();
void ReleaseLowNumbers();

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

// Around a call that puts a descriptor on a number that it names, or closes what it does not know:
// it would close ours there, which then would take the program's for its own. (It may wait in the
// kernel for what it closes, and be left by a jump.)
class Placing : public Abandonable {
 public:
  Placing();
  ~Placing();

 private:
  static void GiveBack(Abandonable* scope);
  bool holds_ = false;
};

// In a forked child: those threads are not here.
inline void ForgetLowNumbers() {
  sys::low_numbers.taken.store(0, std::memory_order_relaxed);
  sys::low_numbers.placing.store(0, std::memory_order_relaxed);
  sys::low_numbers.given_up.store(0, std::memory_order_relaxed);
}

// Before a call on a number that means nothing to us: the program may have closed it, and a
// descriptor of ours stand there for a moment, to be read, written or closed. (One that is made
// between this look and the kernel's own is met all the same: it takes its maker longer than the
// way from here, unless this thread loses its processor just then.)
inline void BeforeUnknown() {
  if (__builtin_expect(sys::low_numbers.AnyNow(), 0)) AwaitNoLowNumber();
}
inline void BeforeCallOn(int fd) {
  if (__builtin_expect(sys::low_numbers.AnyNow(), 0) && FdTable::IsEmpty(fd)) AwaitNoLowNumber();
}

}  // namespace xenloop
