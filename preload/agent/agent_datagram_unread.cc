// Datagrams that stay in FIFOs although the program waits for them: by calls that pass through no
// symbol of ours. What a socket's FIFOs hold, and nobody has taken for some time while a thread
// sleeps in such a call, goes back to the kernel, where every call finds it. A program that is only
// slow keeps its FIFOs: of several senders each sends its own again, in no order among them; what a
// peek has shown could come behind a stranger's; and of a sender that is stopped nothing would
// come.
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/datagram_side.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kBetweenLooksNs = 400 * kNsPerMs;

// Something is there, and what has been taken is as it was at the last look.
bool LiesUnread(DatagramSide* side) {
  uint64_t published;
  const uint64_t taken = side->fifo_received.load(std::memory_order_relaxed) +
                         side->kernel_received.load(std::memory_order_relaxed);
  const bool readable = DatagramReadable(side, &published);
  const bool again = readable && side->unread_at == taken + 1;
  side->unread_at = readable ? taken + 1 : 0;
  return again;
}

// (The second look: while the threads were looked at, one may have come and taken all.)
bool IsToBeHandedBack(DatagramSide* side) {
  return LiesUnread(side) && WaitsUnseen(side) && LiesUnread(side);
}

// What a sender has left in its FIFO for us stays there: it would come behind what is newer.
void HandBack(DatagramSide* side) {
  {
    const LockScope scope(side->receive_lock, CurrentTid());
    if (side->receiving.load(std::memory_order_relaxed) == 0) return;
    side->receiver.queue.Return(/*whatever_order=*/false);
    ReapSources(side);
  }
  side->published.store(0, std::memory_order_release);
  side->unread_at = 0;
  CountDatagramEnd(side, Reason::kWaitsUnseen);
  AskAgent(side, kWantsService);
}

}  // namespace

uint64_t LookForUnreadDatagrams() {
  bool any = false;
  EachDatagramSide([&any](DatagramSide* side) {
    if (side->receiving.load(std::memory_order_acquire) == 0) return;
    if (IsToBeHandedBack(side)) HandBack(side);
    any = true;
  });
  return any ? kBetweenLooksNs : kNotAgain;
}

void StartUnreadDatagramLooks() {
  agent.timers.StartWithin(Timer::kUnread, AgentNs(), kBetweenLooksNs);
}

}  // namespace xenloop
