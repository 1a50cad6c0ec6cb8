// The kernel's part of a poll or an epoll_wait, by the number of the program's own call. Results
// are counts or -errno.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include "preload/ready/epoll.h"
#include "preload/ready/poll.h"
#include "preload/side/interruption.h"

namespace xenloop {

// The program's call as it stands (a select: as a ppoll).
int KernelPoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
               PollCall call);
int KernelWait(int epfd, epoll_event* events, int max_events, const timespec* timeout,
               const sigset_t* mask, EpollCall call);

// The same where we have looked before, and sleep with descriptors of ours beside: only if no
// handler has begun since the program's call did (kHandlerBegan). Where another preloaded library
// defines the call, that is left to it, and a handler of the very last moment ends the wait when
// the next thing wakes it.
int SleepInPoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                PollCall call, const Interruption& interruption);
int SleepInEpoll(int epfd, epoll_event* events, int max_events, const timespec* timeout,
                 const sigset_t* mask, EpollCall call, const Interruption& interruption);

// Without waiting, and without libc: a cancellation point must not be met with a lock held.
int KernelLook(int epfd, epoll_event* events, int max_events, EpollCall call);

}  // namespace xenloop
