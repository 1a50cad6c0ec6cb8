// FIFOs that a forked child uses although its parent's agent looks after them. The parent attached
// them before the fork, so their memory is ours too; both processes may send and receive, since
// locks and indices are in memory that they share, and what is asked of an agent goes to the
// parent's. rsync is such a program: one half only reads the connection, the other only writes.
//
// What it needs besides: who waits here hears the parent's doorbell, which the peer rings; and this
// process's own agent watches whether the parent lives (agent/agent_borrowed.cc).
#pragma once

#include "preload/side/self.h"
#include "preload/side/side.h"

namespace xenloop {

// Makes a side of the parent's one that this process may use, or has found it to be one. Any
// thread, with none of its locks. False: it goes by TCP.
bool MayUseParents(Side* side);

// May this process move bytes by the side's FIFOs?
inline bool MayUseFifos(Side* side) { return IsOurs(side) || MayUseParents(side); }

// A side of the parent's owes what TCP does not take: from now on we hear of the parent's end, and
// send the rest then.
void SucceedParent(Side* side);
// Before a wait in the kernel for what the peer answers, which it may not do before it has that.
inline void MindWhatIsOwed(Side* side) {
  if (__builtin_expect(SendStream::IsOwing(side->send.route.load(std::memory_order_relaxed)), 0) &&
      !IsOurs(side))
    SucceedParent(side);
}

// Attached by the process that we were forked from, before that.
bool IsParents(const Side* side);

}  // namespace xenloop
