// See epoll_lazy.h.
#include "preload/ready/epoll_lazy.h"

#include <errno.h>

#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint32_t kMostMarked = 16;                               // of all sets
uint32_t marked[kMostMarked] ABSL_GUARDED_BY(registrations_lock);  // index + 1; 0: free
uint32_t marks ABSL_GUARDED_BY(registrations_lock);

constexpr bool IsPlainLevel(uint32_t events) {
  return (events & (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)) == 0;
}

uint32_t* PlaceOf(uint32_t link) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  for (uint32_t& place : marked) {
    if (place == link) return &place;
  }
  return nullptr;
}

// What the kernel's set has is what we have told it. (Of a set that a child has, the child is told
// as well, and may change what is in it.)
bool IsOursAlone(const EpollSet* set) {
  return set->owner_pid == process_state.pid && set->waited_elsewhere == nullptr &&
         !set->changed_in_handler.load(std::memory_order_relaxed);
}

bool IsOnlyOneOf(const Side* side, const Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  return Of(side).first == IndexOfRegistration(registration) + 1 && registration->next_of_side == 0;
}

void Settle(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock) {
  SilenceTakenOut(set, registration);
  Side* const side = registration->side;
  RemoveLocked(set, registration);
  NameBell(side);
}

}  // namespace

bool TakeOutLazily(EpollSet* set, Registration* registration) {
  if (!registration->converted || registration->disabled || registration->side == nullptr ||
      !IsPlainLevel(registration->events) || !ConvertsNewOnes(registration->side) ||
      !IsOnlyOneOf(registration->side, registration) || process_state.in_doubt || set->watched ||
      !MayConvert(set, registration) || !IsOursAlone(set) || set->sleepers.Any())
    return false;
  uint32_t* const place = PlaceOf(0);
  if (place == nullptr) return false;
  *place = IndexOfRegistration(registration) + 1;
  ++marks;
  registration->quiet_word = nullptr;
  registration->taken_out = true;
  // seq_cst: pairs with SettleBeforeSleep, which stands behind a sleeper's count.
  set->taken_out.fetch_add(1, std::memory_order_seq_cst);
  if (set->sleepers.Any()) Settle(set, registration);
  return true;
}

int PutBack(EpollSet* set, Registration* registration, const epoll_event& event) {
  ForgetTakenOut(set, registration);
  registration->events = event.events;
  registration->data = event.data.u64;
  registration->out_reported = registration->kernel_out = false;
  registration->reported = kNothingReported;
  registration->quiet_word = nullptr;
  if (registration->in_kernel && IsCovered(*registration)) return 0;
  const uint32_t index = IndexOfRegistration(registration);
  int result =
      registration->in_kernel ? TellKernel(set, EPOLL_CTL_MOD, index, registration) : -ENOENT;
  if (result == -ENOENT) result = TellKernel(set, EPOLL_CTL_ADD, index, registration);
  if (result == 0) return 0;
  Side* const side = registration->side;
  RemoveLocked(set, registration);
  NameBell(side);
  return result;
}

bool MustSettle(const EpollSet* set, int operation, int fd, const Side* side,
                const epoll_event* event) {
  if (marks == 0) return false;
  const uint32_t link = Of(side).first;
  if (link == 0 || !RegistrationAt(link - 1)->taken_out) return false;
  const Registration& registration = *RegistrationAt(link - 1);
  return registration.set != set || registration.fd != fd || operation != EPOLL_CTL_ADD ||
         !IsPlainLevel(event->events) || !ConvertsNewOnes(side) ||
         !MayConvert(set, &registration) || set->watched;
}

void SettleAll(uint32_t tid) {
  if (marks == 0) return;
  for (const uint32_t& place : marked) {
    if (place == 0) continue;
    Registration* const registration = RegistrationAt(place - 1);
    EpollSet* const set = registration->set;
    // A look at the set may have been interrupted by a handler: by this one, or by one that waits
    // for the lock that we hold. Then it stays marked until the next who comes.
    const LockScope inner(set->lock, tid, RecoverableLock::kSomeMilliseconds);
    if (inner.result() != LockResult::kReentered && inner.result() != LockResult::kBusy)
      Settle(set, registration);
  }
}

bool SilenceTakenOut(EpollSet* set, Registration* registration) {
  const bool told = registration->in_kernel && set->owner_pid == process_state.pid &&
                    FindEpollSet(set->epfd) == set && IsOfItsNumber(*registration) &&
                    KernelControl(set->epfd, EPOLL_CTL_DEL, registration->fd, 0, 0) == 0;
  registration->in_kernel = false;
  return told;
}

void SilenceInHandler(EpollSet* set, int fd) {
  for (const uint32_t& place : marked) {
    if (place == 0) continue;
    Registration* const registration = RegistrationAt(place - 1);
    if (registration->set == set && registration->fd == fd && registration->taken_out)
      SilenceTakenOut(set, registration);
  }
}

void ForgetTakenOut(EpollSet* set, Registration* registration) {
  uint32_t* const place = PlaceOf(IndexOfRegistration(registration) + 1);
  if (place == nullptr) return;
  registration->taken_out = false;  // first: it is this that TakeOutForGood goes by
  std::atomic_signal_fence(std::memory_order_seq_cst);
  *place = 0;
  --marks;
  set->taken_out.fetch_sub(1, std::memory_order_relaxed);
}

void TakeOutForGood() {
  for (uint32_t& place : marked) {
    if (place == 0) continue;
    Registration* const registration = RegistrationAt(place - 1);
    place = 0;
    if (!registration->in_use || !registration->taken_out || registration->set == nullptr) continue;
    const LockScope inner(registration->set->lock, CurrentTid());
    SilenceTakenOut(registration->set, registration);
    registration->in_use = registration->taken_out = false;
  }
  marks = 0;
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i)
    set->taken_out.store(0, std::memory_order_relaxed);
}

bool IsCovered(const Registration& registration) {
  return IsPlainLevel(registration.events) && IsPlainLevel(registration.asked) &&
         (KernelMaskOf(registration) & ~registration.asked) == 0 && IsOursAlone(registration.set);
}

bool Narrow(EpollSet* set, Registration* registration, uint32_t told) {
  if (registration->taken_out) return SilenceTakenOut(set, registration);
  return (told & ~kAlways & ~KernelMaskOf(*registration)) != 0 && IsCovered(*registration) &&
         UpdateKernel(set, IndexOfRegistration(registration), registration) == 0;
}

}  // namespace xenloop
