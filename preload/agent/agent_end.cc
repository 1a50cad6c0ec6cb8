// The end of the agent's thread while the program goes on: before what the kernel does to one
// thread only, or to a process of one thread only (process/sandbox.h).
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll.h"
#include "preload/ready/lent_bell.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/each_side.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr int kMostTurns = 40;  // of 5 ms each: for what a peer still owes us by TCP
constexpr uint64_t kLongestEndNs = 10 * kNsPerSecond;
// For what a closed connection still owes; a fork waits for it.
constexpr uint64_t kLongestRestNs = 50 * kNsPerMs;
constexpr uint64_t kNapNs = 20 * kNsPerUs;

template <typename Visit>
void EachAttached(Visit visit) {
  EachSlot([&](uint32_t slot) {
    if (agent.sides[slot].stage == Stage::kAttached && IsOurs(SideAt(slot))) visit(slot);
  });
}

bool IsRunning(uint32_t tid) { return tid != 0 && sys::Call(SYS_tkill, tid, 0) != -ESRCH; }

// The thread has gone: what it used goes, too.
void ClearAfterAgent(int state) {
  EpollWithoutAgent();
  PollForkedChild();
  const int poke = agent_shared.poke_fd.exchange(-1, std::memory_order_acq_rel);
  if (poke > 0) ClosePrivate(poke);
  DropAgent();
  CloseOwnBells();
  agent_shared.doorbell = Doorbell{};  // its page stays: a thread may be counted there
  if (state != kAgentFailed) agent_shared.started.store(0, std::memory_order_release);
}

// What is closed is let go of within moments; what anybody holds is not.
bool HoldsAttached() {
  bool any = false;
  EachDescriptor([&](int, const Side* side) {
    any = any || side->attached.load(std::memory_order_acquire) != 0;
  });
  return any || AnySlot([](uint32_t slot) {
           const Side* side = SideAt(slot);
           return side->attached.load(std::memory_order_acquire) != 0 && IsOurs(side) &&
                  side->holders.load(std::memory_order_acquire) != 0;
         });
}

}  // namespace

bool LetGoOfAll(Reason reason) {
  if (agent.ending_turns++ == 0) {
    LeaveAllPeers(reason);
    ReturnBorrowed(reason);
  }
  bool any = false;
  EachAttached([&](uint32_t slot) {
    ServiceSide(slot);
    any = any || agent.sides[slot].stage == Stage::kAttached;
  });
  if (any && agent.ending_turns < kMostTurns) return false;
  EachAttached(EndSide);
  agent.ending_turns = 0;
  return true;
}

bool ProgramHasOneThread() {
  const int state = agent_shared.started.load(std::memory_order_acquire);
  const nlink_t threads = state == 1 || state == 2 ? 2 : 1;
  struct stat tasks = {};
  // A directory's links count its subdirectories, here one a thread.
  return sys::Call(SYS_newfstatat, AT_FDCWD, sys::Word("/proc/self/task"), sys::Word(&tasks), 0) ==
             0 &&
         tasks.st_nlink == 2 + threads;
}

void EndAgent(Reason reason) {
  agent_shared.ending.store(reason, std::memory_order_seq_cst);
  Naps start(kLongestEndNs, kNapNs);
  while (agent_shared.started.load(std::memory_order_acquire) == 1 && start.Take()) {
  }
  AgentSettle();
  const uint32_t tid = agent_shared.tid.load(std::memory_order_acquire);
  Poke(process_state.pid);
  Naps naps(kLongestEndNs, kNapNs);
  while (IsRunning(tid)) {
    if (!naps.Take()) return;  // stopped by a debugger, say: what it uses stays
  }
  const int state = agent_shared.started.load(std::memory_order_acquire);
  if (state != 0) ClearAfterAgent(state);
}

namespace {

// What another thread changes last when it starts over.
bool HasGivenUpAsAnotherUser() {
  return process_state.ready &&
         agent_shared.started.load(std::memory_order_acquire) == kAgentFailed &&
         agent_shared.start_failure.load(std::memory_order_relaxed) == Reason::kUserChanged;
}

bool MayStartOver() {
  return HasGivenUpAsAnotherUser() && static_cast<uint32_t>(sys::Call(SYS_geteuid)) == agent.uid &&
         // The end of the thread waits for no reader.
         !AnySlot([](uint32_t slot) {
           const Side* side = SideAt(slot);
           return side->attached.load(std::memory_order_acquire) != 0 && IsOurs(side);
         });
}

void StartOver() {
  const uint32_t tid = agent_shared.tid.load(std::memory_order_acquire);
  EndAgent(Reason::kUserChanged);
  if (IsRunning(tid)) return;
  agent_shared.start_failure.store(Reason::kNone, std::memory_order_relaxed);
  agent_shared.ending.store(Reason::kNone, std::memory_order_release);
  agent_shared.started.store(0, std::memory_order_release);
}

}  // namespace

// Several threads may fork at once. One does it, and the others wait: what they would clear is
// another agent's by then, and a child is not to get what is half cleared.
void StartOverAsTheSameUser() {
  if (!HasGivenUpAsAnotherUser()) return;
  const sys::SignalsBlocked blocked;  // a jump would leave the others waiting
  const uint32_t self = CurrentTid();
  uint32_t holder = 0;
  Naps naps(kLongestEndNs, kNapNs);
  while (!agent_shared.starting_over.compare_exchange_weak(holder, self)) {
    // (Ourselves: in a handler that has interrupted it.)
    if (holder == self || !naps.Take()) return;
    holder = 0;
  }
  if (MayStartOver()) StartOver();
  agent_shared.starting_over.store(0, std::memory_order_release);
}

bool MayRest() {
  if (agent_shared.rest.load(std::memory_order_acquire) != Rest::kWanted) return false;
  bool any = HoldsIdlePairs();
  EachAttached([&](uint32_t) { any = true; });
  Rest wanted = Rest::kWanted;
  if (any || !agent_shared.rest.compare_exchange_strong(wanted, Rest::kGranted)) return false;
  LeaveAllPeers(Reason::kNone);
  return true;
}

void LetAgentRest() {
  // Who has been told to keep off must be there to be told the contrary.
  if (agent_shared.started.load(std::memory_order_acquire) != 2 ||
      agent_shared.refused_for_now.load(std::memory_order_acquire) != Switch::kOn ||
      HoldsAttached() || !ProgramHasOneThread()) {
    return;
  }
  AgentSettle();
  const uint32_t tid = agent_shared.tid.load(std::memory_order_acquire);
  if (tid == 0) return;
  agent_shared.rest.store(Rest::kWanted, std::memory_order_release);
  Naps patience(kLongestRestNs, kNapNs);
  Poke(process_state.pid);
  while (agent_shared.rest.load(std::memory_order_acquire) == Rest::kWanted && patience.Take()) {
  }
  const bool granted = agent_shared.rest.exchange(Rest::kNo) == Rest::kGranted;
  if (!granted) return;
  Naps naps(kLongestEndNs, kNapNs);
  while (IsRunning(tid)) {
    if (!naps.Take()) return;
  }
  ClearAfterAgent(2);
}

void MayStartAgent() {
  agent_shared.ending.store(Reason::kNone, std::memory_order_release);
  // Who has been told to keep off must be there to be told the contrary.
  const Switch told = agent_shared.refused_for_now.load(std::memory_order_acquire);
  if (told == Switch::kToldOff || told == Switch::kLeft) EnsureAgent();
}

}  // namespace xenloop
