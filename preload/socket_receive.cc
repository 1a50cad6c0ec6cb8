// What "receive" means on a socket that is (being) accelerated: try; wait; try again. Decides blocking, time-outs,
// low-water mark and the flags of recv; which byte comes from where is channel/stream.h's business.
#include <errno.h>

#include "preload/agent.h"
#include "preload/config.h"
#include "preload/hot.h"
#include "preload/real.h"
#include "preload/shadow.h"
#include "preload/socket.h"
#include "preload/wait.h"

namespace xenloop {
namespace {

constexpr int kUnderstoodFlags = MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;
constexpr uintptr_t kFirstMappableAddress = 4096;

// The rest of a MSG_WAITALL receive whose route went back to TCP in the middle.
ssize_t ReceiveRestFromKernel(int fd, const IovCursor& cursor, size_t limit, int flags) {
  iovec rest[64];
  msghdr message = {};
  message.msg_iov = rest;
  message.msg_iovlen = cursor.Rest(rest, 64, limit);
  const int saved = errno;
  const ssize_t received = real::recvmsg(fd, &message, flags);
  if (received >= 0) return received;
  const int error = errno;
  errno = saved;
  return -error;
}

}  // namespace

bool EnterKernelReceive(Side* side) {
  CountOperation(side);
  return side->receive.EnterKernel(CurrentSelf());
}
void LeaveKernelReceive(Side* side, ssize_t) { side->receive.LeaveKernel(CurrentSelf()); }

ssize_t Receive(int fd, Side* side, const iovec* iov, size_t iov_count, int flags, int* message_flags) {
  if (message_flags != nullptr) *message_flags = 0;
  if (!IsOurs(side)) {
    FallBack(fd, side, "used by a forked process");
    return kUseKernel;
  }
  if ((flags & ~kUnderstoodFlags) != 0) {
    FallBack(fd, side, "receive with unusual flags");
    return kUseKernel;
  }
  if (SwitchDue(side)) {
    FallBack(fd, side, "switch_every is set");
    return kUseKernel;
  }
  for (size_t i = 0; i < iov_count; ++i) {
    if (iov[i].iov_len > 0 && reinterpret_cast<uintptr_t>(iov[i].iov_base) < kFirstMappableAddress &&
        (flags & MSG_TRUNC) == 0) {
      return -EFAULT;
    }
  }
  SocketShadow shadow(fd, side);
  IovCursor cursor(iov, iov_count);
  const size_t length = cursor.remaining();
  if (length == 0) return 0;
  const bool discard = (flags & MSG_TRUNC) != 0;
  const bool peek = (flags & MSG_PEEK) != 0;
  const bool blocking = (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
  size_t target = 1;
  if ((flags & MSG_WAITALL) != 0) {
    target = length;
  } else if (const uint32_t low = side->receive_low_water.load(std::memory_order_relaxed); low > 1) {
    target = low < length ? low : length;
  }
  const int stream_flags = flags & (MSG_PEEK | MSG_TRUNC);
  const Self self = CurrentSelf();
  uint64_t deadline = kNoDeadline;
  bool deadline_known = false;
  WakeRequest request{nullptr, 0};
  size_t total = 0;
  size_t seen = 0;  // with MSG_PEEK: what the last look saw
  bool look = !blocking;
  for (;;) {
    const ssize_t received =
        side->receive.TryReceive(shadow, discard && !peek ? nullptr : &cursor, length - total, stream_flags, look, self);
    if (received > 0 && peek) {
      const size_t n = static_cast<size_t>(received);
      // A peek that waits for more looks again from the start; one that saw no more while looking everywhere is done.
      if (n >= target || !blocking || (look && n == seen && shadow.Readable())) return received;
      seen = n;
      cursor = IovCursor(iov, iov_count);
    } else if (received > 0) {
      total += static_cast<size_t>(received);
      if (total >= target) return static_cast<ssize_t>(total);
      if (!blocking && (flags & MSG_WAITALL) == 0) return static_cast<ssize_t>(total);
      request.word = nullptr;
      continue;
    } else if (received == 0) {
      return static_cast<ssize_t>(total);
    } else if (received == kStreamUsesTcp) {
      if (total == 0) return kUseKernel;
      if ((flags & MSG_WAITALL) == 0 || discard) return static_cast<ssize_t>(total);
      const ssize_t rest = ReceiveRestFromKernel(fd, cursor, length - total, flags);
      return static_cast<ssize_t>(total) + (rest > 0 ? rest : 0);
    } else if (received != -EAGAIN) {
      return total > 0 ? static_cast<ssize_t>(total) : received;
    }
    if (!blocking) return total > 0 ? static_cast<ssize_t>(total) : -EAGAIN;
    if (!deadline_known) {
      deadline = DeadlineAfter(side->receive_timeout_us.load(std::memory_order_relaxed));
      deadline_known = true;
    }
    if (request.word == nullptr) {
      look = false;
      if (!(peek && seen > 0) && SpinFor(side, Wanted::kData, self)) continue;
      request = RequestWake(fd, side, Wanted::kData, self);
      look = true;
      continue;  // look once more, everywhere, now that a wake-up is requested
    }
    const int error = Sleep(request, deadline);
    request.word = nullptr;
    look = false;
    if (error != 0) {
      if (total > 0 || seen > 0) return static_cast<ssize_t>(total > 0 ? total : seen);
      return error;
    }
    if (FindSide(fd) != side) return total > 0 ? static_cast<ssize_t>(total) : kUseKernel;
  }
}

}  // namespace xenloop
