// Which bell wakes who sleeps in a set: the set's own, beside the doorbell, which is for all.
//
// A FIFO names one bell. So it is that of the set in which its connection is registered, if there
// is one such set, and nobody watches it; of no set, the common one, which is poll's. Where there
// are more, nobody knows: the doorbell then. All sets have that, so a name may change at any time;
// who sleeps by another is rung for after the change.
#include "preload/ready/epoll_registrations.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/mailbox.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

int AddLine(EpollSet* set, int fd) {
  return KernelControl(set->epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, TagOf(kDoorbellIndex));
}

void AddBell(EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  const uint32_t bell = LendOwnBell(BellFor::kSet);
  if (bell == kAnyBell) return;
  if (AddLine(set, OwnBellFd(bell)) != 0) return GiveBackOwnBell(bell);
  set->bell.store(bell, std::memory_order_seq_cst);
}

}  // namespace

bool AddDoorbell(EpollSet* set) {
  const int doorbell = OwnDoorbellFd();
  if (set->watched) return doorbell >= 0;  // it would be an event of the set to those who watch it
  if (doorbell >= 0 && !set->has_doorbell) {
    set->has_doorbell = AddLine(set, doorbell) == 0;
    if (set->has_doorbell) AddBell(set);
  }
  return set->has_doorbell;
}

void RemoveDoorbell(EpollSet* set) {
  if (!set->has_doorbell) return;
  set->has_doorbell = false;
  KernelControl(set->epfd, EPOLL_CTL_DEL, agent_shared.doorbell.fd, 0, 0);
  const uint32_t bell = set->bell.exchange(kAnyBell, std::memory_order_seq_cst);
  if (bell == kAnyBell) return;
  NameBells(set);
  KernelControl(set->epfd, EPOLL_CTL_DEL, OwnBellFd(bell), 0, 0);
  GiveBackOwnBell(bell);
}

void TakeDoorbellAway(EpollSet* set) {
  // seq_cst: before the look at the sleepers; pairs with EpollWait, which counts itself and then
  // looks whether it may sleep in the set.
  if (!set->watched.exchange(true, std::memory_order_seq_cst)) NameBells(set);
  if (!set->has_doorbell) return;
  // Whoever sleeps there comes out by the doorbell, and the last one takes it away.
  if (set->sleepers.Any()) return RingOwnDoorbellAnyway();
  RemoveDoorbell(set);
}

uint32_t BellOf(const Side* side) {
  const EpollSet* only = nullptr;
  for (uint32_t link = Of(side).first; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    const EpollSet* const set = RegistrationAt(link - 1)->set;
    if (set->watched || (only != nullptr && set != only)) return kAnyBell;
    only = set;
  }
  if (only != nullptr) return only->bell.load(std::memory_order_relaxed);
  return OwnBellFd(kCommonBell) >= 0 ? kCommonBell : kAnyBell;
}

void NameBell(Side* side) {
  if (!ConvertsNewOnes(side)) return;
  const uint32_t bell = BellOf(side);
  if (side->bell.load(std::memory_order_relaxed) == bell) return;
  const Self self = CurrentSelf();
  const sys::SignalsBlocked blocked;  // a handler may poll this very connection
  const LockScope send(side->send.lock, self.tid);
  const LockScope receive(side->receive.lock, self.tid);
  if (side->bell.load(std::memory_order_relaxed) == bell) return;
  side->bell.store(bell, std::memory_order_relaxed);
  WriteBell(side);
  if (NeedsTelling(side, bell) && side->attached.load(std::memory_order_relaxed) != 0)
    RequestService(side);
}

void NameBells(EpollSet* set) {
  for (uint32_t link = set->first_converted; link != 0;
       link = RegistrationAt(link - 1)->next_in_set) {
    if (Side* const side = RegistrationAt(link - 1)->side) NameBell(side);
  }
}

void WakeSleepersOf(EpollSet* set) {
  // seq_cst: pairs with the sleeper, who counts itself and then looks at `converted` (Dekker).
  if (set->sleepers.Any()) RingOwnBellAnyway(set->bell.load(std::memory_order_relaxed));
  if (set->watched) RingOwnDoorbell();
}

void RingSleepersOf(const EpollSet* set) {
  RingOwnBell(set->watched ? kAnyBell : set->bell.load(std::memory_order_relaxed));
}

bool SomebodySleepsWithoutBell(const EpollSet* set) {
  return set->plain_polls.load(std::memory_order_seq_cst) != 0 ||
         (set->watched && !set->has_doorbell && set->sleepers.Any());
}

}  // namespace xenloop
