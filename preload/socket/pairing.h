// What data calls on TCP contribute to the proof that the peer's socket is the other end of ours
// (channel/pairing.h). Nothing but a look at a flag unless such a proof is being made.
#pragma once

#include "preload/side/side.h"

namespace xenloop {

void FeedPairing(int fd, Side* side, bool received);

// After a receive, or send, of the kernel's that moved bytes.
inline void PairingReceived(int fd, Side* side) {
  if (side->pairing.running.load(std::memory_order_relaxed) != 0)
    FeedPairing(fd, side, /*received=*/true);
}
inline void PairingSent(Side* side) {
  if (side->pairing.running.load(std::memory_order_relaxed) != 0)
    FeedPairing(side->fd.load(std::memory_order_relaxed), side, /*received=*/false);
}

}  // namespace xenloop
