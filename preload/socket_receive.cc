// What "receive" means on a socket that is (being) accelerated: try; wait; try again. Decides
// blocking, time-outs, low-water mark and the flags of recv; which byte comes from where is
// channel/stream.h's business.
#include <errno.h>
#include <pthread.h>

#include "preload/agent.h"
#include "preload/config.h"
#include "preload/hot.h"
#include "preload/real.h"
#include "preload/shadow.h"
#include "preload/socket.h"
#include "preload/wait.h"

namespace xenloop {
namespace {

constexpr int kUnderstoodFlags =
    MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;
constexpr uintptr_t kFirstMappableAddress = 4096;

// The stream ended without a seal: the peer died. If it left bytes of ours unread, TCP would have
// reset the connection. The unread bytes go to TCP now, whose reset tells the rest; the kernel's
// error is ours to report then.
bool ResetByDeadPeer(int fd, Side* side) {
  if (side->send.pending_error.exchange(0, std::memory_order_relaxed) == -ECONNRESET)
    return true;  // the agent saw it
  SocketShadow shadow(fd, side);
  {
    sys::SignalsBlocked blocked;
    LockScope scope(side->send.lock, CurrentTid());
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
        FindSide(fd) != side || side->send.fifo.AvailableBytes() == 0 || side->send.fifo.Sealed()) {
      return false;
    }
    side->send.BeginFlush(shadow);
    side->send.PumpResidue(shadow);
  }
  RequestService(side);
  tcp_info info;
  constexpr int kTcpClose = 7;  // include/net/tcp_states.h
  if (TcpInfoOf(fd, &info) != 0 || info.tcpi_state != kTcpClose) return false;
  int error = 0;
  socklen_t length = sizeof error;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, reinterpret_cast<long>(&error),
            reinterpret_cast<long>(&length));
  return true;
}

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

// `fd` changes when the program closes the descriptor while this call sleeps; the call then goes on
// as in the kernel.
ssize_t ReceiveOn(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                  int* message_flags) {
  pthread_testcancel();  // these calls are cancellation points even when they need not wait
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
    if (iov[i].iov_len > 0 &&
        reinterpret_cast<uintptr_t>(iov[i].iov_base) < kFirstMappableAddress &&
        (flags & MSG_TRUNC) == 0) {
      return -EFAULT;
    }
  }
  SocketShadow shadow(fd, side);
  IovCursor cursor(iov, iov_count);
  const size_t length = cursor.remaining();
  if (length == 0) {  // waits for data or the end all the same, as TCP does
    uint8_t byte;
    const iovec probe{&byte, 1};
    const ssize_t there =
        ReceiveOn(fd, side, &probe, 1, (flags & MSG_DONTWAIT) | MSG_PEEK, nullptr);
    return there > 0 ? 0 : there;
  }
  const bool discard = (flags & MSG_TRUNC) != 0;
  const bool peek = (flags & MSG_PEEK) != 0;
  const bool blocking =
      (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
  size_t target = 1;
  if ((flags & MSG_WAITALL) != 0) {
    target = length;
  } else if (const uint32_t low = side->receive_low_water.load(std::memory_order_relaxed);
             low > 1) {
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
    const ssize_t received = side->receive.TryReceive(shadow, discard ? nullptr : &cursor,
                                                      length - total, stream_flags, look, self);
    if (received > 0 && peek) {
      const size_t n = static_cast<size_t>(received);
      // A peek that waits for more looks again from the start; one that saw no more while looking
      // everywhere is done.
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
      if (total == 0 && !peek && ResetByDeadPeer(fd, side)) return -ECONNRESET;
      return static_cast<ssize_t>(total);
    } else if (received == kStreamUsesTcp) {
      if (side->receive.owed.exchange(0, std::memory_order_relaxed) > 0 && !blocking) {
        // The bytes were readable in the FIFO a moment ago: EAGAIN now would be a lie. They are on
        // their way.
        pollfd entry{fd, POLLIN, 0};
        const timespec patience{0, 100000000};
        sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&patience),
                  0, 8);
      }
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
    BlockedCall blocked(fd, side);
    const int error = Sleep(request, deadline, total > 0);
    const bool found = blocked.Woken(&fd);
    request.word = nullptr;
    look = false;
    if (error != 0) {
      if (total > 0 || seen > 0) return static_cast<ssize_t>(total > 0 ? total : seen);
      return error;
    }
    if (!found) return total > 0 ? static_cast<ssize_t>(total) : kUseKernel;
    shadow = SocketShadow(fd, side);
  }
}

}  // namespace

bool EnterKernelReceive(Side* side) {
  CountOperation(side);
  return side->receive.EnterKernel(CurrentSelf());
}
ssize_t LeaveKernelReceive(Side* side, ssize_t result) {
  side->receive.LeaveKernel(CurrentSelf());
  if (result != 0 || side->send.pending_error.load(std::memory_order_relaxed) == 0) return result;
  // The agent met the connection's error while it flushed; the kernel tells it once only.
  const int32_t error = side->send.pending_error.exchange(0, std::memory_order_relaxed);
  if (error == 0) return result;
  errno = -error;
  return -1;
}

ssize_t Receive(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                int* message_flags) {
  int number = fd;
  const ssize_t received = ReceiveOn(number, side, iov, iov_count, flags, message_flags);
  if (number == fd) return received;
  // The program closed the descriptor while we slept; this call was the last user of the
  // connection.
  ssize_t result = received;
  if (result == kUseKernel) {
    IovCursor cursor(iov, iov_count);
    result = ReceiveRestFromKernel(number, cursor, cursor.remaining(), flags);
  }
  FinishOrphan(number, side);
  return result;
}

}  // namespace xenloop
