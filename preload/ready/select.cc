// select and pselect, as a poll of the same descriptors.
#include "preload/ready/select.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "channel/base/time.h"
#include "preload/ready/epoll.h"
#include "preload/ready/poll.h"
#include "preload/ready/scratch.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {

namespace {
constexpr short kSelectRead = POLLIN | POLLRDNORM | POLLRDBAND;
constexpr short kSelectWrite = POLLOUT | POLLWRNORM | POLLWRBAND;

bool Has(const fd_set* set, int fd) {
  // The program's set may be larger than FD_SETSIZE; index its words ourselves.
  const auto* words = reinterpret_cast<const unsigned long*>(set);
  return set != nullptr && ((words[fd / 64] >> (fd % 64)) & 1) != 0;
}
void Put(fd_set* set, int fd) {
  reinterpret_cast<unsigned long*>(set)[fd / 64] |= 1ul << (fd % 64);
}
void Wipe(fd_set* set, int count) {
  if (set != nullptr) memset(set, 0, static_cast<size_t>((count + 63) / 64) * 8);
}
}  // namespace

bool SelectConcernsUs(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (!process_state.ready || count < 0 || count > FdTable::kMaxFds) return false;
  bool concerns = false;
  for (int fd = 0; fd < count; ++fd) {
    if (!Has(read, fd) && !Has(write, fd) && !Has(except, fd)) continue;
    concerns = concerns || FindSide(fd) != nullptr;
    if (EpollSet* set = FindEpollSet(fd)) EpollSetIsWatched(set);
  }
  return concerns;
}

int Select(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
           timespec* remaining, const sigset_t* mask) {
  const uint64_t start = sys::MonotonicNs();
  nfds_t n = 0;
  for (int fd = 0; fd < count; ++fd)
    n += Has(read, fd) || Has(write, fd) || Has(except, fd) ? 1 : 0;
  pollfd stack_fds[kOnStack + 1];
  const Scratch<pollfd> scratch(stack_fds, n);
  if (scratch.get() == nullptr) return -ENOMEM;
  pollfd* fds = scratch.get();
  n = 0;
  for (int fd = 0; fd < count; ++fd) {
    const short events =
        static_cast<short>((Has(read, fd) ? kSelectRead : 0) | (Has(write, fd) ? kSelectWrite : 0) |
                           (Has(except, fd) ? POLLPRI : 0));
    if (events != 0) fds[n++] = pollfd{fd, events, 0};
  }
  int result = Poll(fds, n, timeout, mask);
  for (nfds_t i = 0; result > 0 && i < n; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) result = -EBADF;
  }
  if (remaining != nullptr && timeout != nullptr) {
    *remaining = ToTimespec(NsUntil(start + ToNs(*timeout)));
  }
  if (result < 0) return result;
  Wipe(read, count);
  Wipe(write, count);
  Wipe(except, count);
  int bits = 0;
  for (nfds_t i = 0; i < n; ++i) {
    const short found = fds[i].revents;
    if ((fds[i].events & POLLIN) != 0 && (found & (kSelectRead | POLLHUP | POLLERR)) != 0) {
      Put(read, fds[i].fd);
      ++bits;
    }
    if ((fds[i].events & POLLOUT) != 0 && (found & (kSelectWrite | POLLERR)) != 0) {
      Put(write, fds[i].fd);
      ++bits;
    }
    if ((fds[i].events & POLLPRI) != 0 && (found & POLLPRI) != 0) {
      Put(except, fds[i].fd);
      ++bits;
    }
  }
  return bits;
}

}  // namespace xenloop
