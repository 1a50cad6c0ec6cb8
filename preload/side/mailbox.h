// How any thread gets the agent's attention: a bit in the arena for the side, and a poke that ends
// the agent's wait.
#pragma once

#include <cstdint>

#include "preload/side/side.h"

namespace xenloop {

// Wakes the agent of that process: ours, or that of one we were forked from.
void Poke(int32_t owner_pid);

// Something of this side was sealed, or its flush is not finished: the agent tells the peer and
// does the rest.
void RequestService(Side* side);

// The sender has found its FIFO full and goes to wait, or away: the agent looks whether the reader
// moves (agent/agent_watch.cc). Asked for after the look that found no room.
void RequestWatch(Side* side);

// Bytes have gone into the FIFO of a side of ours, or of our parent's: its agent looks some time
// later whether they have been taken (agent/agent_unread.cc). After the publication.
void AwaitReading(Side* side);

// A side with FIFO memory is closed for good: the agent releases the memory, then the slot.
// `lingering_fd`: a duplicate that still owes a residue and is then closed (shut down first), or
// -1. kWhenItWakes: it is not woken for that, since something else will.
enum class Release : uint8_t { kNow, kWhenItWakes };
void AgentRelease(Side* side, int lingering_fd, Release when = Release::kNow);

}  // namespace xenloop
