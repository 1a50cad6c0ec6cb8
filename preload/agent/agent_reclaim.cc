// Gives the memory of idle FIFOs back to the system. A FIFO's pages become resident as its indices
// pass over them; one that has been quiet and empty between two looks keeps none of them.
#include "preload/agent/agent_tasks.h"
#include "preload/side/each_side.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kFirstLookNs = 2 * kNsPerSecond;
constexpr uint64_t kLongestNs = 60 * kNsPerSecond;
constexpr uint64_t kWorthBytes = 32768;  // less than this stays where it is

}  // namespace

void ReclaimLater() { agent.timers.StartWithin(Timer::kIdleMemory, AgentNs(), kFirstLookNs); }

uint64_t ReclaimIdleMemory(uint64_t pause_ns) {
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
  if (!any) return kNotAgain;
  if (busy) return kFirstLookNs;
  return pause_ns < kLongestNs / 2 ? pause_ns * 2 : kLongestNs;
}

}  // namespace xenloop
