// The doorbell of this process and those of its peers, for every thread: ringing, and being counted
// as one that sleeps and is to be rung for.
#pragma once

#include <cstdint>

#include "preload/side/side.h"

namespace xenloop {

// Rings the doorbell of the process at the other end of a side's channel. `certain`: somebody
// sleeps there.
void RingPeerOf(const Side* side, bool certain);

// The doorbell of this process; fd -1 while there is none.
int OwnDoorbellFd();
void RingOwnDoorbell();
void RingOwnDoorbellAnyway();  // for sleepers that have not counted themselves
// Whether any peer has been in another guest, which has processors of its own.
bool MeetsGuests();
// Before the last look at the FIFOs; what it returns is for RemoveSleeper.
uint32_t AddSleeper();
void RemoveSleeper(uint32_t counted);

}  // namespace xenloop
