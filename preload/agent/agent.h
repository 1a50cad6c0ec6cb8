// The agent: one thread of a process that has upgradeable sockets. It publishes them, finds the
// peers' agents, carries offers and joins, answers fallbacks while the program is busy elsewhere,
// and answers `xenloop stat`. Started on first need with all signals blocked; a process without hot
// sockets has none. This header is what the rest of preload/ may ask of it; agent.cc is its loop,
// agent_talk.cc the talk with other agents, agent_stream.cc what is done to a side.
#pragma once

#include <cstdint>

#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {

// A side's count of operations has reached `next_attempt`: sets the next one, and may ask for an
// upgrade. A connection that lives for a few operations only never costs more than that count.
void ConsiderUpgrade(Side* side);
// What the parent's agent has attached and lets us use (side/borrowed.h): false, it does not.
bool BorrowFromParent(Side* side);
// Asks for an upgrade of this side, soon. Starts the agent if need be. Cheap when repeated.
void WantUpgrade(Side* side);
// A UDP socket asks for a FIFO (kWantsToSend), or lets itself be found (kWantsToReceive). Starts
// the agent if need be.
void WantDatagrams(DatagramSide* side, uint32_t wants);
// One of them is hot: the same if there is somebody to meet. No agent is started before: a second
// thread costs each system call of the program.
void ConsiderDatagrams(DatagramSide* side, uint32_t wants);
// Connections are wanted that can be parked, or a listener is to be found for that (side/parked.h).
void WantParked();
// Before a fork that libc does not see: the child has libc's record of our thread, and setuid() and
// its like would wait there for a thread that is still being made.
void AgentSettle();
// Before a fork, in the parent: what leads to another guest goes back to TCP, since a child cannot
// reach that memory; and stays there until AfterFork.
void AgentBeforeFork();
void AgentAfterFork();
// Ends the agent's thread: when this returns it is gone from the kernel's list, nothing is shared
// with anybody, and no descriptor of it is left. It is not started again before MayStartAgent.
void EndAgent(Reason reason);
// But for the agent's thread. False also where /proc does not tell.
bool ProgramHasOneThread();
void MayStartAgent();
// Before a fork of a program that has no thread but the calling one: ends the agent's thread if
// nothing is attached, so that the program is seen with the one thread that it has made. It starts
// again at the next connection that is hot.
void LetAgentRest();
// Before a fork as well. The program was another user for a moment, for which the agent has given
// up, and is itself again, as sshd after it has read a user's keys: there may be an agent.
void StartOverAsTheSameUser();
// fork: the child drops the parent's agent; it starts its own when it first needs one.
void AgentForkedChild(int32_t parent);
// Before the process ends or execs: finishes flushes that are under way, for at most
// `milliseconds`. A connection that could not be settled by then is reset.
void AgentDrain(int milliseconds);
// The program wants this very number: moves a private descriptor of ours out of the way.
void AgentMovePrivate(int fd);

}  // namespace xenloop
