// The agent around fork and the end of the process: what the parent settles before, what the child
// drops, what must have reached TCP before nobody is left to send it.
#include <sys/mman.h>

#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/confinement.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/forked_holders.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/unseen_holders.h"

namespace xenloop {
namespace {

constexpr uint64_t kLongestUpgradeNs = 20 * kNsPerMs;  // of those under way; a fork waits for it
constexpr uint64_t kLongestThreadStartMs = 200;  // on a busy machine; only _Fork and clone(2) wait

}  // namespace

void AgentSettle() {
  Naps naps(kLongestThreadStartMs * kNsPerMs, 20 * kNsPerUs);
  while (agent_shared.started.load(std::memory_order_acquire) == 2 &&
         agent_shared.tid.load(std::memory_order_relaxed) == 0 && naps.Take()) {
  }
}

namespace {

// Rung by a side that another process has attached: the index that it knows is that of the parent's
// table, of which ours is a copy.
bool IsRungByInherited(uint32_t index) {
  bool rung = false;
  EachDescriptor([&](int, const Side* side) {
    rung = rung || (side->attached.load(std::memory_order_acquire) != 0 && !IsOurs(side) &&
                    side->talk.load(std::memory_order_relaxed) == index);
  });
  return rung;
}

// A copy of what the parent's agent has open would keep connections and talks alive that the parent
// has ended. Doorbells are kept for the sides that the parent has attached.
void CloseWhatIsTheParents() {
  int kept[kMaxTalks + kMostAncestors + 1];
  size_t count = 0;
  if (agent_shared.parents_doorbell.fd >= 0) kept[count++] = agent_shared.parents_doorbell.fd;
  for (const auto& ancestor : agent_shared.ancestors) {
    const int fd = ancestor.poke_fd.load(std::memory_order_relaxed);
    if (fd > 0) kept[count++] = fd;
  }
  for (Talk& talk : agent.talks) {
    if (talk.kept) kept[count++] = DoorbellOf(talk).fd;
  }
  for (size_t i = 0; i < count; ++i) FdTable::Clear(kept[i]);
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    if (FdTable::IsPrivate(fd) && !IsPreparedLook(fd)) ClosePrivate(fd);
  }
  for (size_t i = 0; i < count; ++i) FdTable::SetPrivate(kept[i]);
}

// What the parent looks after goes on while we have it.
void KeepParentsDoorbell() {
  bool any = false;
  EachDescriptor([&any](int, const Side* side) {
    any = any || side->attached.load(std::memory_order_acquire) != 0;
  });
  // Not of a parent in another namespace of processes, whose number means somebody else here. (Not
  // asked where no agent could be started: a filter may forbid it.)
  any = any && sys::Call(SYS_getppid) != 0;
  agent_shared.parents_doorbell = any ? agent_shared.doorbell : Doorbell{};
  agent_shared.borrow.store(BorrowFromParent, std::memory_order_relaxed);
}

void RememberAncestor(int32_t pid, int poke_fd, uint32_t agent_tid) {
  auto& ancestors = agent_shared.ancestors;
  for (size_t i = kMostAncestors - 1; i > 0; --i) {
    ancestors[i].pid.store(ancestors[i - 1].pid.load());
    ancestors[i].poke_fd.store(ancestors[i - 1].poke_fd.load());
    ancestors[i].agent_tid.store(ancestors[i - 1].agent_tid.load());
  }
  ancestors[0].pid.store(pid);
  ancestors[0].poke_fd.store(poke_fd);
  ancestors[0].agent_tid.store(agent_tid);
}

}  // namespace

void ReleaseKeptTalks() {
  for (Talk& talk : agent.talks) {
    const auto index = static_cast<uint32_t>(&talk - agent.talks.first);
    if (!talk.kept || IsRungByInherited(index)) continue;
    talk.kept = false;
    ReleaseTalkIfUnused(index);
  }
}

void AgentForkedChild(int32_t parent) {
  // Counted by the parent before the fork, and the child's too: also if no agent ran (a server that
  // forks its workers before the first connection).
  agent_shared.forking.store(0, std::memory_order_relaxed);
  agent_shared.starting_over.store(0, std::memory_order_relaxed);
  const uint32_t agent_tid = agent_shared.tid.exchange(0, std::memory_order_relaxed);
  if (agent_shared.started.load(std::memory_order_relaxed) == 0) return;
  // First what is closed, then one reset. The parent's doorbell page and the peers' mappings stay
  // mapped: a thread of ours may still look at them through sides that the parent attached. Our own
  // agent starts with fresh ones.
  RememberAncestor(parent, agent_shared.poke_fd.exchange(-1, std::memory_order_relaxed), agent_tid);
  KeepParentsDoorbell();
  ForgetBridges();
  for (Talk& talk : agent.talks) {
    const bool kept = talk.in_use && DoorbellOf(talk).fd >= 0;
    const Transport* const transport = talk.transport;
    talk = Talk{};
    ForgetToldBells(static_cast<uint32_t>(&talk - agent.talks.first));
    talk.in_use = talk.kept = kept;
    talk.transport = transport;  // of the doorbell
  }
  CloseRegistry();
  CloseWhatIsTheParents();
  ReleaseKeptTalks();
  agent.Renew();
  agent_shared.Renew();
}

void DropAgent() {
  for (int* fd : {&agent.epoll_fd, &agent.listen_fd, &agent.page_fd, &agent.parent_fd,
                  &agent_shared.doorbell.fd}) {
    if (*fd >= 0) ClosePrivate(*fd);
    *fd = -1;
  }
  for (Talk& talk : agent.talks) {
    DropPeerBells(static_cast<uint32_t>(&talk - agent.talks.first));
    ForgetToldBells(static_cast<uint32_t>(&talk - agent.talks.first));
    DropUnsent(talk);
    if (talk.fd >= 0) ClosePrivate(talk.fd);
    talk = Talk{};
  }
  CloseRegistry();
  ForgetBridges();
  agent.Renew();
}

namespace {

bool IsForeign(Side* side) {
  const LockScope scope(side->send.lock, CurrentTid());
  return side->send.fifo.foreign;
}

// A connection whose FIFOs a child cannot share goes by TCP: between guests their memory does not
// survive a fork, and where both ends are ours nobody is left to send what they hold when we end
// before the child.
void EndUnsharable(Side* side, int fd, Reason reason) {
  FallBack(fd, side, reason);
  // What has not come by TCP by now is on its way there; a child must not look for it elsewhere.
  const LockScope scope(side->receive.lock, CurrentTid());
  side->receive.DropResidue();
}

// What is on FIFOs before a fork both processes may use (side/borrowed.h), what comes later only
// one. So a connection that is hot by now, and whose peer is to be found, is awaited, once.
void AwaitUpgrades() {
  UpdateLeftToUnseen();
  FreeLeftByForked(&ProgramHasOneThread);
  StartOverAsTheSameUser();
  if (agent_shared.started.load(std::memory_order_acquire) == kAgentFailed) return;
  Naps naps(kLongestUpgradeNs, 50 * kNsPerUs);  // of all of them together
  bool patient = true;
  EachSide([&](int fd, Side* side) {
    UpdateUnseen(fd, side);
    const int32_t owner = side->owner_pid.load(std::memory_order_relaxed);
    if (!patient || !side->Connected() || (owner != 0 && owner != process_state.pid) ||
        side->attached.load(std::memory_order_acquire) != 0 ||
        side->pinned.load(std::memory_order_relaxed) != 0 ||
        side->operations.load(std::memory_order_relaxed) < GetConfig().upgrade_after)
      return;
    UpdateInherited(side);
    if (side->holders.load(std::memory_order_relaxed) != 1 ||
        side->awaited.exchange(1, std::memory_order_relaxed) != 0)
      return;
    side->reason.store(Reason::kNotHotYet, std::memory_order_relaxed);  // until the agent knows
    side->forced.store(1, std::memory_order_relaxed);
    WantUpgrade(side);
    while (side->attached.load(std::memory_order_acquire) == 0 &&
           side->reason.load(std::memory_order_relaxed) == Reason::kNotHotYet && patient) {
      patient = naps.Take();
    }
    side->forced.store(0, std::memory_order_relaxed);
  });
}

}  // namespace

void AgentBeforeFork() {
  AwaitUpgrades();
  LetAgentRest();
  // seq_cst: before our look at each side under its locks; pairs with Attach.
  agent_shared.forking.fetch_add(1, std::memory_order_seq_cst);
  const auto each_attached = [](auto visit) {
    EachSide([&visit](int fd, Side* side) {
      if (side->attached.load(std::memory_order_acquire) != 0 && IsOurs(side)) visit(fd, side);
    });
  };
  // First what they have sent, so that the other end finds it in TCP.
  each_attached([](int fd, Side* side) {
    if (side->both_here.load(std::memory_order_relaxed) != 0)
      FallBackSending(fd, side, Reason::kShared);
  });
  each_attached([](int fd, Side* side) {
    if (side->both_here.load(std::memory_order_relaxed) != 0)
      EndUnsharable(side, fd, Reason::kShared);
  });
  if (agent_shared.own_page_count.load(std::memory_order_acquire) == 0) return;
  each_attached([](int fd, Side* side) {
    if (IsForeign(side)) EndUnsharable(side, fd, Reason::kForkOnXen);
  });
}

void AgentAfterFork() { agent_shared.forking.fetch_sub(1, std::memory_order_seq_cst); }

void AgentDrain(int milliseconds) {
  if (agent_shared.started.load(std::memory_order_acquire) != 2) return;
  Naps naps(static_cast<uint64_t>(milliseconds) * kNsPerMs, kNsPerMs);
  for (;;) {
    const bool pending = AnySlot([](uint32_t slot) {
      const Side* side = SideAt(slot);
      return IsOurs(side) && side->in_use.load(std::memory_order_relaxed) != 0 &&
             SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
    });
    if (!pending) return;
    if (!naps.Take()) break;
  }
  // What a FIFO still holds when we end would be missing at a clean end of the stream.
  for (uint32_t slot = 0; slot < kMaxSides; ++slot) {
    if (IsOurs(SideAt(slot))) StopAsking(SideAt(slot));
  }
}

}  // namespace xenloop
