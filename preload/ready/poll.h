// poll and ppoll on followed sockets.
#pragma once

#include <poll.h>
#include <signal.h>
#include <time.h>

namespace xenloop {

// True if one of the descriptors needs Poll() below (is a followed socket or an epoll set with
// such).
bool PollConcernsUs(const pollfd* fds, nfds_t count);
// As ppoll(2); timeout null: for ever. Returns -errno.
int Poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask);

}  // namespace xenloop
