// poll, select and epoll in all their forms: timeouts become a timespec, invalid arguments go to
// the kernel to be refused, and so does every set that holds nothing of ours.

// libc's headers say that poll only writes `fds`, which is not so.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <limits>

#include "preload/abi/abi.h"
#include "preload/libc/errno.h"
#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll.h"
#include "preload/ready/poll.h"
#include "preload/ready/select.h"
#include "preload/side/bare_wait.h"
#include "preload/side/fd_table.h"
#include "preload/side/lowest_number.h"
#include "preload/side/mailbox.h"

using namespace xenloop;

namespace {

// Milliseconds, negative: for ever.
class Timeout {
 public:
  explicit Timeout(int timeout_ms)
      : forever_(timeout_ms < 0), value_{timeout_ms / 1000, timeout_ms % 1000 * 1000000L} {}
  const timespec* get() const { return forever_ ? nullptr : &value_; }

 private:
  const bool forever_;
  const timespec value_;
};

constexpr timespec kNow{0, 0};
bool Waits(const timespec* timeout) {
  return timeout == nullptr || timeout->tv_sec != 0 || timeout->tv_nsec != 0;
}

// Not less than is left.
int MillisecondsOf(const DatagramPatience& patience, int whole) {
  const timespec* const left = patience.left();
  if (left == nullptr) return -1;
  const int64_t rest = left->tv_sec * 1000 + (left->tv_nsec + 999999) / 1000000;
  return rest < whole ? static_cast<int>(rest) : whole;
}

EpollSet* Waitable(int epfd, const epoll_event* events, int max_events) {
  return events != nullptr && max_events > 0 ? FindEpollSet(epfd) : nullptr;
}

// Makes the program's call as it is where a bare wait is enough (side/bare_wait.h) and `is_kernels`
// says that nothing else is waited for than what the kernel has. False: not so.
template <class IsKernels, class Call>
inline bool WaitBarely(IsKernels is_kernels, Call call, int* result) {
  if (!BareWait::IsEnough()) return false;
  const BareWait bare;
  if (!BareWait::IsEnough() || !is_kernels()) return false;
  *result = call();
  return true;
}

int Created(int epfd) {
  if (epfd >= 0) {
    const KeepErrno keep_errno;
    if (CloseConcernsUs(epfd)) NumberIsNew(epfd);
    EpollCreated(epfd);
  }
  return epfd;
}

}  // namespace

XENLOOP_EXPORT int poll(pollfd* fds, nfds_t count, int timeout_ms) {
  BeforeUnknown();  // POLLNVAL, EBADF
  int by_kernel;
  if (WaitBarely([=] { return PollIsTheKernels(fds, count); },
                 [=] { return real::poll(fds, count, timeout_ms); }, &by_kernel))
    return by_kernel;
  DatagramWait datagrams;
  DatagramsOf(fds, count, &datagrams);
  const auto ask = [=](int milliseconds) {
    if (!PollConcernsUs(fds, count, PollCall::kPoll)) return real::poll(fds, count, milliseconds);
    return ReturnToLibc(Poll(fds, count, Timeout(milliseconds).get(), nullptr, PollCall::kPoll));
  };
  if (!datagrams.Any()) return ask(timeout_ms);
  const Timeout timeout(timeout_ms);
  return WaitForDatagrams(
      datagrams, timeout_ms != 0, timeout.get(), nullptr, [&] { return ask(0); },
      [&](const DatagramPatience& patience) { return ask(MillisecondsOf(patience, timeout_ms)); },
      [&](int ready) { return AddDatagrams(datagrams, fds, count, ready); });
}
XENLOOP_ALIAS(__poll, poll);

XENLOOP_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int timeout_ms, size_t fds_size) {
  if (fds_size / sizeof(*fds) < count) return real::__poll_chk(fds, count, timeout_ms, fds_size);
  return poll(fds, count, timeout_ms);
}

XENLOOP_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  BeforeUnknown();  // POLLNVAL, EBADF
  int by_kernel;
  if (WaitBarely([=] { return PollIsTheKernels(fds, count); },
                 [=] { return real::ppoll(fds, count, timeout, mask); }, &by_kernel))
    return by_kernel;
  DatagramWait datagrams;
  if (IsUsable(timeout)) DatagramsOf(fds, count, &datagrams);
  const auto ask = [=](const timespec* time) {
    if (!IsUsable(time) || !PollConcernsUs(fds, count, PollCall::kPpoll))
      return real::ppoll(fds, count, time, mask);
    return ReturnToLibc(Poll(fds, count, time, mask, PollCall::kPpoll));
  };
  if (!datagrams.Any()) return ask(timeout);
  return WaitForDatagrams(
      datagrams, Waits(timeout), timeout, mask, [&] { return ask(&kNow); },
      [&](const DatagramPatience& patience) { return ask(patience.left()); },
      [&](int ready) { return AddDatagrams(datagrams, fds, count, ready); });
}

XENLOOP_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout,
                               const sigset_t* mask, size_t fds_size) {
  if (fds_size / sizeof(*fds) < count) {
    return real::__ppoll_chk(fds, count, timeout, mask, fds_size);
  }
  return ppoll(fds, count, timeout, mask);
}

namespace {
// As on Linux, `timeout` becomes the time that was left.
int SelectStreams(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  const auto valid = [timeout] {
    return timeout == nullptr ||
           (MayWrite(timeout, sizeof *timeout) && timeout->tv_sec >= 0 && timeout->tv_usec >= 0);
  };
  if (!SelectConcernsUs(count, read, write, except) || !valid()) {
    return real::select(count, read, write, except, timeout);
  }
  if (timeout == nullptr) {
    return ReturnToLibc(
        Select(SelectName::kSelect, count, read, write, except, nullptr, nullptr, nullptr));
  }
  timespec allowed{0, timeout->tv_usec % 1000000 * 1000};
  // As libc: the longest there is, where the sum is more.
  if (__builtin_add_overflow(timeout->tv_sec, timeout->tv_usec / 1000000, &allowed.tv_sec))
    allowed = {std::numeric_limits<time_t>::max(), 999999999};
  timespec remaining = allowed;
  const int ready =
      Select(SelectName::kSelect, count, read, write, except, &allowed, &remaining, nullptr);
  *timeout = {remaining.tv_sec, remaining.tv_nsec / 1000};
  return ReturnToLibc(ready);
}
}  // namespace

XENLOOP_EXPORT int select(int count, fd_set* read, fd_set* write, fd_set* except,
                          timeval* timeout) {
  BeforeUnknown();  // POLLNVAL, EBADF
  int by_kernel;
  if (WaitBarely([=] { return SelectIsTheKernels(count, read, write, except); },
                 [=] { return real::select(count, read, write, except, timeout); }, &by_kernel))
    return by_kernel;
  DatagramWait datagrams;
  if (DatagramSides() != nullptr && (timeout == nullptr || MayWrite(timeout, sizeof *timeout)))
    DatagramsOf(count, read, &datagrams);
  const auto ask = [=](timeval* time) { return SelectStreams(count, read, write, except, time); };
  if (!datagrams.Any()) return ask(timeout);
  const bool waits = timeout == nullptr || timeout->tv_sec != 0 || timeout->tv_usec != 0;
  timeval now{0, 0};
  const timespec limit =
      timeout != nullptr ? timespec{timeout->tv_sec, timeout->tv_usec * 1000} : timespec{};
  const SelectQuestion question(count, read, write, except);
  const int result = WaitForDatagrams(
      datagrams, waits, timeout != nullptr ? &limit : nullptr, nullptr,
      [&] {
        question.AskAgain();
        return ask(&now);
      },
      [&](const DatagramPatience& patience) {
        question.AskAgain();
        if (timeout != nullptr && patience.left() != &limit)
          *timeout = {patience.left()->tv_sec, patience.left()->tv_nsec / 1000};
        return ask(timeout);
      },
      [&](int ready) { return AddDatagrams(datagrams, read, ready); });
  if (result < 0) question.AskAgain();
  return result;
}
XENLOOP_ALIAS(__select, select);

XENLOOP_EXPORT int pselect(int count, fd_set* read, fd_set* write, fd_set* except,
                           const timespec* timeout, const sigset_t* mask) {
  BeforeUnknown();  // POLLNVAL, EBADF
  int by_kernel;
  if (WaitBarely([=] { return SelectIsTheKernels(count, read, write, except); },
                 [=] { return real::pselect(count, read, write, except, timeout, mask); },
                 &by_kernel))
    return by_kernel;
  DatagramWait datagrams;
  if (DatagramSides() != nullptr && IsUsable(timeout)) DatagramsOf(count, read, &datagrams);
  const auto ask = [=](const timespec* time) {
    if (!IsUsable(time) || !SelectConcernsUs(count, read, write, except))
      return real::pselect(count, read, write, except, time, mask);
    return static_cast<int>(ReturnToLibc(
        Select(SelectName::kPselect, count, read, write, except, time, nullptr, mask)));
  };
  if (!datagrams.Any()) return ask(timeout);
  const SelectQuestion question(count, read, write, except);
  const int result = WaitForDatagrams(
      datagrams, Waits(timeout), timeout, mask,
      [&] {
        question.AskAgain();
        return ask(&kNow);
      },
      [&](const DatagramPatience& patience) {
        question.AskAgain();
        return ask(patience.left());
      },
      [&](int ready) { return AddDatagrams(datagrams, read, ready); });
  if (result < 0) question.AskAgain();
  return result;
}

XENLOOP_EXPORT int epoll_create(int size) {
  return Created(Numbered([=] { return real::epoll_create(size); }));
}

XENLOOP_EXPORT int epoll_create1(int flags) {
  return Created(Numbered([=] { return real::epoll_create1(flags); }));
}

XENLOOP_EXPORT int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) {
  EpollSet* const set = FindEpollSet(epfd);
  if (set == nullptr) {
    BeforeUnknown();
    const int result = real::epoll_ctl(epfd, operation, fd, event);
    const KeepErrno keep_errno;
    if (result == 0 && operation != EPOLL_CTL_DEL) EpollUnfollowed(fd);
    return result;
  }
  if (FdTable::IsEmpty(fd))
    return OnUnknown([=] { return real::epoll_ctl(epfd, operation, fd, event); });
  return ReturnToLibc(EpollControl(epfd, set, operation, fd, event));
}

XENLOOP_EXPORT int epoll_wait(int epfd, epoll_event* events, int max_events, int timeout_ms) {
  EpollSet* const set = Waitable(epfd, events, max_events);
  if (set == nullptr) return real::epoll_wait(epfd, events, max_events, timeout_ms);
  int by_kernel;
  if (WaitBarely([=] { return EpollSetIsTheKernels(set); },
                 [=] { return real::epoll_wait(epfd, events, max_events, timeout_ms); },
                 &by_kernel))
    return by_kernel;
  return ReturnToLibc(EpollWait(epfd, set, events, max_events, Timeout(timeout_ms).get(), nullptr,
                                EpollCall::kWait));
}

XENLOOP_EXPORT int epoll_pwait(int epfd, epoll_event* events, int max_events, int timeout_ms,
                               const sigset_t* mask) {
  EpollSet* const set = Waitable(epfd, events, max_events);
  if (set == nullptr) return real::epoll_pwait(epfd, events, max_events, timeout_ms, mask);
  int by_kernel;
  if (WaitBarely([=] { return EpollSetIsTheKernels(set); },
                 [=] { return real::epoll_pwait(epfd, events, max_events, timeout_ms, mask); },
                 &by_kernel))
    return by_kernel;
  return ReturnToLibc(
      EpollWait(epfd, set, events, max_events, Timeout(timeout_ms).get(), mask, EpollCall::kPwait));
}

XENLOOP_EXPORT int epoll_pwait2(int epfd, epoll_event* events, int max_events,
                                const timespec* timeout, const sigset_t* mask) {
  EpollSet* const set = IsUsable(timeout) ? Waitable(epfd, events, max_events) : nullptr;
  if (set == nullptr) return real::epoll_pwait2(epfd, events, max_events, timeout, mask);
  int by_kernel;
  if (WaitBarely([=] { return EpollSetIsTheKernels(set); },
                 [=] { return real::epoll_pwait2(epfd, events, max_events, timeout, mask); },
                 &by_kernel))
    return by_kernel;
  return ReturnToLibc(EpollWait(epfd, set, events, max_events, timeout, mask, EpollCall::kPwait2));
}
