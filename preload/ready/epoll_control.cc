// See epoll.h: epoll_ctl.
#include "preload/libc/program_memory.h"
#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/ready/readiness.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Adds what the program adds to a set. The kernel's answer.
int Add(EpollSet* set, int fd, Side* side, epoll_event* event)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock) {
  const bool converted = ConvertsNewOnes(side);
  Registration draft{};
  draft.fd = fd;
  draft.events = event->events;
  draft.data = event->data.u64;
  draft.side = side;
  draft.set = set;
  draft.reported = kNothingReported;
  if (Registration* old = Find(set, fd, side); old != nullptr) {
    if (old->taken_out) {
      in_doubt = IndexOfRegistration(old) + 1;
      const int result = PutBack(set, old, *event);
      if (result == 0) RingSleepersOf(set);
      return result;
    }
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
  draft.converted = converted && MayConvert(set, &draft) && WatchesAreConverted(set) &&
                    AddDoorbell(set) && !SomebodySleepsWithoutBell(set);
  draft.in_use = true;
  *registration = draft;
  in_doubt = index + 1;
  const int result =
      draft.converted ? TellKernel(set, EPOLL_CTL_ADD, index, registration)
                      : KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events, event->data.u64);
  if (result != 0) {
    Discard(registration);
    return result;
  }
  registration->next_of_side = Of(side).first;
  Of(side).first = index + 1;
  if (draft.converted) {
    EnterConverted(set, registration);
    NameBell(side);
    WakeSleepersOf(set);
  } else if (converted && !IsOnlyInherited(set)) {
    side->pinned.store(1, std::memory_order_relaxed);
  }
  return 0;
}

int ControlSide(EpollSet* set, int operation, int fd, Side* side, epoll_event* event)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock) {
  if (operation == EPOLL_CTL_ADD) return Add(set, fd, side, event);
  const auto kernel = [&] {
    return static_cast<int>(
        sys::Call(SYS_epoll_ctl, set->epfd, operation, fd, reinterpret_cast<long>(event)));
  };
  Registration* registration = Find(set, fd, side);
  if (registration != nullptr) in_doubt = IndexOfRegistration(registration) + 1;
  if (operation == EPOLL_CTL_DEL) {
    if (registration != nullptr && TakeOutLazily(set, registration)) return 0;
    const int result = kernel();
    if (result == 0 && registration != nullptr) {
      RemoveLocked(set, registration);
      NameBell(side);
    }
    return result;
  }
  if (registration == nullptr || !registration->converted || !ConvertsNewOnes(side)) {
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
    registration->disabled = registration->fired_plain = false;
    return 0;
  }
  if ((event->events & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  registration->events = event->events;
  registration->data = event->data.u64;
  registration->disabled = registration->fired_plain = false;
  registration->out_reported = false;
  registration->kernel_out = false;
  registration->reported = kNothingReported;
  registration->quiet_word = nullptr;  // more may be wanted now
  const bool covered = registration->in_kernel && IsCovered(*registration);
  const int result =
      covered ? 0 : UpdateKernel(set, IndexOfRegistration(registration), registration);
  // Another thread may be asleep in this set, and what it waits for may be in the FIFO already.
  RingSleepersOf(set);
  return result;
}

int ControlWatch(EpollSet* set, int operation, int fd, EpollSet* watched, epoll_event* event) {
  if (operation != EPOLL_CTL_DEL) ForgetDatagramsOf(watched, /*to_kernel=*/true);
  bool followed;
  int result;
  {
    const uint32_t tid = CurrentTid();
    const RegistrationsScope scope(tid);
    const LockScope inner(set->lock, tid);
    followed = scope.result() != LockResult::kReentered && inner.result() != LockResult::kReentered;
    result = followed ? ControlSet(set, operation, fd, watched, event)
                      : static_cast<int>(sys::Call(SYS_epoll_ctl, set->epfd, operation, fd,
                                                   reinterpret_cast<long>(event)));
    followed = followed && !(result == 0 && set->blind);
  }
  if (!followed && operation != EPOLL_CTL_DEL) EpollSetIsWatchedBlindly(watched);
  return result;
}
}  // namespace

int EpollControl(int epfd, EpollSet* set, int operation, int fd, epoll_event* event) {
  if (DatagramSide* const datagrams = FindDatagram(fd);
      datagrams != nullptr && (operation == EPOLL_CTL_DEL || MayRead(event, sizeof *event)))
    return ControlDatagrams(set, operation, fd, datagrams, event);
  Side* side = FindSide(fd);
  const auto kernel = [&] {
    return static_cast<int>(
        sys::Call(SYS_epoll_ctl, epfd, operation, fd, reinterpret_cast<long>(event)));
  };
  EpollSet* const watched = FindEpollSet(fd);
  if ((side == nullptr && (watched == nullptr || watched == set)) ||
      (operation != EPOLL_CTL_DEL && !MayRead(event, sizeof *event)) || operation < EPOLL_CTL_ADD ||
      operation > EPOLL_CTL_MOD) {
    return kernel();
  }
  if (watched != nullptr && process_state.in_doubt && operation == EPOLL_CTL_ADD) {
    EpollSetIsWatchedBlindly(watched);  // to know of it takes memory
    return kernel();
  }
  if (watched != nullptr) return ControlWatch(set, operation, fd, watched, event);
  if (operation != EPOLL_CTL_DEL) FallBackUnlessOurs(fd, side);
  Reason obstacle = Reason::kNone;
  int result;
  const uint32_t tid = CurrentTid();
  if (registrations_lock.HeldBy(tid) || set->lock.HeldBy(tid)) {
    // A signal handler that interrupted one of our own looks at this set: our lists are not to be
    // touched, and who holds the one lock may be waiting for the other. The kernel alone looks
    // after this socket from now on.
    side->pinned.store(1, std::memory_order_relaxed);
    obstacle = Reason::kEpollInHandler;
    SilenceInHandler(set, fd);
    set->changed_in_handler.store(true, std::memory_order_relaxed);
    result = kernel();
  } else {
    const LockScope scope(registrations_lock, tid);
    if (MustSettle(set, operation, fd, side, event)) SettleAll(tid);
    // What is to be converted here and cannot be, goes by TCP.
    if (set->watched && operation == EPOLL_CTL_ADD && ConvertsNewOnes(side)) ConvertWatches(set);
    const LockScope inner(set->lock, tid);
    const bool was_pinned = side->pinned.load(std::memory_order_relaxed) != 0;
    result = ControlSide(set, operation, fd, side, event);
    in_doubt = 0;
    if (!was_pinned && side->pinned.load(std::memory_order_relaxed) != 0)
      obstacle = Reason::kEpollUnfollowed;
    else if (result == 0 && operation == EPOLL_CTL_ADD && IsOnlyInherited(set) &&
             ConvertsNewOnes(side))
      obstacle = Reason::kEpollInherited;
  }
  if (obstacle != Reason::kNone) {
    side->reason.store(obstacle, std::memory_order_relaxed);  // also where it is on TCP already
    FallBack(fd, side, obstacle);
  }
  return result;
}

}  // namespace xenloop
