// See epoll.h: a set that other programs get, by SCM_RIGHTS or because it survives exec. They find
// in it what our program has registered, and nothing of ours. (When it is ours alone again:
// epoll_inherited.cc.)
#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr size_t kMostAtOnce = 64;

enum class Leaves : uint8_t { kForGood, kToStartedProgram };

int DescriptorOf(const Registration& registration) {
  const Side* const side = registration.side;
  return FdTable::FindSide(registration.fd) == side ? registration.fd
                                                    : side->fd.load(std::memory_order_acquire);
}

// Gives converted registrations back, of no more than kMostAtOnce sockets, whose numbers are then
// in `fds`. Their bytes still go by FIFO: the kernel tells of them when they come back to TCP.
size_t GiveBackSome(EpollSet* set, Leaves leaves, int* fds) {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  const LockScope inner(set->lock, tid);
  if (leaves == Leaves::kForGood) {
    set->blind = true;
  } else {
    BeginInheritance(set);
  }
  // In a signal handler that has interrupted one of ours.
  if (scope.result() == LockResult::kReentered || inner.result() == LockResult::kReentered)
    return 0;
  RemoveDoorbell(set);
  size_t count = 0;
  while (set->first_converted != 0 && count < kMostAtOnce) {
    Registration& registration = *RegistrationAt(set->first_converted - 1);
    if (registration.side != nullptr) {
      fds[count++] = DescriptorOf(registration);
      Of(registration.side).converted_by = 0;
    }
    GiveBack(set, &registration);
  }
  return count;
}

// One-shots that have fired and were restored since: Restore leaves them their tags.
void TakeTagsOfFired(EpollSet* set) {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  if (scope.result() == LockResult::kReentered) return;
  EachSide([set](int, Side* side) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t link = Of(side).first; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
      const Registration& fired = *RegistrationAt(link - 1);
      if (fired.set == set && fired.disabled && FdTable::FindSide(fired.fd) == side)
        KernelControl(set->epfd, EPOLL_CTL_MOD, fired.fd, EPOLLONESHOT, fired.data);
    }
  });
}

}  // namespace

namespace {
void Leave(EpollSet* set, Leaves leaves) {
  if (set->owner_pid != process_state.pid) return;  // its tags are its owner's
  const bool for_good = leaves == Leaves::kForGood;
  const Reason reason = for_good ? Reason::kEpollWatched : Reason::kEpollInherited;
  ForgetDatagramsOf(set, /*to_kernel=*/true);
  size_t count;
  do {
    int fds[kMostAtOnce];
    count = GiveBackSome(set, leaves, fds);
    for (size_t i = 0; i < count; ++i)
      FallBackToTcp(fds[i], reason, for_good ? TcpFor::kGood : TcpFor::kNow, NextWriter::kOurs);
  } while (count == kMostAtOnce);
  TakeTagsOfFired(set);
  // What it watches: nobody looks at the FIFOs there for whoever waits in this one.
  for (uint32_t i = 0; EpollSet* const other = EpollSetAt(i); ++i) {
    if (IsWatchedBy(other, set)) Leave(other, leaves);
  }
}
}  // namespace

void InheritedSetCloses(EpollSet* set) {
  {
    const RegistrationsScope scope(CurrentTid());
    if (set->references > 1 || set->owner_pid != process_state.pid) return;
    EachRegisteredIn(set, [](Side* side) {
      side->reason.store(Reason::kEpollInherited, std::memory_order_relaxed);
      side->pinned.store(1, std::memory_order_seq_cst);
    });
  }
  Leave(set, Leaves::kForGood);  // and what it watches
}

void EpollSetLeaves(EpollSet* set) { Leave(set, Leaves::kForGood); }

void EpollSetIsInherited(EpollSet* set) { Leave(set, Leaves::kToStartedProgram); }

}  // namespace xenloop
