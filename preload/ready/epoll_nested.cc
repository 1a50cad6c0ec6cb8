// Sets that are watched: by other sets, and by poll and select. In the kernel a watched set stays a
// member of the set that watches it, and the kernel's part of its readiness comes from there. What
// stands in FIFOs is looked for by who watches (SetHolds), and the doorbell is theirs: in a watched
// set it would be an event of that set, which nobody but its own waits can tell from the others. So
// a thread that waits in a watched set sleeps beside it: in poll, for the set and for a bell.
#include <errno.h>

#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

Registration* FindWatch(const EpollSet* set, int fd, const EpollSet* inner)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  for (uint32_t link = inner->first_watch; link != 0;
       link = RegistrationAt(link - 1)->next_of_side) {
    Registration* const watch = RegistrationAt(link - 1);
    if (watch->set == set && watch->fd == fd) return watch;
  }
  return nullptr;
}

int Watch(EpollSet* set, int fd, EpollSet* inner, const epoll_event* event)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock) {
  Registration* const watch = NewRegistration();
  if (watch == nullptr) {
    set->blind = true;
    return KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events, event->data.u64);
  }
  watch->fd = fd;
  watch->events = event->events;
  watch->data = event->data.u64;
  watch->inner = inner;
  watch->set = set;
  watch->reported = kNothingReported;
  watch->converted = MayConvert(set, watch) && AddDoorbell(set);
  const uint32_t index = IndexOfRegistration(watch);
  const int result = watch->converted ? TellKernel(set, EPOLL_CTL_ADD, index, watch)
                                      : KernelControl(set->epfd, EPOLL_CTL_ADD, fd, event->events,
                                                      event->data.u64);
  if (result != 0) {
    Discard(watch);
    return result;
  }
  watch->next_of_side = inner->first_watch;
  inner->first_watch = index + 1;
  TakeDoorbellAway(inner);
  if (watch->converted) {
    EnterConverted(set, watch);
    WakeSleepersOf(set);
  } else if (inner->converted.load(std::memory_order_relaxed) != 0) {
    set->blind = true;
  }
  return 0;
}

}  // namespace

int ControlSet(EpollSet* set, int operation, int fd, EpollSet* inner, epoll_event* event) {
  const auto kernel = [&] {
    return static_cast<int>(
        sys::Call(SYS_epoll_ctl, set->epfd, operation, fd, reinterpret_cast<long>(event)));
  };
  Registration* const watch = FindWatch(set, fd, inner);
  if (operation == EPOLL_CTL_ADD) return watch != nullptr ? -EEXIST : Watch(set, fd, inner, event);
  if (operation == EPOLL_CTL_DEL) {
    const int result = kernel();
    if (result == 0 && watch != nullptr) RemoveLocked(set, watch);
    return result;
  }
  if (watch == nullptr || !watch->converted) {
    const int result = kernel();
    if (result != 0 || watch == nullptr) return result;
  }
  watch->events = event->events;
  watch->data = event->data.u64;
  watch->disabled = watch->fired_plain = false;
  watch->reported = kNothingReported;
  if (!watch->converted) return 0;
  const int result = UpdateKernel(set, IndexOfRegistration(watch), watch);
  RingSleepersOf(set);  // somebody may be asleep there, and a FIFO hold something already
  return result;
}

bool ConvertWatches(EpollSet* set) {
  if (set->blind || SomebodySleepsWithoutBell(set)) return false;
  for (uint32_t link = set->first_watch; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    Registration* const watch = RegistrationAt(link - 1);
    EpollSet* const outer = watch->set;
    if (outer->watched && !ConvertWatches(outer)) return false;
    const LockScope scope(outer->lock, CurrentTid());
    if (!Convert(outer, watch)) return false;
    WakeSleepersOf(outer);
  }
  return true;
}

bool WatchesAreConverted(const EpollSet* set) {
  bool all = true;
  for (uint32_t link = set->first_watch; link != 0; link = RegistrationAt(link - 1)->next_of_side)
    all = all && RegistrationAt(link - 1)->converted;
  return all;
}

bool IsWatchedBy(const EpollSet* set, const EpollSet* other) {
  const RegistrationsScope scope(CurrentTid());
  for (uint32_t link = set->first_watch; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    if (RegistrationAt(link - 1)->set == other) return true;
  }
  return false;
}

void Unwatch(const EpollSet* set) {
  while (set->first_watch != 0) Remove(RegistrationAt(set->first_watch - 1));
}

void EpollSetIsWatched(EpollSet* set) {
  ForgetDatagramsOf(set, /*to_kernel=*/true);
  if (process_state.in_doubt) return EpollSetIsWatchedBlindly(set);
  if (set->owner_pid != process_state.pid) EpollSetIsShared(set);
  const RegistrationsScope scope(CurrentTid());
  if (scope.result() != LockResult::kReentered) TakeDoorbellAway(set);
}

bool SetHolds(EpollSet* set, uint64_t* news, Self self) {
  if (set->converted.load(std::memory_order_acquire) == 0) return false;
  const LockScope scope(set->lock, self.tid);
  if (scope.result() == LockResult::kReentered) return false;
  bool holds = false;
  for (uint32_t link = set->first_converted; link != 0;
       link = RegistrationAt(link - 1)->next_in_set)
    holds = Holds(link - 1, news, self) || holds;
  return holds;
}

}  // namespace xenloop
