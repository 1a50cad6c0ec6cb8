// Upgrades that have to wait for another process to let go of the socket.

#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Often the other process is about to close its copy (a server that forks for each connection), and
// the program may be asleep in a call meanwhile: looked at again a few times, ever more seldom.
constexpr uint64_t kFirstRetryNs = 2 * kNsPerMs;
constexpr uint64_t kLastRetryNs = 256 * kNsPerMs;

}  // namespace

void Postpone(uint32_t slot) {
  if (agent_shared.postponed.Contains(slot)) return;
  agent_shared.postponed.Add(slot);
  agent_shared.newly_postponed.store(1, std::memory_order_release);
}

void RetryLater() {
  if (agent_shared.newly_postponed.exchange(0, std::memory_order_acquire) == 0) return;
  // All begin again with the first pause, which is short.
  agent.timers.Stop(Timer::kPostponed);
  agent.timers.StartWithin(Timer::kPostponed, AgentNs(), kFirstRetryNs);
}

uint64_t RetryPostponed(uint64_t pause_ns) {
  bool any = false;
  const bool last = pause_ns >= kLastRetryNs;
  EachSlotIn(agent_shared.postponed.words, [&](uint32_t slot) {
    Side* side = SideAt(slot);
    const bool here = FindSide(side->fd.load(std::memory_order_acquire)) == side;
    const bool theirs = !IsOurs(side) && side->attached.load(std::memory_order_acquire) != 0;
    if (here && !theirs) {
      side->owner_pid.store(process_state.pid, std::memory_order_release);
      ConsiderSide(slot);
    }
    const bool still = here && (theirs || side->reason.load() == Reason::kShared);
    if (last || !still) agent_shared.postponed.Remove(slot);
    any = any || (still && !last);
  });
  return any ? pause_ns * 2 : kNotAgain;
}

}  // namespace xenloop
