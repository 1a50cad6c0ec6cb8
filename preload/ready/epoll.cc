// See epoll.h: the epoll sets, from their making to their end. epoll_ctl is in epoll_control.cc,
// waiting in epoll_wait.cc.
#include "preload/ready/epoll.h"

#include <errno.h>

#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/ready/readiness.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint32_t kBlock = kSetsABlock;
EpollSet* blocks[kMostSets / kBlock];
uint32_t lowest_free;  // no lower place is free

}  // namespace

EpollSet* EpollSetAt(uint32_t number) {
  EpollSet* const block = number < kMostSets ? blocks[number / kBlock] : nullptr;
  return block != nullptr && block[number % kBlock].epfd != 0 ? &block[number % kBlock] : nullptr;
}

namespace {
EpollSet* MakeBlock(uint32_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  EpollSet*& block = blocks[number];
  if (block == nullptr) block = static_cast<EpollSet*>(MapZeroed(sizeof(EpollSet) * kBlock));
  return block;
}

// A place for a set, or nullptr: none is left, or no memory.
EpollSet* FreePlace() ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  for (; lowest_free < kMostSets; ++lowest_free) {
    const uint32_t number = lowest_free / kBlock;
    EpollSet* const block = process_state.in_doubt ? blocks[number] : MakeBlock(number);
    if (block == nullptr) return nullptr;
    if (!block[lowest_free % kBlock].in_use) return &block[lowest_free++ % kBlock];
  }
  return nullptr;
}

void GiveBackPlace(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  set->in_use = false;
  ++set->serial;
  // The kernel has dropped what was in the set.
  if (set->owner_pid == process_state.pid) GiveBackOwnBell(set->bell.exchange(kAnyBell));
  ForgetDatagramsOf(set, /*to_kernel=*/false);
  for (uint32_t i = 0; i * kBlock < lowest_free; ++i) {
    const auto number = static_cast<uint32_t>(set - blocks[i]);
    if (set < blocks[i] || number >= kBlock) continue;
    if (i * kBlock + number < lowest_free) lowest_free = i * kBlock + number;
    return;
  }
}
}  // namespace

void EpollCreated(int epfd) {
  const bool room = process_state.in_doubt ? epfd < FdTable::kStretch : FdTable::InRange(epfd);
  if (!MayKnow() || process_state.bypassed || !room) return;
  RegistrationsScope scope(CurrentTid());
  EpollSet* const set = FreePlace();
  if (set == nullptr) return;  // what is registered there stays on TCP
  const LockScope inner(set->lock, CurrentTid());
  set->in_use = true;
  set->has_doorbell = false;
  set->bell.store(kAnyBell, std::memory_order_relaxed);
  set->watched.store(false, std::memory_order_relaxed);
  set->blind = false;
  set->first_watch = 0;
  set->plain_polls.store(0, std::memory_order_relaxed);
  // A call that nobody saw end (D-11) has left its count to the place.
  set->sleepers.Begin(++set->serial);
  set->owner_pid = process_state.pid;
  set->waited_elsewhere = nullptr;
  set->inherited.store(false, std::memory_order_relaxed);
  set->inheritance = Inheritance{};
  set->references = 1;
  set->epfd = epfd;
  set->converted.store(0, std::memory_order_relaxed);
  set->converting.store(false, std::memory_order_relaxed);
  set->first_converted = 0;
  set->taken_out.store(0, std::memory_order_relaxed);
  set->changed_in_handler.store(false, std::memory_order_relaxed);
  set->next_look = 0;
  FdTable::SetEpollSet(epfd, set);
}

void EpollUnfollowed(int fd) {
  DatagramToKernel(fd, Reason::kEpollUnfollowed, KernelFor::kGood);
  if (EpollSet* const inner = FindEpollSet(fd)) return EpollSetIsWatchedBlindly(inner);
  Side* const side = FindSide(fd);
  if (side != nullptr && side->pinned.load(std::memory_order_relaxed) == 0)
    FallBackToTcp(fd, Reason::kEpollUnfollowed, TcpFor::kGood, NextWriter::kOurs);
}

void EpollSetDuplicated(EpollSet* set) {
  RegistrationsScope scope(CurrentTid());
  ++set->references;
}

void EpollSetClosed(int epfd, EpollSet* set) {
  if (set->inherited) InheritedSetCloses(set);
  LockScope scope(registrations_lock, CurrentTid());  // the number means the set no more
  if (--set->references > 0) {
    // The number we use is going away; another one of the same set is left.
    for (int fd = 0; set->epfd == epfd && fd < FdTable::End(); fd = FdTable::Next(fd)) {
      if (fd != epfd && FdTable::FindEpollSet(fd) == set) set->epfd = fd;
    }
    if (scope.result() != LockResult::kReentered) SettleAll(CurrentTid());
    return;
  }
  RemoveAllOf(set, /*watches=*/true);
  Unwatch(set);
  GiveBackPlace(set);
}

void EpollSetIsWatchedBlindly(EpollSet* set) {
  ForgetDatagramsOf(set, /*to_kernel=*/true);
  if (set->blind) return;
  // Collected first: FallBackToTcp may wait, for TCP to take the residue or for the agent, and the
  // agent needs our lock to finish what is under way.
  int fds[64];
  size_t count;
  do {
    count = 0;
    {
      RegistrationsScope scope(CurrentTid());
      set->blind = true;
      RemoveDoorbell(set);
      // Edge-triggered ones stay converted: what is on TCP already is not met again.
      for (uint32_t link = set->first_converted; link != 0;
           link = RegistrationAt(link - 1)->next_in_set) {
        const Registration& registration = *RegistrationAt(link - 1);
        if (registration.side == nullptr) continue;
        Of(registration.side).converted_by = 0;
        if (count < 64 && FindSide(registration.fd) == registration.side &&
            IsOnFifo(registration.side))
          fds[count++] = registration.fd;
      }
      for (uint32_t link = set->first_converted; link != 0;) {
        Registration& registration = *RegistrationAt(link - 1);
        link = registration.next_in_set;
        if (registration.side == nullptr) continue;
        LockScope inner(set->lock, CurrentTid());
        Restore(set, &registration);
      }
    }
    for (size_t i = 0; i < count; ++i)
      FallBackToTcp(fds[i], Reason::kEpollWatched, TcpFor::kGood, NextWriter::kOurs);
  } while (count == 64);
  // And what it watches itself is not seen by them either.
  for (uint32_t i = 0; EpollSet* const other = EpollSetAt(i); ++i) {
    if (IsWatchedBy(other, set)) EpollSetIsWatchedBlindly(other);
  }
}

void EpollSetIsShared(EpollSet* set) {
  NoteShared(set);
  // Collected first, as above.
  int fds[64];
  size_t count;
  do {
    count = 0;
    {
      RegistrationsScope scope(CurrentTid());
      for (uint32_t i = 0; const EpollSet* const other = EpollSetAt(i); ++i) {
        if (!other->in_use || other->owner_pid != set->owner_pid) continue;
        if (other != set && !other->watched) continue;  // it may watch those
        for (uint32_t link = other->first_converted; link != 0 && count < 64;
             link = RegistrationAt(link - 1)->next_in_set) {
          const Registration& registration = *RegistrationAt(link - 1);
          if (registration.side != nullptr && FindSide(registration.fd) == registration.side &&
              IsOnFifo(registration.side))
            fds[count++] = registration.fd;
        }
      }
    }
    for (size_t i = 0; i < count; ++i)
      FallBackToTcp(fds[i], Reason::kUsedByChild, TcpFor::kNow, NextWriter::kOurs);
  } while (count == 64);
}

namespace {
// Else the parent reads what is in it.
bool IsReadByUs(const EpollSet& set) { return set.owner_pid == process_state.pid; }

void DropDoorbell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  if (IsReadByUs(*set)) RemoveDoorbell(set);
  set->has_doorbell = false;
}
}  // namespace

void EpollWithoutAgent() {
  RegistrationsScope scope(CurrentTid());
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    LockScope inner(set->lock, CurrentTid());
    if (set->in_use) DropDoorbell(set);
  }
}

namespace {
// Watches of sets among each other stay, if the sets do.
void Forget(bool sets) {
  RegistrationsScope scope(CurrentTid());
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    if (!set->in_use) continue;
    LockScope inner(set->lock, CurrentTid());
    DropDoorbell(set);
    while (IsReadByUs(*set) && set->first_converted != 0)
      GiveBack(set, RegistrationAt(set->first_converted - 1));
    const bool keep = !sets && IsReadByUs(*set);
    RemoveAllOf(set, /*watches=*/!keep);
    if (keep) continue;
    Unwatch(set);
    GiveBackPlace(set);
  }
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    const EpollSet* const set = FindEpollSet(fd);
    if (set != nullptr && !set->in_use) FdTable::Clear(fd);
  }
}
}  // namespace

void EpollForgetsSides() { Forget(/*sets=*/false); }
void EpollForgetsAll() { Forget(/*sets=*/true); }

void EpollBeforeDoubt() {
  RegistrationsScope scope(CurrentTid());
  MakeBlock(lowest_free / kBlock);
}

// The child has but this thread.
void EpollForkedChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DatagramsForkedChild();
  // A thread of the parent may have held them; in the child there is no such thread.
  const bool half_done = registrations_lock.Held();
  registrations_lock.Release();
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    set->lock.Release();
    set->bell.store(kAnyBell, std::memory_order_relaxed);  // the parent's
    set->plain_polls.store(0, std::memory_order_relaxed);
    set->converting.store(false, std::memory_order_relaxed);
    set->sleepers.Begin(set->serial);
  }
  SharedForkedChild();
  InheritanceForkedChild();
  in_doubt = 0;  // the parent's thread will finish it
  if (half_done) RepairRegistrations();
}

}  // namespace xenloop
