// Upgrades that have to wait for another process to let go of the socket.

#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Often the other process is about to close its copy (a server that forks for each connection), and
// the program may be asleep in a call meanwhile: looked at again a few times, ever more seldom.
constexpr int kFirstRetryMs = 2;
constexpr int kLastRetryMs = 256;

void RetryIn(int milliseconds) {
  agent.retry.pause_ms = milliseconds;
  if (milliseconds > 0)
    agent.retry.at_ns = sys::MonotonicNs() + static_cast<uint64_t>(milliseconds) * 1000000u;
}

}  // namespace

void Postpone(uint32_t slot) {
  if ((agent_shared.postponed.words[slot / 64].load(std::memory_order_relaxed) &
       (1ull << (slot % 64))) != 0)
    return;
  agent_shared.postponed.Add(slot);
  agent_shared.newly_postponed.store(1, std::memory_order_release);
}

int RetryPostponed() {
  if (agent_shared.newly_postponed.exchange(0, std::memory_order_acquire) != 0)
    RetryIn(kFirstRetryMs);
  if (agent.retry.pause_ms < 0) return -1;
  const uint64_t now = sys::MonotonicNs();
  if (now < agent.retry.at_ns) return static_cast<int>((agent.retry.at_ns - now) / 1000000u) + 1;
  bool any = false;
  const bool last = agent.retry.pause_ms >= kLastRetryMs;
  for (uint32_t w = 0; w < kSideWords; ++w) {
    uint64_t bits = agent_shared.postponed.words[w].load(std::memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) {
      const uint32_t slot = w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits));
      Side* side = SideAt(slot);
      const bool here = FindSide(side->fd.load(std::memory_order_acquire)) == side;
      const bool theirs = !IsOurs(side) && side->attached.load(std::memory_order_acquire) != 0;
      if (here && !theirs) {
        side->owner_pid.store(process_state.pid, std::memory_order_release);
        ConsiderSide(slot);
      }
      const bool still = here && (theirs || side->reason.load() == Reason::kShared);
      if (last || !still) agent_shared.postponed.words[w].fetch_and(~(1ull << (slot % 64)));
      any = any || (still && !last);
    }
  }
  RetryIn(any ? agent.retry.pause_ms * 2 : -1);
  return agent.retry.pause_ms;
}

}  // namespace xenloop
