// What we use of our parent's FIFOs (side/borrowed.h) is looked after by the parent's agent, as
// long as there is one: at the parent's end, however that comes, we go on with it. Its sides become
// ours as they are, and go back to TCP at once, since the peer's agent has lost its partner; when
// the parent's copy is gone too, they are offered anew like any other.
#include <errno.h>
#include <sys/epoll.h>

#include "channel/base/descriptor.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/borrowed.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

constexpr int kPidfdOpen = 434;  // Linux 5.3
constexpr uint64_t kOwnerPauseNs = 20 * kNsPerMs;

int32_t ParentPid() { return agent_shared.ancestors[0].pid.load(std::memory_order_relaxed); }

template <typename Visit>
void EachOfParents(Visit visit) {
  EachSide([&visit](int fd, Side* side) {
    if (IsParents(side) && side->attached.load(std::memory_order_acquire) != 0) visit(fd, side);
  });
}

// The mapping behind a FIFO that we have by fork: its header is the beginning.
FifoMapping MappingOf(const Fifo& fifo) {
  FifoMapping mapping;
  mapping.fifo = fifo;
  mapping.memory = fifo.header;
  mapping.memory_bytes = (FifoMemoryBytes(fifo.capacity_bytes) + 4095) & ~size_t{4095};
  return mapping;
}

// Of several children one goes on with it; the others find it on TCP.
void TakeOver(int fd, Side* side) {
  int32_t parent = ParentPid();
  const uint32_t slot = SlotOf(side);
  AgentSide note;
  note.generation = side->generation.load(std::memory_order_acquire);
  note.stage = Stage::kAttached;
  note.told_send = note.told_receive = true;  // there is nobody to tell
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
    if (FindSide(fd) != side || side->attached.load(std::memory_order_relaxed) == 0 ||
        !side->owner_pid.compare_exchange_strong(parent, process_state.pid,
                                                 std::memory_order_acq_rel))
      return;
    side->fd.store(fd, std::memory_order_release);
    side->lingering_fd.store(-1, std::memory_order_relaxed);  // a number of the parent's
    note.mine = MappingOf(side->send.fifo);
    note.theirs = MappingOf(side->receive.fifo);
    agent.sides[slot] = note;
    Watch(fd, WatchKind::kShadow, slot, note.generation,
          EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLOUT | EPOLLET);
  }
  FallBack(fd, side, Reason::kHandedOver);
  side->next_attempt.store(
      side->operations.load(std::memory_order_relaxed) + GetConfig().upgrade_after,
      std::memory_order_relaxed);
  ServiceSide(slot);
}

}  // namespace

bool OwnersAgentHasEnded() {
  const uint32_t tid = agent_shared.ancestors[0].agent_tid.load(std::memory_order_relaxed);
  return tid != 0 && sys::Call(SYS_tgkill, ParentPid(), tid, 0) == -ESRCH;
}

void ParentHasEnded() {
  if (agent.parent_fd >= 0) ClosePrivate(agent.parent_fd);
  agent.parent_fd = -1;
  agent_shared.parent_lost.store(1, std::memory_order_release);
  EachOfParents(TakeOver);  // also what we have not used: what it owes nobody else would send
}

uint64_t LookAtOwner() {
  if (agent_shared.parent_lost.load(std::memory_order_relaxed) != 0) return kNotAgain;
  agent_shared.parent_owes.store(0, std::memory_order_seq_cst);  // before we look
  bool owes = false;
  EachOfParents([&owes](int, const Side* side) {
    owes = owes || SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
  });
  if (!owes) return kNotAgain;
  agent_shared.parent_owes.store(1, std::memory_order_relaxed);
  if (!OwnersAgentHasEnded()) return kOwnerPauseNs;
  ParentHasEnded();
  return kNotAgain;
}

void ReturnBorrowed(Reason reason) {
  if (agent_shared.borrows.load(std::memory_order_relaxed) == 0) return;
  EachOfParents([reason](int fd, Side* side) {
    if (agent_shared.borrowed.Contains(SlotOf(side))) FallBack(fd, side, reason);
  });
}

void WatchParent() {
  if (agent_shared.borrows.load(std::memory_order_relaxed) == 0 ||
      agent_shared.parent_lost.load(std::memory_order_relaxed) != 0)
    return;
  if (agent_shared.parent_owes.load(std::memory_order_relaxed) != 0)
    agent.timers.StartWithin(Timer::kOwner, AgentNs(), kOwnerPauseNs);
  if (agent.parent_fd >= 0) return;
  agent.parent_fd = MakePrivateBy(kPidfdOpen, static_cast<long>(ParentPid()), 0);
  if (agent.parent_fd >= 0) Watch(agent.parent_fd, WatchKind::kParent, 0, 0, EPOLLIN);
  // Behind the watch: who had ended before it is not our parent any more.
  if (sys::Call(SYS_getppid) != ParentPid() || OwnersAgentHasEnded()) return ParentHasEnded();
  if (agent.parent_fd >= 0) return;
  // An old kernel, or no descriptor left: nobody would tell us.
  agent_shared.parent_lost.store(1, std::memory_order_release);
  ReturnBorrowed(Reason::kUsedByChild);
}

}  // namespace xenloop
