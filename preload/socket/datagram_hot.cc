// Is a UDP socket hot, and is anybody there to meet? Asked after each sixty-four datagrams that
// have gone by the kernel, and less and less often while there is nobody.
#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/libc/errno.h"
#include "preload/socket/datagram.h"

namespace xenloop {
namespace {

// The first few looks come at once, so that two that have just begun meet; then it is time that
// counts, and not what they send: a look costs some dozens of system calls.
constexpr uint32_t kEagerLooks = 4;
constexpr uint64_t kFirstPauseNs = 20 * kNsPerMs;

// When to look again.
uint64_t NextLook(const DatagramSide* side, std::atomic<uint32_t>& looks, uint64_t now) {
  const uint32_t n = looks.load(std::memory_order_relaxed) + 1;
  looks.store(n, std::memory_order_relaxed);
  if (n < kEagerLooks) return 0;
  constexpr uint32_t kMostDoublings = 6;
  const uint32_t late = n - kEagerLooks;
  // One that comes back to the kernel again and again costs more than a look.
  const uint64_t returns = side->fallbacks.load(std::memory_order_relaxed) / kEagerLooks;
  const uint64_t doublings = late + returns;
  return now + (kFirstPauseNs << (doublings < kMostDoublings ? doublings : kMostDoublings));
}

void Unwatch(DatagramSide* side, uint64_t next_look_ns) {
  side->watches.store(0, std::memory_order_relaxed);
  side->next_send_look_ns.store(next_look_ns, std::memory_order_relaxed);
}

// So many in a row to one destination.
void RunSent(DatagramSide* side) {
  const uint64_t now = sys::MonotonicNs();
  const bool hot = now - side->run_since_ns.load(std::memory_order_relaxed) < kNsPerSecond;
  side->run_since_ns.store(now, std::memory_order_relaxed);
  if (!hot) return;
  const uint64_t next = NextLook(side, side->send_looks, now);
  if (next != 0) Unwatch(side, next);
  ConsiderDatagrams(side, kWantsToSend);
}

}  // namespace

void WatchSends(DatagramSide* side) {
  side->run.store(0, std::memory_order_relaxed);
  side->send_looks.store(0, std::memory_order_relaxed);
  side->watches.store(1, std::memory_order_relaxed);
}

void LookAtSend(DatagramSide* side, const void* to, socklen_t to_length, bool many) {
  const KeepErrno keep_errno;
  if (side->pinned.load(std::memory_order_relaxed) != 0) return Unwatch(side, 0);
  if (side->watches.load(std::memory_order_relaxed) == 0) {
    const uint64_t now = sys::MonotonicNs();
    if (now < side->next_send_look_ns.load(std::memory_order_relaxed) ||
        side->kernel_sent.load(std::memory_order_relaxed) <
            side->quiet_until.load(std::memory_order_relaxed))
      return;
    side->run.store(0, std::memory_order_relaxed);
    side->run_since_ns.store(now, std::memory_order_relaxed);
    side->watches.store(1, std::memory_order_relaxed);
    return;
  }
  const UdpName destination = DestinationOfSent(side, to, to_length);
  if (destination.Known() && destination == side->destination.Load()) {
    const uint32_t run = side->run.load(std::memory_order_relaxed) + 1;
    side->run.store(run, std::memory_order_relaxed);
    if (run % kHotDatagrams == 0) return RunSent(side);
  } else if (side->connected.load(std::memory_order_relaxed) == 0 && destination.Known()) {
    side->destination.Store(destination);
    side->run.store(0, std::memory_order_relaxed);
  }
  // Who sends to many need not be watched all the time.
  if (many && side->run.load(std::memory_order_relaxed) < kHotDatagrams / 2)
    Unwatch(side, NextLook(side, side->send_looks, sys::MonotonicNs()));
}

void ManyDatagramsReceived(DatagramSide* side) {
  const KeepErrno keep_errno;
  const uint64_t now = sys::MonotonicNs();
  const bool hot = now - side->receives_since_ns.load(std::memory_order_relaxed) < kNsPerSecond;
  side->receives_since_ns.store(now, std::memory_order_relaxed);
  if (!hot || side->pinned.load(std::memory_order_relaxed) != 0 ||
      now < side->next_receive_look_ns.load(std::memory_order_relaxed))
    return;
  if (side->shares.load(std::memory_order_relaxed) != 0) {
    // What it has been told as a sender says more.
    const Reason told = side->reason.load(std::memory_order_relaxed);
    if (told == Reason::kNotHotYet || told == Reason::kNoPeer)
      side->reason.store(Reason::kPortShared, std::memory_order_relaxed);
    return;
  }
  side->next_receive_look_ns.store(NextLook(side, side->receive_looks, now),
                                   std::memory_order_relaxed);
  ConsiderDatagrams(side, kWantsToReceive);
}

}  // namespace xenloop
