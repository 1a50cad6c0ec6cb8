// select and pselect, as a poll of the same descriptors.
#include "preload/ready/select.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "channel/base/time.h"
#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/real.h"
#include "preload/ready/epoll.h"
#include "preload/ready/poll.h"
#include "preload/ready/readiness.h"
#include "preload/ready/scratch.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"

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
size_t BytesOf(int count) { return (static_cast<size_t>(count) + 63) / 64 * 8; }
// What is numbered above all that we know is the kernel's.
int KnownBelow(int count) { return FdTable::End() < count ? FdTable::End() : count; }
bool IsThere(const fd_set* set, int count) {
  return set == nullptr || MayRead(set, BytesOf(count));
}
bool IsWritable(fd_set* set, int count) { return set == nullptr || MayWrite(set, BytesOf(count)); }
void Wipe(fd_set* set, int count) {
  if (set != nullptr) memset(set, 0, BytesOf(count));
}
// As the kernel tells it, also of centuries: what is left of `allowed`.
timespec Remaining(const timespec& allowed, uint64_t spent_ns) {
  const timespec spent = ToTimespec(spent_ns);
  timespec left{allowed.tv_sec - spent.tv_sec, allowed.tv_nsec - spent.tv_nsec};
  if (left.tv_nsec < 0) {
    left.tv_nsec += static_cast<long>(kNsPerSecond);
    --left.tv_sec;
  }
  return left.tv_sec < 0 ? timespec{0, 0} : left;
}
// The program's own call, on its own sets.
struct BySelect : SelectCall {
  int count;
  fd_set* read;
  fd_set* write;
  fd_set* except;
  const sigset_t* mask;
  SelectName name;

  static int Make(SelectCall* base, const timespec* left) {
    auto* const self = static_cast<BySelect*>(base);
    const int ready = FromLibc([=] { return Cancellable([=] { return self->Ask(left); }); });
    self->answered = ready >= 0;
    return ready;
  }

 private:
  int Ask(const timespec* left) const {
    if (name == SelectName::kPselect) return real::pselect(count, read, write, except, left, mask);
    if (left == nullptr) return real::select(count, read, write, except, nullptr);
    timeval time{left->tv_sec, (left->tv_nsec + 999) / 1000};
    if (time.tv_usec > 999999) time = {time.tv_sec + 1, 0};
    return real::select(count, read, write, except, &time);
  }
};

}  // namespace

bool SelectIsTheKernels(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (!MayKnow()) return true;  // as PollIsTheKernels
  if (process_state.in_doubt) return false;
  const int end = KnownBelow(count);
  if (!IsThere(read, end) || !IsThere(write, end) || !IsThere(except, end)) return false;
  bool all = true;
  EachSelected(end, read, write, except, [&all](int fd) { all = all && IsTheKernels(fd); });
  return all;
}

namespace {
// In a doubt no call of ours may ask about the program's memory, and select has no look that leaves
// it as it is: each set that could be named there counts as watched.
void MayBeWatched(int end) {
  for (int fd = 0; fd < end; fd = FdTable::Next(fd)) {
    if (EpollSet* const set = FindEpollSet(fd)) EpollSetIsWatched(set);
  }
}
}  // namespace

bool SelectConcernsUs(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (!MayKnow() || count < 0) return false;
  const int end = KnownBelow(count);
  if (process_state.in_doubt) {
    MayBeWatched(end);
    return false;
  }
  if (!IsThere(read, end) || !IsThere(write, end) || !IsThere(except, end)) return false;
  bool concerns = false;
  EachSelected(end, read, write, except, [&concerns](int fd) {
    concerns = concerns || FindSide(fd) != nullptr;
    EpollSet* const set = FindEpollSet(fd);
    if (set != nullptr) EpollSetIsWatched(set);
    concerns = concerns || set != nullptr;
  });
  return concerns && process_state.ready;
}

int Select(SelectName name, int count, fd_set* read, fd_set* write, fd_set* except,
           const timespec* timeout, timespec* remaining, const sigset_t* mask) {
  if (!IsWritable(read, count) || !IsWritable(write, count) || !IsWritable(except, count))
    return -EFAULT;
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
  BySelect own{{&BySelect::Make}, count, read, write, except, mask, name};
  int result = Poll(fds, n, timeout, mask, PollCall::kSelect, &own);
  for (nfds_t i = 0; result > 0 && i < n; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) result = -EBADF;
  }
  if (remaining != nullptr && timeout != nullptr) {
    // When the time is up nothing is left, also by a clock that stands still.
    *remaining = result != 0 ? Remaining(*timeout, sys::MonotonicNs() - start) : timespec{0, 0};
  }
  if (result < 0 || own.answered) return result;
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
