// The lists behind epoll.h, for epoll.cc: who is registered where and who is converted. All of it
// is guarded by `registrations_lock`, and where it says so by the lock of the set as well.
#pragma once

#include "preload/ready/epoll.h"

namespace xenloop {

extern uint32_t in_doubt ABSL_GUARDED_BY(
    registrations_lock);  // index + 1 of what an epoll_ctl is changing, in the kernel and here

// A side's registrations in this process. Not part of Side: that is shared with forked processes,
// these are not.
struct SideRegistrations {
  uint32_t generation;
  uint32_t first;        // index + 1
  int32_t converted_by;  // the process whose agent has attached the side; 0: none. A forked child
                         // finds its parent here, whose doorbell does not ring for it
};

void* MapZeroed(size_t bytes);  // nullptr: no memory
int KernelControl(int epfd, int operation, int fd, uint32_t events, uint64_t data);

// The list of a side. What a former life of the slot has left (a close that we did not see) is
// dropped.
SideRegistrations& Of(const Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// New registrations of the side are to be converted as well.
bool ConvertsNewOnes(const Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
Registration* Find(EpollSet* set, int fd, const Side* side)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
Registration* NewRegistration()
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);  // nullptr: no room
uint32_t IndexOfRegistration(const Registration* registration);
// One that is in no list.
void Discard(Registration* registration) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void Remove(Registration* registration) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// Of this set, under its lock as well.
void RemoveLocked(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
void RemoveAllOf(const EpollSet* set, bool watches)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// Conversion, under both locks.
bool MayConvert(const EpollSet* set, const Registration* registration);
// Tells the kernel what the registration wants as a converted one.
int TellKernel(EpollSet* set, int operation, uint32_t index, const Registration* registration);
// False: it cannot be put into the set.
bool AddDoorbell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// The kernel's set has the registration as converted: so has ours.
void EnterConverted(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
void UnlinkConverted(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
void Restore(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// The same of any kind, though an edge may be told anew, or a hang-up to a one-shot that has fired.
void GiveBack(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// What is put into `set` is a set that we know.
int ControlSet(EpollSet* set, int operation, int fd, EpollSet* inner, epoll_event* event)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// Before something of `set` is converted, and without its lock: whoever watches it looks at FIFOs
// from now on. False: not so.
bool ConvertWatches(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
bool WatchesAreConverted(const EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
bool Convert(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
bool IsWatchedBy(const EpollSet* set, const EpollSet* other);
void Unwatch(const EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// The doorbell into a watched set, for a thread that sleeps in that set itself.
void LendDoorbell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// The list that the registration stands in: its side's, or that of the set which it watches.
uint32_t& ListOf(const Registration& registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// After a conversion. Who sleeps in this set, as one without FIFOs or as one with, must look at
// FIFOs now.
void WakeSleepersOf(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// The sets that there have ever been, in epoll.cc; nullptr behind the last.
EpollSet* EpollSetAt(uint32_t number);

}  // namespace xenloop
