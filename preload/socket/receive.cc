// What "receive" means on a socket that is (being) accelerated: try; wait; try again. Decides
// blocking, time-outs, low-water mark and the flags of recv; which byte comes from where is
// channel/stream.h's business.
#include <errno.h>
#include <pthread.h>

#include "preload/agent/hot.h"
#include "preload/libc/real.h"
#include "preload/settings/config.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/wait.h"
#include "preload/socket/blocked_call.h"
#include "preload/socket/socket.h"

namespace xenloop {
namespace {

constexpr int kUnderstoodFlags =
    MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;
constexpr uintptr_t kFirstMappableAddress = 4096;

// The stream ended without a seal, so the peer has died. If it died with bytes of ours unread, TCP
// alone would have reset the connection. So these bytes go to TCP now: there is nobody to take
// them, and the reset that the kernel answers with is ours to report.
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
  // What the kernel says of the flush (a broken pipe) is not news for the program.
  int error = 0;
  socklen_t length = sizeof error;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, reinterpret_cast<long>(&error),
            reinterpret_cast<long>(&length));
  return true;
}

// What a receive whose route went back to TCP in the middle still takes from there: at least
// `target` bytes if it may wait, at most `limit`.
ssize_t ReceiveRestFromKernel(int fd, const IovCursor& cursor, size_t target, size_t limit,
                              int flags) {
  IovCursor left = cursor;
  size_t total = 0;
  while (total < limit) {
    const bool enough = total >= target;
    iovec rest[64];
    msghdr message = {};
    message.msg_iov = rest;
    message.msg_iovlen = left.Rest(rest, 64, (enough ? limit : target) - total);
    size_t asked = 0;
    for (size_t i = 0; i < message.msg_iovlen; ++i) asked += rest[i].iov_len;
    const int saved = errno;
    const ssize_t received =
        real::recvmsg(fd, &message, flags | (enough ? MSG_DONTWAIT : MSG_WAITALL));
    if (received < 0) {
      const int error = errno;
      errno = saved;
      return total > 0 ? static_cast<ssize_t>(total) : -error;
    }
    total += static_cast<size_t>(received);
    if (static_cast<size_t>(received) < asked || (flags & MSG_PEEK) != 0) break;
    if ((flags & MSG_TRUNC) == 0) left.Skip(static_cast<size_t>(received));
  }
  return static_cast<ssize_t>(total);
}

size_t LowWaterMark(Side* side) {
  const size_t low = side->receive_low_water.load(std::memory_order_relaxed);
  if (low <= 1) return low;
  LockScope scope(side->receive.lock, CurrentTid());
  // More than the FIFO holds would never come.
  const size_t most = side->receive.fifo ? side->receive.fifo.capacity_bytes / 2 : low;
  return low < most ? low : most;
}

// What a receive from the kernel has taken out of TCP's queue.
void CountTaken(Side* side, int flags, ssize_t received) {
  if (received <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0) return;
  if ((flags & MSG_OOB) != 0) {
    side->receive.ForgetPosition();
  } else {
    side->receive.CountTaken(static_cast<uint64_t>(received));
  }
}

ssize_t ReceiveOn(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                  int* message_flags);

// With a low-water mark a blocking receive takes nothing until there is enough (or the end, or no
// time left): if the route changes meanwhile, all of it is on the new one then.
ssize_t ReceiveAtLeast(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                       int* message_flags) {
  const uint64_t deadline = DeadlineAfter(side->receive_timeout_us.load(std::memory_order_relaxed));
  for (;;) {
    const ssize_t there =
        ReceiveOn(fd, side, iov, iov_count, flags | MSG_PEEK | MSG_TRUNC, message_flags);
    if (there == kUseKernel) {
      // Not by a blocking receive of the kernel: it would take what is there and then not be woken
      // by fewer bytes than the mark. Its poll knows the mark.
      if (!side->receive.EnterKernel(CurrentSelf())) continue;
      int error = 0;
      const ssize_t taken = InKernel(&side->receive, [&] {
        error = SleepUntilReadable(fd, deadline);
        const IovCursor cursor(iov, iov_count);
        return ReceiveRestFromKernel(fd, cursor, 0, cursor.remaining(), flags);
      });
      CountTaken(side, flags, taken);
      side->receive.LeaveKernel(CurrentSelf());
      if (taken == 0 && side->receive.residue_due.load(std::memory_order_relaxed) != 0)
        return kUseKernel;  // LeaveKernelReceive has a look at what a dead peer left
      if (taken != -EAGAIN || error != 0) return taken != -EAGAIN ? taken : error;
      continue;
    }
    const ssize_t taken = ReceiveOn(fd, side, iov, iov_count, flags | MSG_DONTWAIT, message_flags);
    if (taken != -EAGAIN || there < 0) return taken != -EAGAIN ? taken : there;
  }
}

void AwaitOwed(int fd) {
  pollfd entry{fd, POLLIN, 0};
  const timespec patience{0, 100000000};
  sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&patience), 0, 8);
}

// `fd` changes when the program closes the descriptor while this call sleeps; the call then goes on
// as in the kernel.
ssize_t ReceiveOn(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                  int* message_flags) {
  pthread_testcancel();  // these calls are cancellation points even when they need not wait
  if (message_flags != nullptr) *message_flags = 0;
  const bool inherited =
      side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kInherited;
  if (!inherited) {
    const Reason obstacle = !IsOurs(side)                      ? Reason::kUsedByChild
                            : (flags & ~kUnderstoodFlags) != 0 ? Reason::kReceiveFlags
                            : SwitchDue(side)                  ? Reason::kSwitchEvery
                                                               : Reason::kNone;
    if (obstacle != Reason::kNone) {
      FallBack(fd, side, obstacle);
      return kUseKernel;
    }
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
  size_t target = (flags & MSG_WAITALL) != 0 ? length : 1;
  if (const size_t low = LowWaterMark(side); low > 1 && (flags & MSG_WAITALL) == 0) {
    target = low < length ? low : length;
    if (blocking && !peek) return ReceiveAtLeast(fd, side, iov, iov_count, flags, message_flags);
  }
  const int stream_flags = flags & (MSG_PEEK | MSG_TRUNC);
  const Self self = CurrentSelf();
  uint64_t deadline = kNoDeadline;
  bool deadline_known = false;
  WakeRequest request{nullptr, 0, false};
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
      if (inherited) RequestService(side);  // it may be the last of what a dead peer left
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
        AwaitOwed(fd);
      }
      if (total == 0) return kUseKernel;
      if (total >= target) return static_cast<ssize_t>(total);
      // Nobody goes over to a FIFO while we wait there.
      if (!side->receive.EnterKernel(self)) continue;
      const ssize_t rest = InKernel(&side->receive, [&] {
        return ReceiveRestFromKernel(fd, cursor, target - total, length - total, flags);
      });
      CountTaken(side, flags, rest);
      side->receive.LeaveKernel(self);
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
bool LeaveKernelReceive(int fd, Side* side, int flags, ssize_t* result) {
  if (*result > 0) CountTaken(side, flags, *result);
  side->receive.LeaveKernel(CurrentSelf());
  if (*result > 0) return true;
  if (*result < 0 && errno == EAGAIN && side->receive.owed.load(std::memory_order_relaxed) > 0) {
    // The agent has ended a FIFO, and the program may have been told that it held bytes: these
    // come by TCP now. Wait for them, and start over.
    side->receive.owed.store(0, std::memory_order_relaxed);
    bool come = true;
    {
      sys::SignalsBlocked blocked;
      LockScope scope(side->receive.lock, CurrentTid());
      SocketShadow shadow(fd, side);
      if (shadow.StillOurs()) come = side->receive.ResidueHasCome(shadow);
    }
    if (!come) AwaitOwed(fd);
    return false;
  }
  std::atomic<int32_t>& pending = side->send.pending_error;
  if (side->receive.residue_due.load(std::memory_order_relaxed) != 0 ||
      side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kInherited) {
    const int error = errno;
    if (*result == 0 || (error != EAGAIN && error != EINTR)) {
      sys::SignalsBlocked blocked;
      LockScope scope(side->receive.lock, CurrentTid());
      SocketShadow shadow(fd, side);
      const Inheritance found =
          shadow.StillOurs() ? side->receive.InheritResidue(shadow) : Inheritance::kNone;
      if (found == Inheritance::kRead) {
        // The error comes behind the bytes, as it does from the kernel's own queue.
        if (*result < 0) pending.store(-error, std::memory_order_relaxed);
        return false;
      }
      if (found == Inheritance::kLost && *result == 0)
        pending.store(-ECONNRESET, std::memory_order_relaxed);
    }
    errno = error;
  }
  if (*result != 0 || pending.load(std::memory_order_relaxed) == 0) return true;
  // The agent met the connection's error while it flushed; the kernel tells it once only.
  const int32_t error = pending.exchange(0, std::memory_order_relaxed);
  if (error == 0) return true;
  errno = -error;
  *result = -1;
  return true;
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
    const IovCursor cursor(iov, iov_count);
    const size_t most = cursor.remaining();
    result =
        ReceiveRestFromKernel(number, cursor, (flags & MSG_WAITALL) != 0 ? most : 1, most, flags);
  }
  FinishOrphan(number, side);
  return result;
}

}  // namespace xenloop
