// Connections for lives to come (side/parked.h), as the agent makes, watches and ends them.
#pragma once

#include "channel/base/time.h"
#include "preload/agent/agent_state.h"
#include "preload/side/parked.h"

namespace xenloop {

// ---- agent_park.cc ----

void ServiceParked();
uint64_t LookAtParked();
void ParkTalkGone(uint32_t index);
// Under both of the side's locks, while its FIFOs are still mapped.
void DetachPair(Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->send.lock, side->receive.lock);
// True: no program has it, nor will have: one of the ends has ended it, or died.
bool EndUnusedPair(Side* side);
// Once it is detached. True: no program has it, and it is closed.
bool CloseIdlePair(uint32_t slot);
// The hint by which a listener of that name is found.
Tuple ListenerHint(const Endpoint& name);
// Both ends of the connection are there: lives may begin.
bool AttachPair(ParkedPair* pair);
// Ends a pair that is only being made; its talk, its socket and its side with it.
void GiveUpPair(ParkedPair* pair);

// ---- agent_park_queue.cc ----

int OptionOf(int fd, int level, int name);
void ServiceQueues();
// The one to which the kernel would give a connection to that name, or nullptr.
ListenerQueue* QueueFor(const Endpoint& name);
bool MayBeAskedOf(const ListenerQueue& queue, const Tuple& tuple);
// Now and then, while there is a pair.
void LookAtQueues();

// ---- agent_park_talk.cc ----

// So long two agents may take to make a pair.
inline constexpr uint64_t kLongestMakingNs = 2 * kNsPerSecond;

void AskToPark(Destination* destination);
// One could not be made: for a while none is asked for.
void NotNow(Destination* to, Reason why);
void TellParkReady(ParkedPair* pair);
// Its descriptors are for something that we have.
bool WantsParkMessage(uint32_t talk, const ControlMessage& message);
// False: it breaks the protocol.
bool OnParkMessage(uint32_t talk, const ControlMessage& message, Ticket* ticket);

}  // namespace xenloop
