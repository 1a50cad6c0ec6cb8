// The doorbell of this process and those of its peers, for every thread: ringing, and being counted
// as one that sleeps and is to be rung for.
#pragma once

#include <cstdint>

#include "channel/transport.h"
#include "preload/side/side.h"

namespace xenloop {

// Wakes who waits in the process at the other end of a side's channel, by the bell that it has
// named in the FIFO. `certain`: somebody sleeps there.
void RingPeerOf(const Side* side, bool certain, uint32_t bell);

// The doorbell of this process; fd -1 while there is none.
int OwnDoorbellFd();
void RingOwnDoorbell();
void RingOwnOf(const Side* side);  // for those of us who wait for this side
void RingOwnDoorbellAnyway();      // for sleepers that have not counted themselves
// Whether any peer has been in another guest, which has processors of its own.
bool MeetsGuests();
// Where a sleeper has been counted: another thread may start the agent meanwhile, or a fork end the
// parent's, and a count is to be taken back where it was made.
struct SleeperPages {
  int32_t pid = 0;
  DoorbellPage* own = nullptr;
  DoorbellPage* of_bell = nullptr;
  DoorbellPage* of_second = nullptr;
  DoorbellPage* parents = nullptr;  // whose FIFOs we use (borrowed.h)
  uint32_t guests = 0;
};
// Before the last look at the FIFOs; what it returns is for RemoveSleeper, which comes before the
// next look at them. `bell`, `second`: of ours, by which this thread can be woken besides.
SleeperPages AddSleeper(uint32_t bell, uint32_t second = kAnyBell);
void RemoveSleeper(const SleeperPages& counted);
// Before a look at the FIFOs by one who has taken the doorbell's event out of a set and has not
// been asleep there: others who are may not see it any more, and are to be rung for what comes now.
// True: somebody
// sleeps who has that bell.
bool TookDoorbell(uint32_t bell);

}  // namespace xenloop
