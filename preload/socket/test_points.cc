// See test_points.h.
#include "preload/socket/test_points.h"

#include <errno.h>

#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/side/holders.h"
#include "preload/side/log.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {

int RoutesOf(Side* side) {
  const uint32_t tid = CurrentTid();
  int routes = 0;
  {
    LockScope scope(side->send.lock, tid);
    const SendRoute route = side->send.route.load(std::memory_order_relaxed);
    const bool ready =
        route == SendRoute::kOffered && side->send.fifo.header->consumer_ready.load() != 0;
    if (route == SendRoute::kFifo || ready) routes |= 1;
  }
  const ReceiveRoute route = side->receive.route.load(std::memory_order_acquire);
  if (route == ReceiveRoute::kFifo || route == ReceiveRoute::kAware ||
      route == ReceiveRoute::kDraining)
    routes |= 2;
  return routes;
}

ssize_t UpgradeNow(int fd, Side* side) {
  constexpr uint64_t kLongestNs = 2 * kNsPerSecond;
  constexpr uint64_t kPatienceNs =
      700 * kNsPerMs;  // with what hardly ever changes: others hold it too
  const uint64_t start = sys::MonotonicNs();
  const uint64_t end = start + kLongestNs;
  uint64_t attached_since = 0;
  Naps naps(kLongestNs, 100 * kNsPerUs);
  side->forced.store(1, std::memory_order_relaxed);
  for (uint32_t turn = 0; RoutesOf(side) != 3; ++turn) {
    if (side->pinned.load(std::memory_order_relaxed) != 0 || sys::MonotonicNs() > end)
      return -ETIMEDOUT;
    tcp_info info;
    const bool open = TcpInfoOf(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished;
    const Reason reason = side->reason.load(std::memory_order_relaxed);
    if (!open || (sys::MonotonicNs() > start + kPatienceNs &&
                  (reason == Reason::kShared || reason == Reason::kStandardStream ||
                   reason == Reason::kPeerCannot))) {
      return -EOPNOTSUPP;
    }
    if (turn % 16 == 0) WantUpgrade(side);
    // A peer that sleeps in the kernel's recv is ready only after the next byte that comes by TCP:
    // no use in waiting.
    if (side->attached.load(std::memory_order_acquire) == 0) {
      attached_since = 0;
    } else if (attached_since == 0) {
      attached_since = sys::MonotonicNs();
    } else if (sys::MonotonicNs() - attached_since > 5 * kNsPerMs) {
      return 0;
    }
    if (!naps.Take()) return -ETIMEDOUT;
  }
  return 0;
}

int DatagramRoutes(DatagramSide* side) {
  const LockScope scope(side->send_lock, CurrentTid());
  const bool sends = side->sending.load(std::memory_order_acquire) != 0 &&
                     side->sender.route.load(std::memory_order_relaxed) == DatagramRoute::kFifo;
  return (sends ? 1 : 0) | (side->receiving.load(std::memory_order_acquire) != 0 ? 2 : 0);
}

ssize_t MeetNow(DatagramSide* side) {
  constexpr uint64_t kLongestNs = 2 * kNsPerSecond;
  const bool sends = side->connected.load(std::memory_order_relaxed) != 0;
  // One without a peer names where it sends to: that is asked for, and not waited for.
  if (!sends && side->destination.Load().Known()) WantDatagrams(side, kWantsToSend);
  Naps naps(kLongestNs, 100 * kNsPerUs);
  for (uint32_t turn = 0;; ++turn) {
    if (sends ? (DatagramRoutes(side) & 1) != 0
              : side->published.load(std::memory_order_acquire) != 0)
      return 0;
    if (side->pinned.load(std::memory_order_relaxed) != 0) return -EOPNOTSUPP;
    if (turn % 64 == 0)
      WantDatagrams(side, sends ? kWantsToSend | kWantsToReceive : kWantsToReceive);
    if (naps.Take()) continue;
    Log("UDP socket %d is not met: %s", side->fd.load(), ReasonText(side->reason.load()));
    return -ETIMEDOUT;
  }
}

}  // namespace xenloop
