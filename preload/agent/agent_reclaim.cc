// Gives the memory of idle FIFOs back to the system. A FIFO's pages become resident as its indices
// pass over them; one that has been quiet and empty between two looks keeps none of them.
#include "preload/agent/agent_state.h"
#include "preload/side/each_side.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr int kFirstLookMs = 2000;
constexpr int kLongestMs = 60000;
constexpr uint64_t kWorthBytes = 32768;  // less than this stays where it is

}  // namespace

void ReclaimLater() {
  agent.reclaim.pause_ms = kFirstLookMs;
  agent.reclaim.at_ns = sys::MonotonicNs() + static_cast<uint64_t>(kFirstLookMs) * 1000000u;
}

int ReclaimIdleMemory() {
  const uint64_t now = sys::MonotonicNs();
  if (agent.reclaim.pause_ms < 0) return -1;
  if (now < agent.reclaim.at_ns)
    return static_cast<int>((agent.reclaim.at_ns - now) / 1000000u) + 1;
  bool any = false;
  bool busy = false;
  EachSlot([&](uint32_t slot) {
    AgentSide& note = agent.sides[slot];
    if (note.stage != Stage::kAttached || !note.mine.fifo) return;
    any = true;
    const uint64_t index = IndexOf(note.mine.fifo.header->producer.load(std::memory_order_relaxed));
    if (index != note.seen_index) {
      busy = true;
      note.discarded = note.discarded && index < kWorthBytes;
      note.seen_index = index;
      return;
    }
    if (note.discarded) return;
    // Quiet since the last look. Under the send lock nothing is produced, and an empty FIFO has no
    // reader in its data.
    Side* side = SideAt(slot);
    LockScope scope(side->send.lock, CurrentTid());
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
        note.mine.fifo.AvailableBytes() != 0) {
      return;
    }
    if (note.mine.transport != nullptr) note.mine.transport->discard_data(note.mine);
    note.discarded = true;
  });
  agent.reclaim.pause_ms = !any                                      ? -1
                           : busy                                    ? kFirstLookMs
                           : agent.reclaim.pause_ms < kLongestMs / 2 ? agent.reclaim.pause_ms * 2
                                                                     : kLongestMs;
  agent.reclaim.at_ns = now + static_cast<uint64_t>(any ? agent.reclaim.pause_ms : 0) * 1000000u;
  return agent.reclaim.pause_ms;
}

}  // namespace xenloop
