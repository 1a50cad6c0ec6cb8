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
// The array and its tags are there, or are made now. False: no memory.
bool HasRegistrations() ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
uint32_t IndexOfRegistration(const Registration* registration);
// One that is in no list.
void Discard(Registration* registration) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void Remove(Registration* registration) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// Of this set, under its lock as well.
void RemoveLocked(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// Calls `visit` with the side of each registration in the set; once for each number of it.
void EachRegisteredIn(const EpollSet* set, void (*visit)(Side* side))
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void RemoveAllOf(const EpollSet* set, bool watches)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// Conversion, under both locks.
bool MayConvert(const EpollSet* set, const Registration* registration);
// The number by which the kernel has it still means what it was. Else what is said to the kernel
// would be said of another.
bool IsOfItsNumber(const Registration& registration);
// What the kernel is asked for by a converted one.
uint32_t KernelMaskOf(const Registration& registration);
// Tells the kernel what the registration wants as a converted one.
int TellKernel(EpollSet* set, int operation, uint32_t index, Registration* registration);
// The kernel's set has the registration as converted: so has ours.
void EnterConverted(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
void UnlinkConverted(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// After a wait in the kernel: what it has told is the program's as it stands. Nothing is on a FIFO,
// nor has been since there were so many conversions, and no line of ours is among it.
bool IsAsTheProgramMade(const EpollSet* set, const epoll_event* events, int count,
                        uint32_t conversions);
void Restore(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// The same of any kind, and of one whose tag Restore has left, though an edge may be told anew, or
// a hang-up to a one-shot that has fired.
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
// The list that the registration stands in: its side's, or that of the set which it watches.
uint32_t& ListOf(const Registration& registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// What to report (epoll_evaluate.cc).
inline constexpr uint64_t kNothingReported = ~0ull;  // Registration::reported
inline constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
inline constexpr uint32_t kRead = EPOLLIN | EPOLLRDNORM;
inline constexpr uint32_t kWrite = EPOLLOUT | EPOLLWRNORM;
// For a converted registration (or a copy of the one at `index`), given what the kernel says. Under
// the set's lock.
uint32_t EvaluateOn(Registration* registration, uint32_t index, uint32_t from_kernel, Self self);
// Without locks, and without a look at the side: of many connections few have news. What is told of
// one that waits for bytes only comes by this word, bytes and seals, or from the kernel, which
// evaluates it anew.
bool IsQuiet(const Registration* registration);

// Bells (epoll_bells.cc).
// The doorbell, and a bell of its own, into a set; a watched one has neither. False: it cannot be.
bool AddDoorbell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void RemoveDoorbell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// The set is watched from now on.
void TakeDoorbellAway(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// By which bell of ours it wakes who waits for the side in poll or epoll.
uint32_t BellOf(const Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// After a change of that: tells the peer, through the FIFOs. Whoever may be asleep by another bell
// is to be woken after this.
void NameBell(Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void NameBells(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// After a conversion. Who sleeps in this set, as one without FIFOs or as one with, must look at
// FIFOs now.
void WakeSleepersOf(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// For what has come meanwhile, or does not fit one look: whoever else sleeps in the set.
void RingSleepersOf(const EpollSet* set);
// Nothing of the set may be converted beneath him.
bool SomebodySleepsWithoutBell(const EpollSet* set)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// Waiting in a set of another process (epoll_shared.cc). This process does; and another does, of
// the family.
void NoteShared(EpollSet* set);
bool IsShared(const EpollSet* set);
void SharedForkedChild();
// What follows of that for this process.
void BeforeWaitIn(EpollSet* set);

// A program may have the set from now on, which we start (epoll_inherited.cc).
// A number of it is closed. With the last nothing would keep from FIFOs what a started program
// may still wait for in it.
void InheritedSetCloses(EpollSet* set);
void BeginInheritance(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// Something that is to be converted now may not be, for as long as somebody else has the set.
bool IsOnlyInherited(const EpollSet* set);
void InheritanceForkedChild();

// The sets that there have ever been, in epoll.cc; nullptr behind the last. They stand in blocks,
// which come when they are needed and stay; their numbers have no holes.
inline constexpr uint32_t kSetsABlock = 1024;
inline constexpr uint32_t kMostSets = 1024 * kSetsABlock;
EpollSet* EpollSetAt(uint32_t number);

}  // namespace xenloop
