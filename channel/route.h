// What both streams share: who asks, who is inside the kernel on a direction's behalf, and the
// waking of everybody when a route ends.
#pragma once

#include <errno.h>
#include <sys/socket.h>

#include <atomic>

#include "channel/base/lock.h"
#include "channel/fifo.h"

namespace xenloop {

// Make the call on the shadow socket. The same number as kUseKernel (preload/socket/socket.h).
inline constexpr ssize_t kStreamUsesTcp = -100000;

struct Self {
  uint32_t tid;
  uint32_t cpu;  // + 1; 0 unknown
};

// After a seal: whoever waits at either end of the FIFO must look again. `peers_bell`: what the
// other end has named.
template <typename Shadow>
void WakeEverybody(const Fifo& fifo, const std::atomic<uint32_t>& peers_bell, Shadow& shadow) {
  WakeOwnSleepers(fifo, fifo.header->consumer_waiting);
  WakeOwnSleepers(fifo, fifo.header->producer_waiting);
  shadow.RingAll(/*certain=*/fifo.foreign, peers_bell.load(std::memory_order_seq_cst));
}

// Counts the threads that are inside the kernel on a direction's behalf, so that a route is never
// changed beneath them.
template <typename Route>
struct KernelUsers {
  std::atomic<uint32_t> count{0};

  template <typename Allowed>
  bool Enter(const std::atomic<Route>& route, Allowed allowed) {
    if (!allowed(route.load(std::memory_order_relaxed))) return false;
    count.fetch_add(1, std::memory_order_seq_cst);
    // seq_cst: our presence before our look at the route; pairs with "route, then count" of whoever
    // switches (Dekker).
    if (allowed(route.load(std::memory_order_seq_cst))) return true;
    count.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }
  void Leave() { count.fetch_sub(1, std::memory_order_seq_cst); }
  bool Any() const { return count.load(std::memory_order_seq_cst) != 0; }
};

}  // namespace xenloop
