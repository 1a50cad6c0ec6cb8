// The end of the agent's thread while the program goes on: before what the kernel does to one
// thread only, or to a process of one thread only (process/sandbox.h).
#include <errno.h>

#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
#include "preload/ready/epoll.h"
#include "preload/ready/lent_bell.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/mailbox.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr int kMostTurns = 40;  // of 5 ms each: for what a peer still owes us by TCP
constexpr uint64_t kLongestEndNs = 10 * kNsPerSecond;

template <typename Visit>
void EachAttached(Visit visit) {
  EachSlot([&](uint32_t slot) {
    if (agent.sides[slot].stage == Stage::kAttached && IsOurs(SideAt(slot))) visit(slot);
  });
}

bool IsRunning(uint32_t tid) { return tid != 0 && sys::Call(SYS_tkill, tid, 0) != -ESRCH; }

}  // namespace

bool LetGoOfAll(Reason reason) {
  if (agent.ending_turns++ == 0) LeaveAllPeers(reason);
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

void EndAgent(Reason reason) {
  agent_shared.ending.store(reason, std::memory_order_seq_cst);
  Naps start(kLongestEndNs, 20 * kNsPerUs);
  while (agent_shared.started.load(std::memory_order_acquire) == 1 && start.Take()) {
  }
  AgentSettle();
  const uint32_t tid = agent_shared.tid.load(std::memory_order_acquire);
  Poke(process_state.pid);
  Naps naps(kLongestEndNs, 20 * kNsPerUs);
  while (IsRunning(tid)) {
    if (!naps.Take()) return;  // stopped by a debugger, say: what it uses stays
  }
  const int state = agent_shared.started.load(std::memory_order_acquire);
  if (state == 0) return;
  EpollWithoutAgent();
  PollForkedChild();
  const int poke = agent_shared.poke_fd.exchange(-1, std::memory_order_acq_rel);
  if (poke > 0) ClosePrivate(poke);
  DropAgent();
  agent_shared.doorbell = Doorbell{};  // its page stays: a thread may be counted there
  if (state != kAgentFailed) agent_shared.started.store(0, std::memory_order_release);
}

void MayStartAgent() { agent_shared.ending.store(Reason::kNone, std::memory_order_release); }

}  // namespace xenloop
