// See mailbox.h.
#include "preload/side/mailbox.h"

#include "preload/side/agent_shared.h"
#include "preload/side/self.h"

namespace xenloop {

void Poke(int32_t owner_pid) {
  const uint64_t one = 1;
  int fd = 0;
  if (owner_pid == process_state.pid) fd = agent_shared.poke_fd.load(std::memory_order_acquire);
  for (const auto& ancestor : agent_shared.ancestors) {
    if (fd == 0 && ancestor.pid.load(std::memory_order_acquire) == owner_pid)
      fd = ancestor.poke_fd.load(std::memory_order_acquire);
  }
  if (fd > 0) sys::Write(fd, &one, sizeof one);
}

void RequestService(Side* side) {
  Arena()->service.Add(SlotOf(side));
  Poke(side->owner_pid.load(std::memory_order_acquire));
}

void RequestWatch(Side* side) {
  if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo) return;
  const uint32_t slot = SlotOf(side);
  // seq_cst: behind the look that found no room. The agent takes the bit away before it looks
  // itself: either it sees the full FIFO, or we find the bit gone.
  if (Arena()->watched.Contains(slot)) return;
  Arena()->watched.Add(slot);
  Poke(side->owner_pid.load(std::memory_order_acquire));
}

void AwaitReading(Side* side) {
  const uint32_t slot = SlotOf(side);
  // seq_cst, all of it: behind the publication. The agent takes flag and bit away before it looks.
  if (Arena()->unread.Contains(slot)) return;
  Arena()->unread.Add(slot);
  if (!IsOurs(side)) return Poke(side->owner_pid.load(std::memory_order_acquire));
  if (agent_shared.unread.load(std::memory_order_seq_cst) == 0 &&
      agent_shared.unread.exchange(1, std::memory_order_seq_cst) == 0)
    Poke(process_state.pid);
}

void AgentRelease(Side* side, int lingering_fd, Release when) {
  if (lingering_fd >= 0) side->lingering_fd.store(lingering_fd, std::memory_order_release);
  side->holders.store(0, std::memory_order_release);
  // What is needed of it, before the agent may free it.
  const uint32_t slot = SlotOf(side);
  const int32_t owner_pid = side->owner_pid.load(std::memory_order_acquire);
  side->references.store(0, std::memory_order_release);
  Arena()->service.Add(slot);
  if (when == Release::kNow) Poke(owner_pid);
}

}  // namespace xenloop
