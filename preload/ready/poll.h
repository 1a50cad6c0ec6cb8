// poll and ppoll on followed sockets.
#pragma once

#include <poll.h>
#include <signal.h>
#include <time.h>

#include <cstdint>

namespace xenloop {

// Nothing of them is on a FIFO, nor can be before a bare wait (side/bare_wait.h) for them is over.
bool PollIsTheKernels(const pollfd* fds, nfds_t count);
// The call that the program made: poll and ppoll are made as they are. A select is made by
// `select`, which is asked while none of the descriptors is on a FIFO, and whose answer is final.
enum class PollCall : uint8_t { kPoll, kPpoll, kSelect };
// True if one of the descriptors needs Poll() below (is a followed socket or an epoll set with
// such).
bool PollConcernsUs(pollfd* fds, nfds_t count, PollCall call);
struct SelectCall {
  int (*make)(SelectCall* self, const timespec* left);  // -errno
  bool answered = false;
};
// As that call; timeout null: for ever. Returns -errno.
int Poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, PollCall call,
         SelectCall* select = nullptr);

}  // namespace xenloop
