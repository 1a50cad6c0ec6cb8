// See epoll_registrations.h: the registrations of sides in sets, and their end.
#include "preload/ready/epoll_registrations.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "preload/ready/epoll.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"

namespace xenloop {

RecoverableLock registrations_lock;
uint32_t in_doubt;

namespace {

SideRegistrations of_side[kMaxSides] ABSL_GUARDED_BY(registrations_lock);
Registration* registrations;
uint32_t used_registrations ABSL_GUARDED_BY(registrations_lock);
uint32_t first_free ABSL_GUARDED_BY(registrations_lock);  // index + 1
uint64_t tag_base;

}  // namespace

void* MapZeroed(size_t bytes) {
  const long memory = sys::Call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory < 0 && memory > -4096 ? nullptr : reinterpret_cast<void*>(memory);
}

int KernelControl(int epfd, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event;
  event.events = events;
  event.data.u64 = data;
  return static_cast<int>(
      sys::Call(SYS_epoll_ctl, epfd, operation, fd, reinterpret_cast<long>(&event)));
}

uint32_t IndexOfRegistration(const Registration* registration) {
  return static_cast<uint32_t>(registration - registrations);
}

namespace {
// A signal handler may jump out of this at any moment, most of all from the mmap: the array counts
// as made only when its tags are.
bool MakeRegistrations() {
  auto* const made =
      static_cast<Registration*>(MapZeroed(sizeof(Registration) * kMaxRegistrations));
  if (made == nullptr) return false;
  // From the random bytes that the kernel gives each program, some of which are libc's secrets.
  uint64_t random = reinterpret_cast<uintptr_t>(made);
  if (const auto* bytes = reinterpret_cast<const void*>(getauxval(AT_RANDOM))) {
    uint64_t seed[2];
    memcpy(seed, bytes, sizeof seed);
    random ^= seed[0] * 0x9e3779b97f4a7c15ull ^ seed[1] * 0xc2b2ae3d27d4eb4full;
  }
  tag_base = (random * 0xff51afd7ed558ccdull) & ~0xffffffull;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  registrations = made;
  return true;
}
}  // namespace

bool HasRegistrations() { return registrations != nullptr || MakeRegistrations(); }

Registration* NewRegistration() {
  if (!HasRegistrations()) return nullptr;
  uint32_t index;
  if (first_free != 0) {
    index = first_free - 1;
    first_free = registrations[index].next_free;
  } else if (used_registrations < kMaxRegistrations) {
    index = used_registrations++;
  } else {
    return nullptr;
  }
  registrations[index] = Registration{};
  registrations[index].in_use = true;
  return &registrations[index];
}

void Discard(Registration* registration) {
  registration->in_use = false;
  registration->next_free = first_free;
  first_free = IndexOfRegistration(registration) + 1;
}

SideRegistrations& Of(const Side* side) {
  SideRegistrations& list = of_side[SlotOf(side)];
  const uint32_t generation = side->generation.load(std::memory_order_relaxed);
  if (list.generation != generation) {
    while (list.first != 0) Remove(&registrations[list.first - 1]);
    list = SideRegistrations{generation, 0, 0};
  }
  return list;
}

bool ConvertsNewOnes(const Side* side) { return Of(side).converted_by == process_state.pid; }

Registration* Find(EpollSet* set, int fd, const Side* side) {
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    if (registration.set == set && registration.fd == fd) return &registration;
  }
  return nullptr;
}

void RemoveLocked(EpollSet* set, Registration* registration) {
  registration->in_use = false;  // first: it is this that Repair goes by
  if (registration->taken_out) ForgetTakenOut(set, registration);
  if (registration->converted) UnlinkConverted(set, registration);
  const uint32_t self = IndexOfRegistration(registration) + 1;
  uint32_t& first = ListOf(*registration);
  uint32_t link = first;
  if (link == self) {
    first = registration->next_of_side;
  } else {
    while (link != 0 && registrations[link - 1].next_of_side != self)
      link = registrations[link - 1].next_of_side;
    if (link != 0) registrations[link - 1].next_of_side = registration->next_of_side;
  }
  Discard(registration);
}
uint32_t& ListOf(const Registration& registration) {
  return registration.inner != nullptr ? registration.inner->first_watch
                                       : of_side[SlotOf(registration.side)].first;
}
void Remove(Registration* registration) {
  LockScope scope(registration->set->lock, CurrentTid());
  RemoveLocked(registration->set, registration);
}

void RemoveAllOf(const EpollSet* set, bool watches) {
  for (uint32_t i = 0; i < used_registrations; ++i) {
    Registration& registration = registrations[i];
    if (registration.in_use && registration.set == set && (watches || registration.side != nullptr))
      Remove(&registration);
  }
}

void EachRegisteredIn(const EpollSet* set, void (*visit)(Side* side)) {
  for (uint32_t i = 0; i < used_registrations; ++i) {
    const Registration& registration = registrations[i];
    if (registration.in_use && registration.set == set && registration.side != nullptr)
      visit(registration.side);
  }
}

Registration* RegistrationAt(uint32_t index) {
  return registrations != nullptr && index < kMaxRegistrations ? &registrations[index] : nullptr;
}
uint64_t TagOf(uint32_t index) { return tag_base | index; }
bool IsTag(uint64_t data, uint32_t* index) {
  if (tag_base == 0 || (data & ~0xffffffull) != tag_base) return false;
  *index = static_cast<uint32_t>(data & 0xffffff);
  return true;
}

bool PrepareRegistrations(Side* side) {
  RegistrationsScope scope(CurrentTid());
  bool all = true;
  Of(side).converted_by = process_state.pid;
  for (uint32_t link = Of(side).first; link != 0 && all;
       link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    if (registration.set->watched && !ConvertWatches(registration.set)) {
      all = false;
      break;
    }
    LockScope inner(registration.set->lock, CurrentTid());
    all = Convert(registration.set, &registration);
    WakeSleepersOf(registration.set);
    // seq_cst: after it counts as converted; pairs with poll, which counts itself and then looks.
    all = all && !SomebodySleepsWithoutBell(registration.set);
  }
  side->bell.store(BellOf(side), std::memory_order_relaxed);
  return all;
}

void RestoreRegistrations(Side* side) {
  RegistrationsScope scope(CurrentTid());
  Of(side).converted_by = 0;
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    LockScope inner(registration.set->lock, CurrentTid());
    Restore(registration.set, &registration);
  }
}

namespace {
// Without the lock, for the many sides that are in no set. What another thread registers while the
// socket is being closed may be missed; it is dropped in the slot's next life (Of).
bool SeemsUnregistered(const Side* side) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return __atomic_load_n(&of_side[SlotOf(side)].first, __ATOMIC_RELAXED) == 0;
}
}  // namespace

void EpollForgets(Side* side) {
  if (SeemsUnregistered(side)) return;
  RegistrationsScope scope(CurrentTid());
  while (const uint32_t link = Of(side).first) Remove(&registrations[link - 1]);
}

bool EpollKnowsBy(const Side* side, int fd) {
  if (SeemsUnregistered(side)) return false;
  const RegistrationsScope scope(CurrentTid());
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    const Registration& registration = registrations[link - 1];
    if (registration.fd == fd && registration.set->owner_pid == process_state.pid) return true;
  }
  return false;
}

void EpollLosesNumber(Side* side, int fd) {
  if (SeemsUnregistered(side)) return;
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  if (scope.result() == LockResult::kReentered) return;
  if (fd == kAnyNumber) Of(side).converted_by = 0;
  for (uint32_t link = Of(side).first; link != 0;) {
    Registration& registration = registrations[link - 1];
    link = registration.next_of_side;
    EpollSet* const set = registration.set;
    if ((fd != kAnyNumber && registration.fd != fd) || set->owner_pid != process_state.pid)
      continue;
    const LockScope inner(set->lock, tid);
    // A number that means something else by now is left alone.
    if (FdTable::FindSide(registration.fd) == side) {
      if (registration.disabled) {  // nobody will arm it again
        KernelControl(set->epfd, EPOLL_CTL_DEL, registration.fd, 0, 0);
      } else {
        GiveBack(set, &registration);
      }
    }
    RemoveLocked(set, &registration);
  }
}

namespace {
// Enough is unread for the mark that has been set: the kernel wakes the sets for it once more.
bool ReachesItsMark(Side* side, uint32_t tid) {
  const uint64_t mark = side->receive_low_water.load(std::memory_order_relaxed);
  const LockScope scope(side->receive.lock, tid);
  return scope.result() == LockResult::kReentered ||
         side->receive.ReadableBytes(0) >= (mark > 1 ? mark : 1);
}
}  // namespace

void EpollTellsAnew(Side* side) {
  if (SeemsUnregistered(side)) return;
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  if (scope.result() == LockResult::kReentered) return;
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    const LockScope inner(registration.set->lock, tid);
    if (inner.result() == LockResult::kReentered || !registration.converted) continue;
    registration.quiet_word = nullptr;
    if (!ReachesItsMark(side, tid)) continue;
    registration.reported = kNothingReported;
    RingSleepersOf(registration.set);
  }
}

namespace {
// Gives up what an epoll_ctl has left half done, and makes all lists anew from what the
// registrations say. Returns the side that is not followed in its set any more, if there is one.
Side* Repair() ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  Side* given_up = nullptr;
  TakeOutForGood();
  if (in_doubt != 0) {
    Registration& half = registrations[in_doubt - 1];
    in_doubt = 0;
    if (half.in_use && half.set != nullptr) {
      // Plain, if the kernel has it at all.
      half.in_use = IsOfItsNumber(half) && KernelControl(half.set->epfd, EPOLL_CTL_MOD, half.fd,
                                                         half.events, half.data) == 0;
      half.converted = false;
      half.disabled = false;
      half.taken_out = false;
      if (half.in_use && half.side != nullptr && ConvertsNewOnes(half.side)) given_up = half.side;
    }
  }
  first_free = 0;
  for (uint32_t i = 0; i < used_registrations; ++i) {
    Registration& registration = registrations[i];
    if (registration.side != nullptr || registration.inner != nullptr) ListOf(registration) = 0;
    if (registration.in_use && registration.set != nullptr) continue;
    registration.in_use = false;
    registration.next_free = first_free;
    first_free = i + 1;
  }
  for (uint32_t i = 0; i < used_registrations; ++i) {
    Registration& registration = registrations[i];
    if (!registration.in_use) continue;
    uint32_t& first = ListOf(registration);
    registration.next_of_side = first;
    first = i + 1;
  }
  for (uint32_t s = 0; EpollSet* const set = EpollSetAt(s); ++s) {
    if (!set->in_use) continue;
    LockScope scope(set->lock, CurrentTid());
    uint32_t count = 0;
    set->first_converted = 0;
    set->next_look = 0;
    for (uint32_t i = 0; i < used_registrations; ++i) {
      Registration& registration = registrations[i];
      if (!registration.in_use || registration.set != set || !registration.converted) continue;
      registration.previous_in_set = 0;
      registration.next_in_set = set->first_converted;
      if (set->first_converted != 0)
        registrations[set->first_converted - 1].previous_in_set = i + 1;
      set->first_converted = i + 1;
      ++count;
    }
    set->converted.store(count, std::memory_order_seq_cst);
    set->conversions.fetch_add(1, std::memory_order_relaxed);
    if (count > 0) {
      AddDoorbell(set);
      NameBells(set);
      WakeSleepersOf(set);
    }
  }
  return given_up;
}
}  // namespace

bool IsRegistrationsLock(const RecoverableLock* lock) { return lock == &registrations_lock; }

void RepairRegistrations() {
  Side* given_up;
  {
    sys::SignalsBlocked blocked;
    LockScope scope(registrations_lock, CurrentTid());
    given_up = Repair();
    if (given_up != nullptr) given_up->pinned.store(1, std::memory_order_relaxed);
  }
  if (given_up != nullptr) {
    given_up->reason.store(Reason::kEpollUnfinished, std::memory_order_relaxed);
    FallBack(given_up->fd.load(std::memory_order_acquire), given_up, Reason::kEpollUnfinished);
  }
}

}  // namespace xenloop
