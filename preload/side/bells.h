// Bells: lines into a process that wake some of its sleepers and not all, as the doorbell does. One
// for each epoll set that looks at FIFOs, one for each thread that sleeps in poll or select, and a
// common one for all of these. An end of a FIFO
// names in its header the bell of those who wait for it there, and its agent has handed that bell's
// descriptor to the peer's. Whatever of this cannot be had: the doorbell, which wakes all.
//
// A bell is the same line for as long as the process has an agent: a set that is closed gives it
// back, and the next one takes it, so what peers know of it stays true.
#pragma once

#include <cstdint>

#include "channel/transport.h"
#include "preload/side/side.h"

namespace xenloop {

// ---- ours ----

// By the agent, before it starts. `transport`: the doorbell's.
void MakeCommonBell(const Transport& transport);
// Any thread. A bell for a set, or for who sleeps in poll; kAnyBell: none is to be had.
enum class BellFor : uint8_t { kSet, kSleeper };
uint32_t LendOwnBell(BellFor whom);
void GiveBackOwnBell(uint32_t bell);
int OwnBellFd(uint32_t bell);                // -1: there is none of that number
DoorbellPage* LineOfOwnBell(uint32_t bell);  // nullptr: likewise
// Rings for those of our threads that have the bell; kAnyBell: for all.
void RingOwnBell(uint32_t bell);
void RingOwnBellAnyway(uint32_t bell);
// The agent has ended, and the doorbell with it. In a forked child the descriptors are the
// parent's, and closed already.
void CloseOwnBells();
void ForgetOwnBells();

// The peer of this side may not know that bell yet. (The common one is told with any other.)
bool NeedsTelling(const Side* side, uint32_t bell);
// Says in the headers of both FIFOs by which bell this end is woken. Under both streams' locks, or
// in a handler that has interrupted their holder.
void WriteBell(Side* side);
// Somebody goes to wait for the side in poll, who hears the common bell and that one, and is
// counted at both: before his last look at it. It names his if nobody else sleeps for it in poll
// now, else the common one.
void BellForPoll(Side* side, uint32_t bell, Self self);
// What its FIFOs say or are to say.
uint32_t BellsOf(const Side* side);
// The one of these that is named for poll; kAnyBell: none.
uint32_t PollBellOf(const Side* side);

// ---- the peers' ----

void RingPeerBell(uint32_t talk, uint32_t bell);
// For the agent. May this bell of the peer be taken? No more than `most` of one peer.
bool WantsPeerBell(uint32_t talk, uint32_t bell, uint32_t most);
// Takes a private descriptor. False: there is no memory.
bool AddPeerBell(uint32_t talk, uint32_t bell, int fd);
// No side uses the talk any more.
void DropPeerBells(uint32_t talk);
// In a forked child.
void ForgetPeerBells();

}  // namespace xenloop
