// See epoll.h: registrations, their conversion and their end. Waiting is in epoll_wait.cc.
#include "preload/epoll.h"

#include <errno.h>
#include <sys/mman.h>

#include "preload/agent.h"
#include "preload/fd_table.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/socket.h"

namespace xenloop {
namespace {

// The program's flags that we do not hand on: the shadow socket is always writable, and one-shot is
// counted here.
constexpr uint32_t kKeptFromKernel =
    EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLONESHOT | EPOLLWAKEUP;

RecoverableLock registrations_lock;
uint32_t in_doubt;  // index + 1 of what an epoll_ctl is changing, in the kernel and here

// A side's registrations in this process. Not part of Side: that is shared with forked processes,
// these are not.
struct SideRegistrations {
  uint32_t generation;
  uint32_t first;  // index + 1
  bool converted;  // new ones are to be converted as well
};
SideRegistrations of_side[kMaxSides];

Registration* registrations;
EpollSet* sets;
uint32_t used_registrations;
uint32_t first_free;  // index + 1
uint64_t tag_base;

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

// Under registrations_lock. nullptr: no room.
Registration* NewRegistration() {
  if (registrations == nullptr) {
    registrations = static_cast<Registration*>(MapZeroed(sizeof(Registration) * kMaxRegistrations));
    if (registrations == nullptr) return nullptr;
    uint64_t random = 0;
    sys::Call(SYS_getrandom, reinterpret_cast<long>(&random), sizeof random, 0);
    tag_base = random & ~0xffffffull;
  }
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

void Remove(Registration* registration);

// Under registrations_lock. What a former life of the slot has left (a close that we did not see)
// is dropped.
SideRegistrations& Of(const Side* side) {
  SideRegistrations& list = of_side[SlotOf(side)];
  const uint32_t generation = side->generation.load(std::memory_order_relaxed);
  if (list.generation != generation) {
    while (list.first != 0) Remove(&registrations[list.first - 1]);
    list = SideRegistrations{generation, 0, false};
  }
  return list;
}

Registration* Find(EpollSet* set, int fd, const Side* side) {
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    if (registration.set == set && registration.fd == fd) return &registration;
  }
  return nullptr;
}

void LinkConverted(EpollSet* set, Registration* registration) {
  const uint32_t self = IndexOfRegistration(registration) + 1;
  registration->previous_in_set = 0;
  registration->next_in_set = set->first_converted;
  if (set->first_converted != 0) registrations[set->first_converted - 1].previous_in_set = self;
  set->first_converted = self;
  set->converted.fetch_add(1, std::memory_order_seq_cst);
  set->conversions.fetch_add(1, std::memory_order_relaxed);
}
void UnlinkConverted(EpollSet* set, Registration* registration) {
  if (set->next_look == IndexOfRegistration(registration) + 1)
    set->next_look = registration->next_in_set;
  if (registration->previous_in_set != 0) {
    registrations[registration->previous_in_set - 1].next_in_set = registration->next_in_set;
  } else {
    set->first_converted = registration->next_in_set;
  }
  if (registration->next_in_set != 0) {
    registrations[registration->next_in_set - 1].previous_in_set = registration->previous_in_set;
  }
  set->converted.fetch_sub(1, std::memory_order_relaxed);
}

void AddDoorbell(EpollSet* set) {
  const int bell = OwnDoorbellFd();
  if (bell < 0) return;
  if (!set->has_doorbell) {
    set->has_doorbell = KernelControl(set->epfd, EPOLL_CTL_ADD, bell, EPOLLIN | EPOLLET,
                                      TagOf(kDoorbellIndex)) == 0;
  }
}

// After a conversion, under both locks. Who sleeps in this set, as one without FIFOs or as one
// with, must look at FIFOs now.
void WakeSleepersOf(EpollSet* set) {
  // seq_cst: pairs with the sleeper, who counts itself and then looks at `converted` (Dekker).
  if (set->plain_sleepers.load(std::memory_order_seq_cst) == 0) return RingOwnDoorbell();
  RingOwnDoorbellAnyway();
}

bool MayConvert(const EpollSet* set, const Registration* registration) {
  return (registration->events & EPOLLEXCLUSIVE) == 0 && !set->watched &&
         set->owner_pid == process_state.pid;
}

// Under both locks. The kernel's set has the registration as converted.
void EnterConverted(EpollSet* set, Registration* registration) {
  AddDoorbell(set);
  LinkConverted(set, registration);
}

// Under both locks.
bool Convert(EpollSet* set, Registration* registration) {
  if (registration->converted) {
    registration->reported = ~0ull;  // a new FIFO counts from zero
    return true;
  }
  if (!MayConvert(set, registration)) return false;
  registration->converted = true;
  registration->out_reported = false;
  registration->kernel_out = false;
  registration->reported = ~0ull;
  if (UpdateKernel(set, IndexOfRegistration(registration), registration) != 0) {
    registration->converted = false;  // not registered there as we believe
    return false;
  }
  EnterConverted(set, registration);
  return true;
}

void Restore(EpollSet* set, Registration* registration) {
  if (!registration->converted) return;
  // An edge-triggered one stays as it is: a MOD would tell edges anew that the program knows. Waits
  // evaluate it on TCP as well. The next MOD of the program makes it plain again.
  if ((registration->events & EPOLLET) != 0) return;
  UnlinkConverted(set, registration);
  registration->converted = false;
  // A one-shot that has fired keeps its tag: only a MOD of the program arms it again, and until
  // then Translate drops what the kernel still reports (it cannot be told to report no hang-up).
  if (registration->disabled) return;
  KernelControl(set->epfd, EPOLL_CTL_MOD, registration->fd, registration->events,
                registration->data);
}

// Under both locks.
void RemoveLocked(Registration* registration) {
  EpollSet* set = registration->set;
  registration->in_use = false;  // first: it is this that Repair goes by
  if (registration->converted) UnlinkConverted(set, registration);
  const uint32_t self = IndexOfRegistration(registration) + 1;
  SideRegistrations& list = of_side[SlotOf(registration->side)];
  uint32_t link = list.first;
  if (link == self) {
    list.first = registration->next_of_side;
  } else {
    while (link != 0 && registrations[link - 1].next_of_side != self)
      link = registrations[link - 1].next_of_side;
    if (link != 0) registrations[link - 1].next_of_side = registration->next_of_side;
  }
  registration->next_free = first_free;
  first_free = self;
}
// Under registrations_lock.
void Remove(Registration* registration) {
  LockScope scope(registration->set->lock, CurrentTid());
  RemoveLocked(registration);
}

}  // namespace

Registration* RegistrationAt(uint32_t index) {
  return registrations != nullptr && index < kMaxRegistrations ? &registrations[index] : nullptr;
}
uint64_t TagOf(uint32_t index) { return tag_base | index; }
bool IsTag(uint64_t data, uint32_t* index) {
  if (tag_base == 0 || (data & ~0xffffffull) != tag_base) return false;
  *index = static_cast<uint32_t>(data & 0xffffff);
  return true;
}

namespace {
int TellKernel(EpollSet* set, int operation, uint32_t index, const Registration* registration) {
  const uint32_t events =
      registration->disabled ? static_cast<uint32_t>(EPOLLET)
                             : (registration->events & ~kKeptFromKernel) |
                                   (registration->kernel_out ? static_cast<uint32_t>(EPOLLOUT) : 0);
  return KernelControl(set->epfd, operation, registration->fd, events, TagOf(index));
}

// Adds what the program adds to a set. Under both locks. The kernel's answer.
int Add(EpollSet* set, int fd, Side* side, epoll_event* event) {
  const bool converted = Of(side).converted;
  Registration draft{};
  draft.fd = fd;
  draft.events = event->events;
  draft.data = event->data.u64;
  draft.side = side;
  draft.set = set;
  draft.reported = ~0ull;
  draft.converted = converted && MayConvert(set, &draft);
  if (Registration* old = Find(set, fd, side); old != nullptr) {
    // Left from a descriptor that was closed unseen, or the kernel says EEXIST.
    const int result = KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events, event->data.u64);
    if (result != 0) return result;
    KernelControl(set->epfd, EPOLL_CTL_DEL, fd, 0, 0);
    Remove(old);
  }
  Registration* registration = NewRegistration();
  if (registration == nullptr) {
    side->pinned.store(1, std::memory_order_relaxed);
    return KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events, event->data.u64);
  }
  const uint32_t index = IndexOfRegistration(registration);
  draft.in_use = true;
  *registration = draft;
  in_doubt = index + 1;
  const int result =
      draft.converted ? TellKernel(set, EPOLL_CTL_ADD, index, &draft)
                      : KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events, event->data.u64);
  if (result != 0) {
    registration->in_use = false;
    registration->next_free = first_free;
    first_free = index + 1;
    return result;
  }
  registration->next_of_side = Of(side).first;
  Of(side).first = index + 1;
  if (draft.converted) {
    EnterConverted(set, registration);
    WakeSleepersOf(set);
  } else if (converted) {
    side->pinned.store(1, std::memory_order_relaxed);
  }
  return 0;
}
}  // namespace

int UpdateKernel(EpollSet* set, uint32_t index, Registration* registration) {
  return TellKernel(set, EPOLL_CTL_MOD, index, registration);
}

void EpollCreated(int epfd) {
  if (!process_state.ready || !FdTable::InRange(epfd)) return;
  sys::SignalsBlocked blocked;
  LockScope scope(registrations_lock, CurrentTid());
  if (sets == nullptr) sets = static_cast<EpollSet*>(MapZeroed(sizeof(EpollSet) * kMaxEpollSets));
  if (sets == nullptr) return;
  for (uint32_t i = 0; i < kMaxEpollSets; ++i) {
    if (sets[i].in_use) continue;
    sets[i].in_use = true;
    sets[i].has_doorbell = false;
    sets[i].watched = false;
    sets[i].owner_pid = process_state.pid;
    sets[i].references = 1;
    sets[i].epfd = epfd;
    sets[i].converted.store(0, std::memory_order_relaxed);
    sets[i].first_converted = 0;
    sets[i].next_look = 0;
    sets[i].plain_sleepers.store(0, std::memory_order_relaxed);
    FdTable::SetEpollSet(epfd, &sets[i]);
    return;
  }
}

namespace {
// Gives up what an epoll_ctl has left half done, and makes all lists anew from what the
// registrations say. Under registrations_lock. The side that is not followed in its set any more,
// if there is one.
Side* Repair() {
  Side* given_up = nullptr;
  if (in_doubt != 0) {
    Registration& half = registrations[in_doubt - 1];
    in_doubt = 0;
    if (half.in_use && half.set != nullptr) {
      // Plain, if the kernel has it at all.
      half.in_use =
          KernelControl(half.set->epfd, EPOLL_CTL_MOD, half.fd, half.events, half.data) == 0;
      half.converted = false;
      half.disabled = false;
      if (half.in_use && of_side[SlotOf(half.side)].converted) given_up = half.side;
    }
  }
  first_free = 0;
  for (uint32_t i = 0; i < used_registrations; ++i) {
    Registration& registration = registrations[i];
    if (registration.side != nullptr) of_side[SlotOf(registration.side)].first = 0;
    if (registration.in_use && registration.set != nullptr) continue;
    registration.in_use = false;
    registration.next_free = first_free;
    first_free = i + 1;
  }
  for (uint32_t i = 0; i < used_registrations; ++i) {
    Registration& registration = registrations[i];
    if (!registration.in_use) continue;
    uint32_t& first = of_side[SlotOf(registration.side)].first;
    registration.next_of_side = first;
    first = i + 1;
  }
  for (uint32_t s = 0; sets != nullptr && s < kMaxEpollSets && sets[s].epfd != 0; ++s) {
    EpollSet* const set = &sets[s];
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
      WakeSleepersOf(set);
    }
  }
  return given_up;
}

// Under both locks.
int ControlSide(EpollSet* set, int operation, int fd, Side* side, epoll_event* event) {
  if (operation == EPOLL_CTL_ADD) return Add(set, fd, side, event);
  const auto kernel = [&] {
    return static_cast<int>(
        sys::Call(SYS_epoll_ctl, set->epfd, operation, fd, reinterpret_cast<long>(event)));
  };
  Registration* registration = Find(set, fd, side);
  if (registration != nullptr) in_doubt = IndexOfRegistration(registration) + 1;
  if (operation == EPOLL_CTL_DEL) {
    const int result = kernel();
    if (result == 0 && registration != nullptr) RemoveLocked(registration);
    return result;
  }
  if (registration == nullptr || !registration->converted || !Of(side).converted) {
    if (registration != nullptr && registration->converted &&
        (event->events & EPOLLEXCLUSIVE) != 0) {
      return -EINVAL;
    }
    const int result = kernel();
    if (result != 0 || registration == nullptr) return result;
    if (registration->converted) {  // edge-triggered, and on TCP again: plain from now on
      UnlinkConverted(set, registration);
      registration->converted = false;
    }
    registration->events = event->events;
    registration->data = event->data.u64;
    registration->disabled = false;
    return 0;
  }
  if ((event->events & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  registration->events = event->events;
  registration->data = event->data.u64;
  registration->disabled = false;
  registration->out_reported = false;
  registration->kernel_out = false;
  registration->reported = ~0ull;
  const int result = UpdateKernel(set, IndexOfRegistration(registration), registration);
  // Another thread may be asleep in this set, and what it waits for may be in the FIFO already.
  RingOwnDoorbell();
  return result;
}
}  // namespace

int EpollControl(int epfd, EpollSet* set, int operation, int fd, epoll_event* event) {
  Side* side = FindSide(fd);
  const auto kernel = [&] {
    return static_cast<int>(
        sys::Call(SYS_epoll_ctl, epfd, operation, fd, reinterpret_cast<long>(event)));
  };
  if (EpollSet* inner = FindEpollSet(fd); inner != nullptr && operation == EPOLL_CTL_ADD)
    EpollSetIsWatched(inner);
  if (side == nullptr || (event == nullptr && operation != EPOLL_CTL_DEL) ||
      operation < EPOLL_CTL_ADD || operation > EPOLL_CTL_MOD) {
    return kernel();
  }
  const char* obstacle = nullptr;
  int result;
  {
    const uint32_t tid = CurrentTid();
    const LockScope scope(registrations_lock, tid);
    const LockScope inner(set->lock, tid);
    if (scope.result() == LockResult::kReentered || inner.result() == LockResult::kReentered) {
      // A signal handler that interrupted one of our own looks at this set: our lists are not to be
      // touched. The kernel alone looks after this socket from now on.
      side->pinned.store(1, std::memory_order_relaxed);
      obstacle = "epoll_ctl in a signal handler";
      result = kernel();
    } else {
      const bool was_pinned = side->pinned.load(std::memory_order_relaxed) != 0;
      result = ControlSide(set, operation, fd, side, event);
      in_doubt = 0;
      if (!was_pinned && side->pinned.load(std::memory_order_relaxed) != 0)
        obstacle = "registered in an epoll set that cannot be followed";
    }
  }
  if (obstacle != nullptr) FallBack(fd, side, obstacle);
  return result;
}

bool PrepareRegistrations(Side* side) {
  LockScope scope(registrations_lock, CurrentTid());
  bool all = true;
  Of(side).converted = true;
  for (uint32_t link = Of(side).first; link != 0 && all;
       link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    LockScope inner(registration.set->lock, CurrentTid());
    all = Convert(registration.set, &registration);
    WakeSleepersOf(registration.set);
  }
  return all;
}

void RestoreRegistrations(Side* side) {
  LockScope scope(registrations_lock, CurrentTid());
  Of(side).converted = false;
  for (uint32_t link = Of(side).first; link != 0; link = registrations[link - 1].next_of_side) {
    Registration& registration = registrations[link - 1];
    LockScope inner(registration.set->lock, CurrentTid());
    Restore(registration.set, &registration);
  }
}

void EpollForgets(int fd, Side* side, bool last) {
  if (of_side[SlotOf(side)].first == 0 || !last) return;
  LockScope scope(registrations_lock, CurrentTid());
  while (const uint32_t link = Of(side).first) Remove(&registrations[link - 1]);
}

void EpollSetDuplicated(EpollSet* set) {
  LockScope scope(registrations_lock, CurrentTid());
  ++set->references;
}

void EpollSetClosed(int epfd, EpollSet* set) {
  sys::SignalsBlocked blocked;
  LockScope scope(registrations_lock, CurrentTid());
  if (--set->references > 0) {
    // The number we use is going away; another one of the same set is left.
    for (int fd = 0; set->epfd == epfd && fd < FdTable::End(); ++fd) {
      if (fd != epfd && FdTable::FindEpollSet(fd) == set) set->epfd = fd;
    }
    return;
  }
  for (uint32_t i = 0; i < used_registrations; ++i) {
    if (registrations[i].in_use && registrations[i].set == set) Remove(&registrations[i]);
  }
  set->in_use = false;
}

void EpollSetIsWatched(EpollSet* set) {
  if (set->watched) return;
  // Collected first: FallBack takes locks that come before ours.
  int fds[64];
  size_t count;
  do {
    count = 0;
    {
      LockScope scope(registrations_lock, CurrentTid());
      set->watched = true;
      if (set->has_doorbell) KernelControl(set->epfd, EPOLL_CTL_DEL, OwnDoorbellFd(), 0, 0);
      set->has_doorbell = false;
      for (uint32_t link = set->first_converted; link != 0 && count < 64;
           link = registrations[link - 1].next_in_set) {
        fds[count++] = registrations[link - 1].fd;
        Of(registrations[link - 1].side).converted = false;
      }
      for (uint32_t link = set->first_converted; link != 0;) {
        Registration& registration = registrations[link - 1];
        link = registration.next_in_set;
        LockScope inner(set->lock, CurrentTid());
        Restore(set, &registration);
      }
    }
    for (size_t i = 0; i < count; ++i)
      FallBackToTcp(fds[i], "epoll set watched by another set or by poll", true);
  } while (count == 64);
}

bool IsRegistrationsLock(const RecoverableLock* lock) { return lock == &registrations_lock; }

void RepairRegistrations() {
  Side* given_up;
  {
    sys::SignalsBlocked blocked;
    LockScope scope(registrations_lock, CurrentTid());
    given_up = Repair();
    if (given_up != nullptr) given_up->pinned.store(1, std::memory_order_relaxed);
  }
  if (given_up != nullptr)
    FallBack(given_up->fd.load(std::memory_order_acquire), given_up, "epoll_ctl was not finished");
}

void EpollForkedChild() {
  // A thread of the parent may have held them; in the child there is no such thread.
  const bool half_done = registrations_lock.Held();
  registrations_lock.Release();
  for (uint32_t i = 0; sets != nullptr && i < kMaxEpollSets && sets[i].epfd != 0; ++i)
    sets[i].lock.Release();
  in_doubt = 0;  // the parent's thread will finish it
  if (half_done) RepairRegistrations();
}

}  // namespace xenloop
