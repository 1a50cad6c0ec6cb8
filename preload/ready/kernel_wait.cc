// See kernel_wait.h.
#include "preload/ready/kernel_wait.h"

#include "preload/libc/errno.h"
#include "preload/libc/real.h"
#include "preload/ready/milliseconds.h"
#include "preload/side/wait.h"

namespace xenloop {
namespace {

constexpr long kKernelMaskBytes = 8;

// The program's call by its own number.
long NumberOf(EpollCall call) {
#ifdef SYS_epoll_wait
  if (call == EpollCall::kWait) return SYS_epoll_wait;
#endif
  return call == EpollCall::kPwait2 ? SYS_epoll_pwait2 : SYS_epoll_pwait;
}

bool IsAnotherLibrarys(EpollCall call) {
  switch (call) {
    case EpollCall::kWait:
      return real::epoll_wait.IsFromNextPreload();
    case EpollCall::kPwait:
      return real::epoll_pwait.IsFromNextPreload();
    case EpollCall::kPwait2:
      break;
  }
  return real::epoll_pwait2.IsFromNextPreload() || !real::epoll_pwait2.IsAvailable();
}

}  // namespace

int KernelPoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
               PollCall call) {
  return FromLibc([=] {
    return Cancellable([=] {
      return call == PollCall::kPoll ? real::poll(fds, count, Milliseconds(timeout))
                                     : real::ppoll(fds, count, timeout, mask);
    });
  });
}

int SleepInPoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                PollCall call, const Interruption& interruption) {
  BeforeLastLook();
  const uint64_t begun = HandlersBegun();
  if (interruption.EndsWait(mask)) return kHandlerBegan;
  const bool by_poll = call == PollCall::kPoll;
  if (by_poll ? real::poll.IsFromNextPreload() : real::ppoll.IsFromNextPreload())
    return KernelPoll(fds, count, timeout, mask, call);
#ifdef SYS_poll
  if (by_poll) {
    return static_cast<int>(CancellableSleep(begun, SYS_poll, sys::Word(fds),
                                             static_cast<long>(count), Milliseconds(timeout), 0));
  }
#endif
  return static_cast<int>(CancellableSleep(begun, SYS_ppoll, sys::Word(fds),
                                           static_cast<long>(count), sys::Word(timeout),
                                           sys::Word(mask), kKernelMaskBytes));
}

int KernelWait(int epfd, epoll_event* events, int max_events, const timespec* timeout,
               const sigset_t* mask, EpollCall call) {
  return FromLibc([=] {
    return Cancellable([=] {
      switch (call) {
        case EpollCall::kWait:
          return real::epoll_wait(epfd, events, max_events, Milliseconds(timeout));
        case EpollCall::kPwait:
          return real::epoll_pwait(epfd, events, max_events, Milliseconds(timeout), mask);
        case EpollCall::kPwait2:
          break;
      }
      return real::epoll_pwait2(epfd, events, max_events, timeout, mask);
    });
  });
}

int SleepInEpoll(int epfd, epoll_event* events, int max_events, const timespec* timeout,
                 const sigset_t* mask, EpollCall call, const Interruption& interruption) {
  BeforeLastLook();
  const uint64_t begun = HandlersBegun();
  if (interruption.EndsWait(mask)) return kHandlerBegan;
  if (IsAnotherLibrarys(call)) return KernelWait(epfd, events, max_events, timeout, mask, call);
  const long time =
      call == EpollCall::kPwait2 ? sys::Word(timeout) : static_cast<long>(Milliseconds(timeout));
  return static_cast<int>(CancellableSleep(begun, NumberOf(call), epfd, sys::Word(events),
                                           max_events, time, sys::Word(mask), kKernelMaskBytes));
}

int KernelLook(int epfd, epoll_event* events, int max_events, EpollCall call) {
  constexpr timespec kNow{0, 0};
  const long now = call == EpollCall::kPwait2 ? sys::Word(&kNow) : 0;
  return static_cast<int>(
      sys::Call(NumberOf(call), epfd, sys::Word(events), max_events, now, 0, kKernelMaskBytes));
}

}  // namespace xenloop
