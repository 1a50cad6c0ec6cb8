// The agent: one thread of a process that has upgradeable sockets. It publishes them, finds the
// peers' agents, carries offers and joins, answers fallbacks while the program is busy elsewhere,
// and answers `xenloop stat`. Started on first need with all signals blocked; a process without hot
// sockets has none. This header is what the rest of preload/ may ask of it; agent.cc is its loop,
// agent_channel.cc the talk with other agents, agent_stream.cc what is done to a side.
#pragma once

#include <cstdint>

#include "preload/side.h"

namespace xenloop {

inline constexpr const char* kSharedByProcesses = "shared with another process";

// Asks for an upgrade of this side, soon. Starts the agent if need be. Cheap when repeated.
void WantUpgrade(Side* side);
// Something of this side was sealed, or its flush is not finished: the agent tells the peer and
// does the rest.
void RequestService(Side* side);

// Ends the FIFOs of a side at once, from any thread: seals, sends the residue as far as TCP takes
// it, leaves the rest to the agent. `reason` is a literal. Harmless on a side that is on TCP.
void FallBack(int fd, Side* side, const char* reason);

// True if this process's agent looks after the side (not one inherited over fork and still run by
// the parent).
bool IsOurs(const Side* side);

// The doorbell of this process; fd -1 while there is none.
int OwnDoorbellFd();
void RingOwnDoorbell();
void RingOwnDoorbellAnyway();  // for sleepers that have not counted themselves
// Whether any peer has been in another guest, which has processors of its own.
bool MeetsGuests();
// Before the last look at the FIFOs; what it returns is for RemoveSleeper.
uint32_t AddSleeper();
void RemoveSleeper(uint32_t counted);

// Before a fork that libc does not see: the child has libc's record of our thread, and setuid() and
// its like would wait there for a thread that is still being made.
void AgentSettle();
// Before a fork, in the parent: what leads to another guest goes back to TCP, since a child cannot
// reach that memory; and stays there until AfterFork.
void AgentBeforeFork();
void AgentAfterFork();
// fork: the child drops the parent's agent; it starts its own when it first needs one.
void AgentForkedChild();
// Before the process ends or execs: finishes flushes that are under way, for at most
// `milliseconds`. A connection that could not be settled by then is reset.
void AgentDrain(int milliseconds);
// Nobody has said (yet) where the residue of this side begins, and it cannot wait: a reset.
void StopAsking(Side* side);
// A side with FIFO memory is closed for good: the agent releases the memory, then the slot.
// `lingering_fd`: a duplicate that still owes a residue and is then closed (shut down first), or
// -1.
void AgentRelease(Side* side, int lingering_fd);
// The program wants this very number: moves a private descriptor of ours out of the way.
void AgentMovePrivate(int fd);

}  // namespace xenloop
