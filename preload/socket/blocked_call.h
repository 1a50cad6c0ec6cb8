// A thread that sleeps in a data call while another one closes its descriptor.
#pragma once

#include <sys/types.h>

#include "channel/base/abandon.h"
#include "preload/side/side.h"

namespace xenloop {

// Counts a thread asleep in a data call on a side, and finds the side again after the sleep. In the
// process whose agent looks after the side only: a child that is killed would stay counted, and
// where a child closes it the side lives on anyway.
class BlockedCall : public Abandonable {
 public:
  BlockedCall(int fd, Side* side);
  // Ends the count. False: the descriptor leads elsewhere now, and the side with it. `*fd` may
  // change to the private number under which a side that was closed meanwhile lives on for us.
  bool Woken(int* fd);

 private:
  static void GiveBack(Abandonable* scope);

  const int fd_;
  Side* const side_;
  const bool counts_;
};
// At the end of a data call: closes the private number of a side that lived on for sleeping calls
// only.
void FinishOrphan(int fd, Side* side);

// What becomes of a call whose number led elsewhere when it woke. The program's connections may all
// have been left to TCP: then the kernel goes on, kUseKernel. A file, or another connection, must
// not get what was meant for this one: -EBADF, as for a number that is closed.
ssize_t GoOnElsewhere(int fd);

}  // namespace xenloop
