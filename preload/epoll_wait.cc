// Waiting on an epoll set: what the kernel reports, plus what FIFOs hold, in the program's own
// terms.
#include <errno.h>
#include <pthread.h>

#include "preload/agent.h"
#include "preload/config.h"
#include "preload/epoll.h"
#include "preload/fd_table.h"
#include "preload/readiness.h"
#include "preload/real.h"
#include "preload/socket.h"
#include "preload/wait.h"

namespace xenloop {
namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kRead = EPOLLIN | EPOLLRDNORM;
constexpr uint32_t kWrite = EPOLLOUT | EPOLLWRNORM;

std::atomic<uint64_t> next_token{1};  // tells one look at a set from another

// What to report for a converted registration, given what the kernel says. Under the set's lock.
uint32_t Evaluate(uint32_t index, uint32_t from_kernel, Self self) {
  Registration* registration = RegistrationAt(index);
  if (registration->disabled) return 0;
  if (!registration->converted) return from_kernel & (registration->events | kAlways);
  Side* side = registration->side;
  const uint32_t wanted = registration->events;
  const bool edge = (wanted & EPOLLET) != 0;
  uint32_t events = from_kernel & ((wanted & ~kWrite) | kAlways);
  if (edge && side->send.blocked.load(std::memory_order_relaxed) != 0)
    registration->out_reported = false;
  const bool want_room = (wanted & kWrite) != 0 && !(edge && registration->out_reported);
  const FifoReadiness ready = ReadinessOf(registration->fd, side, want_room, self);
  bool news = events != 0;
  if (ready.in && (!edge || ready.published != registration->reported)) {
    events |= kRead & wanted;
    news = news || (kRead & wanted) != 0;
    registration->reported = ready.published;
  }
  const bool room =
      want_room && (ready.out || (ready.out_from_kernel && KernelWritable(registration->fd)));
  // While sends go by TCP it is the kernel that must wake us when there is room again.
  const bool ask_kernel = want_room && !room && ready.out_from_kernel;
  if (ask_kernel != registration->kernel_out) {
    registration->kernel_out = ask_kernel;
    UpdateKernel(registration->set, index, registration);
  }
  if (room) {
    events |= kWrite & wanted;
    news = true;
    if (edge) {
      registration->out_reported = true;
      side->send.blocked.store(0, std::memory_order_relaxed);
    }
  }
  if (!news || events == 0) return 0;
  // As the kernel does, an edge tells the whole state: room that was told before is told again with
  // new data.
  if (edge && (wanted & kWrite) != 0 && !room &&
      side->send.blocked.load(std::memory_order_relaxed) == 0) {
    events |= kWrite & wanted;
  }
  if (edge && ready.in) events |= kRead & wanted;
  return events;
}

void Fired(EpollSet* set, uint32_t index, Registration* registration) {
  if ((registration->events & EPOLLONESHOT) == 0) return;
  registration->disabled = true;
  UpdateKernel(set, index, registration);
}

// Adds the ready converted registrations to events[count...]; returns the new count.
int Collect(EpollSet* set, epoll_event* events, int count, int max_events, uint64_t token,
            Self self) {
  if (set->converted.load(std::memory_order_relaxed) == 0 || count >= max_events) return count;
  LockScope scope(set->lock, self.tid);
  if (scope.result() == LockResult::kReentered) return count;
  uint32_t link = set->first_converted;
  while (link != 0 && count < max_events) {
    Registration* registration = RegistrationAt(link - 1);
    const uint32_t next = registration->next_in_set;
    // What the kernel reported in this call was evaluated with its FIFO already.
    const bool done = registration->token == token;
    const uint32_t found = done ? 0 : Evaluate(link - 1, 0, self);
    if (!done) {
      registration->token = token;
      registration->position = found != 0 ? count : -1;
    }
    if (found != 0) {
      events[count].events = found;
      events[count].data.u64 = registration->data;
      ++count;
      Fired(set, link - 1, registration);
    }
    link = next;
  }
  if (link != 0 && count == max_events) {
    // More may be ready than fits: begin with them next time, and let another sleeper have them
    // now.
    const uint32_t first = set->first_converted;
    Registration* rest = RegistrationAt(link - 1);
    if (first != link) {
      // Rotate the list: [first .. before rest) goes behind the last.
      uint32_t last = link;
      while (RegistrationAt(last - 1)->next_in_set != 0)
        last = RegistrationAt(last - 1)->next_in_set;
      Registration* tail_of_first = RegistrationAt(rest->previous_in_set - 1);
      tail_of_first->next_in_set = 0;
      rest->previous_in_set = 0;
      RegistrationAt(last - 1)->next_in_set = first;
      RegistrationAt(first - 1)->previous_in_set = last;
      set->first_converted = link;
    }
    RingOwnDoorbell();
  }
  return count;
}

// Turns what the kernel returned at events[first, first + count) into what the program registered,
// in place; returns how many events there are now. What this look has reported already is merged:
// one descriptor, one event.
int Translate(EpollSet* set, epoll_event* events, int first, int count, uint64_t token, Self self) {
  int kept = first;
  for (int i = first; i < first + count; ++i) {
    uint32_t index;
    if (!IsTag(events[i].data.u64, &index)) {
      events[kept++] = events[i];
      continue;
    }
    if (index == kDoorbellIndex) continue;
    LockScope scope(set->lock, self.tid);
    Registration* registration = RegistrationAt(index);
    if (registration == nullptr || !registration->in_use || registration->set != set) continue;
    if (registration->token == token && registration->position >= 0) {
      events[registration->position].events |=
          events[i].events & ((registration->events & ~kWrite) | kAlways);
      continue;
    }
    const uint32_t found = Evaluate(index, events[i].events, self);
    registration->token = token;
    registration->position = found != 0 ? kept : -1;
    if (found == 0) continue;
    events[kept].events = found;
    events[kept].data.u64 = registration->data;
    ++kept;
    Fired(set, index, registration);
  }
  return kept;
}

int KernelWait(int epfd, epoll_event* events, int max_events, const timespec* timeout,
               const sigset_t* mask) {
  const int saved = errno;
  const int count = real::epoll_pwait2(epfd, events, max_events, timeout, mask);
  if (count >= 0) return count;
  const int error = errno;
  errno = saved;
  return -error;
}

bool Remaining(const timespec* timeout, uint64_t deadline_ns, timespec* left) {
  if (timeout == nullptr) return true;
  const uint64_t now = sys::MonotonicNs();
  const uint64_t rest = now < deadline_ns ? deadline_ns - now : 0;
  left->tv_sec = static_cast<time_t>(rest / 1000000000u);
  left->tv_nsec = static_cast<long>(rest % 1000000000u);
  return rest > 0;
}

}  // namespace

int EpollWait(int epfd, EpollSet* set, epoll_event* events, int max_events, const timespec* timeout,
              const sigset_t* mask) {
  pthread_testcancel();  // these calls are cancellation points even when they need not wait
  if (max_events <= 0) return KernelWait(epfd, events, max_events, timeout, mask);
  const Self self = CurrentSelf();
  static constexpr timespec kNow{0, 0};
  const uint64_t deadline = timeout == nullptr
                                ? 0
                                : sys::MonotonicNs() +
                                      static_cast<uint64_t>(timeout->tv_sec) * 1000000000u +
                                      static_cast<uint64_t>(timeout->tv_nsec);
  bool may_spin = true;
  for (;;) {
    const uint64_t token = next_token.fetch_add(1, std::memory_order_relaxed);
    timespec left = kNow;
    const bool can_wait = Remaining(timeout, deadline, &left);
    if (set->converted.load(std::memory_order_acquire) == 0) {
      // A conversion meanwhile puts the doorbell into the set and rings it: we come round and look
      // at FIFOs.
      const int count =
          KernelWait(epfd, events, max_events, timeout == nullptr ? nullptr : &left, mask);
      if (count <= 0) return count;
      const int kept = Translate(set, events, 0, count, token, self);
      if (kept > 0) return kept;
      continue;
    }
    // What the kernel has ready and what FIFOs hold, in one answer, as the kernel would give it;
    // each goes first in turn so that neither starves the other when the program takes few at a
    // time.
    const bool kernel_first = (++set->turn & 1) != 0;
    int count = 0;
    if (!kernel_first) count = Collect(set, events, 0, max_events, token, self);
    while (count < max_events) {
      const int more = KernelWait(epfd, events + count, max_events - count, &kNow, nullptr);
      if (more < 0 && count == 0) return more;
      if (more <= 0) break;
      const int before = count;
      count = Translate(set, events, count, more, token, self);
      if (count > before || more < max_events - before)
        break;  // else our doorbell took the last place: ask again
    }
    if (kernel_first) count = Collect(set, events, count, max_events, token, self);
    if (count == 0 && can_wait && may_spin && GetConfig().spin_us != 0) {
      const uint32_t budget = SharedSpinBudgetUs();
      uint64_t start = 0;
      uint32_t turns = 0;
      bool from_kernel = false;
      while (budget != 0 && SpinTurn(&start, budget, &turns)) {
        count = Collect(set, events, 0, max_events,
                        next_token.fetch_add(1, std::memory_order_relaxed), self);
        if (count > 0) break;
        if ((turns & 31) == 0) {
          count = KernelWait(epfd, events, max_events, &kNow, mask);
          from_kernel = count > 0;
          if (count != 0) break;
        }
      }
      if (count < 0) return count;
      if (from_kernel)
        count = Translate(set, events, 0, count, next_token.fetch_add(1, std::memory_order_relaxed),
                          self);
      SharedSpinEnded(count > 0);
      may_spin = false;
    }
    if (count > 0) return count;
    AddSleeper();
    count = Collect(set, events, 0, max_events, next_token.fetch_add(1, std::memory_order_relaxed),
                    self);
    if (count > 0) {
      RemoveSleeper();
      return count;
    }
    const bool for_ever = timeout == nullptr;
    const int woken = KernelWait(epfd, events, max_events, for_ever ? nullptr : &left, mask);
    RemoveSleeper();
    if (woken < 0) return woken;
    const uint64_t last = next_token.fetch_add(1, std::memory_order_relaxed);
    count = Translate(set, events, 0, woken, last, self);
    count = Collect(set, events, count, max_events, last, self);
    if (count > 0) return count;
    if (woken == 0 && !for_ever) return 0;
  }
}

}  // namespace xenloop
