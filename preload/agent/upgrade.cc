// When to ask for an upgrade of a side (agent.h): any thread.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "channel/base/descriptor.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bare_wait.h"
#include "preload/side/bells.h"
#include "preload/side/borrowed.h"
#include "preload/side/confinement.h"
#include "preload/side/datagram_side.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kLongestBackoff = 65536;  // operations between two attempts at the most

}  // namespace

void ConsiderUpgrade(Side* side) {
  const uint64_t n = side->operations.load(std::memory_order_relaxed);
  if (!process_state.ready || side->pinned.load(std::memory_order_relaxed) != 0 ||
      agent_shared.started.load(std::memory_order_relaxed) == kAgentFailed) {
    side->next_attempt.store(~0ull, std::memory_order_relaxed);
    const Reason failure = agent_shared.start_failure.load(std::memory_order_relaxed);
    if (side->pinned.load(std::memory_order_relaxed) == 0 && failure != Reason::kNone)
      side->reason.store(failure, std::memory_order_relaxed);
    return;
  }
  if (GetConfig().test_points && (!IsOurs(side) || side->reason.load() == Reason::kShared)) {
    // Tests upgrade at marked points only, also what a child has taken over: it must be known for
    // that.
    side->next_attempt.store(n + 1, std::memory_order_relaxed);
    WantUpgrade(side);
    return;
  }
  const uint64_t first = GetConfig().upgrade_after;
  if (n <= first && n < first) {
    side->next_attempt.store(first, std::memory_order_relaxed);
    return;
  }
  const uint64_t gap = n < 8 ? 2 : n < kLongestBackoff ? n : kLongestBackoff;
  side->next_attempt.store(n + gap, std::memory_order_relaxed);
  if (side->attached.load(std::memory_order_relaxed) != 0) return;
  WantUpgrade(side);
}

namespace {
// A process with an agent is told. One without looks whether root has switched the machine off, and
// one that has found that looks again from time to time.
bool SwitchedOff(std::atomic<Reason>& reason) {
  Switch now = agent_shared.refused_for_now.load(std::memory_order_acquire);
  if (now == Switch::kFoundOff || (now == Switch::kOn && agent_shared.started.load() == 0)) {
    const bool off = sys::Call(SYS_faccessat, AT_FDCWD, sys::Word(kSwitchedOffFile), F_OK) == 0;
    const Switch found = off ? Switch::kFoundOff : Switch::kOn;
    if (agent_shared.refused_for_now.compare_exchange_strong(now, found, std::memory_order_acq_rel))
      now = found;
  }
  if (now != Switch::kOn) {
    reason.store(now == Switch::kLeft ? Reason::kAboutToMove : Reason::kSwitchedOff,
                 std::memory_order_relaxed);
  }
  return now != Switch::kOn;
}
}  // namespace

namespace {
// Before anything else that asks the kernel, but for its limit, for which the loader has asked.
bool IsForbidden(std::atomic<Reason>& reason) {
  if (agent_shared.started.load(std::memory_order_relaxed) != 0) return false;
  // Once is enough, but where a filter was not tried, as a child may try it, or may have come
  // since.
  Reason obstacle = agent_shared.obstacle.load(std::memory_order_relaxed);
  if (sys::DescriptorLimit() < sys::kFewestDescriptors) {
    obstacle = Reason::kAgentNoDescriptors;
  } else if (obstacle == Reason::kFilterUntried || HasPreparedLook()) {
    obstacle = FilterInTheWay();
  }
  agent_shared.obstacle.store(obstacle, std::memory_order_relaxed);
  if (obstacle == Reason::kNone) return false;
  agent_shared.start_failure.store(obstacle, std::memory_order_relaxed);
  reason.store(obstacle, std::memory_order_relaxed);
  agent_shared.started.store(kAgentFailed, std::memory_order_release);
  return true;
}
}  // namespace

void WantUpgrade(Side* side) {
  if (IsForbidden(side->reason) || SwitchedOff(side->reason) || !EnsureAgent()) return;
  if (side->attached.load(std::memory_order_acquire) != 0) {
    if (!IsOurs(side)) {  // by the process that we were forked from; it lets go soon
      Postpone(SlotOf(side));
      Poke(process_state.pid);
    }
    return;
  }
  side->owner_pid.store(process_state.pid, std::memory_order_release);
  Arena()->wanted.Add(SlotOf(side));
  Poke(process_state.pid);
}

namespace {
// By what two processes can use at a time, and this one can hear of.
bool MayBeBorrowed(Side* side) {
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  return side->attached.load(std::memory_order_relaxed) != 0 && IsParents(side) &&
         !side->send.fifo.foreign && !side->send.lives && !side->receive.lives &&
         side->pair.load(std::memory_order_relaxed) == 0 &&
         side->pinned.load(std::memory_order_relaxed) == 0;
}

int32_t OwnerPid() { return agent_shared.ancestors[0].pid.load(std::memory_order_relaxed); }

// Who has attached what we would borrow. It may be our grandparent, and live on without our parent.
bool OwnerHasEnded() {
  constexpr int kPidfdOpen = 434;  // Linux 5.3
  if (OwnersAgentHasEnded()) return true;
  if (sys::Call(SYS_getppid) == OwnerPid()) return false;
  const long fd = sys::MakeDescriptor(kPidfdOpen, static_cast<long>(OwnerPid()), 0);
  if (fd < 0) return fd == -ESRCH;
  pollfd entry{static_cast<int>(fd), POLLIN, 0};
  const timespec now{0, 0};
  const bool ended = sys::Call(SYS_ppoll, sys::Word(&entry), 1, sys::Word(&now), 0, 8) == 1;
  sys::Close(entry.fd);
  return ended;
}
}  // namespace

bool BorrowFromParent(Side* side) {
  const sys::SignalsBlocked blocked;
  std::atomic<Reason> reason;
  if (!process_state.ready || IsForbidden(reason)) return false;
  const bool orphaned = OwnerHasEnded();
  const bool may = !orphaned && MayBeBorrowed(side) && sys::Call(SYS_getppid) == OwnerPid();
  if ((!orphaned && !may) || SwitchedOff(reason) || !EnsureAgent() ||
      agent_shared.started.load(std::memory_order_acquire) != 2)
    return false;
  if (orphaned) {
    agent_shared.borrows.store(1, std::memory_order_seq_cst);
    Poke(process_state.pid);  // it takes over what the parent has left, and sends what is owed
    return false;
  }
  // seq_cst, all of it: who sleeps from now on is counted where the peer looks, and the FIFOs name
  // the bell that he hears, before he looks at them.
  agent_shared.borrows.store(1, std::memory_order_seq_cst);
  side->lent.store(1, std::memory_order_seq_cst);
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
    WriteBell(side);
    const ReceiveRoute route = side->receive.route.load(std::memory_order_relaxed);
    if (route != ReceiveRoute::kTcp && route != ReceiveRoute::kResidue)
      side->receive.fifo.header->consumer_shared.store(1, std::memory_order_relaxed);
  }
  agent_shared.borrowed.Add(SlotOf(side));
  Poke(process_state.pid);  // it watches the parent
  return true;
}

namespace {
bool MayWantDatagrams(DatagramSide* side) {
  return process_state.ready && HasArena() &&
         agent_shared.started.load(std::memory_order_relaxed) != kAgentFailed &&
         !BareWait::IsInTheWay() && !IsForbidden(side->reason) && !SwitchedOff(side->reason);
}
}  // namespace

void WantDatagrams(DatagramSide* side, uint32_t wants) {
  if (MayWantDatagrams(side) && EnsureAgent()) AskAgent(side, wants);
}

void ConsiderDatagrams(DatagramSide* side, uint32_t wants) {
  if (!MayWantDatagrams(side)) return;
  const bool runs = agent_shared.started.load(std::memory_order_acquire) != 0;
  if ((runs || IsSomebodyToMeet(side, wants)) && EnsureAgent()) AskAgent(side, wants);
}

void WantParked() {
  std::atomic<Reason> reason;
  if (!process_state.ready || !HasArena() ||
      agent_shared.started.load(std::memory_order_relaxed) == kAgentFailed || IsForbidden(reason) ||
      SwitchedOff(reason) || !EnsureAgent())
    return;
  parked.wanted.store(1, std::memory_order_seq_cst);
  Poke(process_state.pid);
}

}  // namespace xenloop
