// What "send" and "sendfile" mean on a socket that is (being) accelerated: try; wait; try again.
// Decides blocking, time-outs and flags; which byte goes where is channel/stream.h's business.
#include <errno.h>

#include "preload/libc/errno.h"
#include "preload/libc/real.h"
#include "preload/libc/threads.h"
#include "preload/side/borrowed.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/lent_memory.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/wait.h"
#include "preload/socket/blocked_call.h"
#include "preload/socket/pairing.h"
#include "preload/socket/parked.h"
#include "preload/socket/socket.h"
#include "preload/socket/transfer.h"

namespace xenloop {
namespace {

// MSG_MORE, MSG_EOR, MSG_CONFIRM and MSG_DONTROUTE ask nothing of memory.
constexpr int kUnderstoodFlags =
    MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_CONFIRM | MSG_DONTROUTE;

// The rest of a blocking send whose route went back to TCP in the middle.
ssize_t SendRestByKernel(int fd, const IovCursor& cursor, int flags,
                         const Interruption& interruption) {
  ssize_t total = 0;
  IovCursor left = cursor;
  while (left.remaining() > 0) {
    iovec rest[64];
    msghdr message = {};
    message.msg_iov = rest;
    message.msg_iovlen = left.Rest(rest, 64, left.remaining());
    const int how =
        flags | MSG_NOSIGNAL | (interruption.Ends(/*restarts=*/false) ? MSG_DONTWAIT : 0);
    const ssize_t sent = FromLibc([&] { return real::sendmsg(fd, &message, how); });
    if (sent < 0) return total > 0 ? total : sent;
    total += sent;
    left.Skip(static_cast<size_t>(sent));
    if (message.msg_iovlen < 64) break;
  }
  return total;
}

struct SendWait {
  TimeLimit limit;
  bool limit_known = false;
  WakeRequest request{nullptr, 0, false};
};

// One turn of waiting for room. 0: try again; else -EINTR, -EAGAIN.
int WaitForRoom(int fd, Side* side, SendWait* wait, bool partial, const Interruption& interruption,
                Self self) {
  if (!wait->limit_known) {
    wait->limit = LimitAfter(side->send_timeout_us.load(std::memory_order_relaxed));
    wait->limit_known = true;
  }
  if (SendStream::IsOwing(side->send.route.load(std::memory_order_acquire)))
    return SleepUntilSettled(fd, side, Patience{&wait->limit, partial, &interruption});
  if (wait->request.word == nullptr) {
    if (SpinFor(side, Wanted::kRoom, self)) return 0;
    wait->request = RequestWake(fd, side, Wanted::kRoom, self);
    return 0;  // look once more, now that a wake-up is requested
  }
  RequestWatch(side);
  // A child that is killed in its sleep would stay counted.
  const bool counted = IsOurs(side);
  if (counted) side->blocked_sends.fetch_add(1, std::memory_order_acq_rel);
  const int error = Sleep(wait->request, Patience{&wait->limit, partial, &interruption});
  if (counted) side->blocked_sends.fetch_sub(1, std::memory_order_acq_rel);
  wait->request.word = nullptr;
  return error;
}

bool MayUseFifo(int fd, Side* side, int flags) {
  if (!MayUseFifos(side)) {
    FallBack(fd, side, Reason::kUsedByChild);
  } else if ((flags & ~kUnderstoodFlags) != 0) {
    // Whoever sends with MSG_ZEROCOPY waits for the kernel's word on each, and goes on doing so.
    if ((flags & MSG_ZEROCOPY) != 0) side->pinned.store(1, std::memory_order_relaxed);
    FallBack(fd, side,
             (flags & MSG_OOB) != 0        ? Reason::kUrgentData
             : (flags & MSG_ZEROCOPY) != 0 ? Reason::kZeroCopySend
                                           : Reason::kSendFlags);
  } else if (SwitchDue(side)) {
    FallBack(fd, side, Reason::kSwitchEvery);
  } else {
    return true;
  }
  // What TCP does not take at once stands before this call's bytes; TrySend says so.
  return SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
}

}  // namespace

bool EnterKernelSend(Side* side) {
  CountOperation(side);
  return side->send.EnterKernel();
}
void LeaveKernelSend(Side* side, ssize_t result) {
  if (result > 0) PairingSent(side);
  side->send.LeaveKernel();
  // A send with MSG_FASTOPEN connects without connect().
  if (result >= 0 && !side->Connected()) SocketConnected(side->fd.load());
}

ssize_t Send(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
             const Interruption& interruption) {
  threads::TestCancel();  // these calls are cancellation points even when they need not wait
  if (!MayUseFifo(fd, side, flags)) return kUseKernel;
  if (HasBadBuffer(iov, iov_count)) return -EFAULT;
  if (side->shutdown_pending.load(std::memory_order_acquire) != 0) {
    if ((flags & MSG_NOSIGNAL) == 0) sys::Call(SYS_tkill, static_cast<long>(CurrentTid()), SIGPIPE);
    return -EPIPE;
  }
  SocketShadow shadow(fd, side);
  IovCursor cursor(iov, iov_count, kMostBytesACall);
  const size_t length = cursor.remaining();
  if (length == 0) return 0;
  const bool blocking =
      (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
  const Self self = CurrentSelf();
  SendWait wait;
  size_t total = 0;
  for (;;) {
    const ssize_t sent = side->send.TrySend(shadow, cursor, self);
    if (sent >= 0) {
      total += static_cast<size_t>(sent);
      if (sent > 0) AwaitReading(side);
      if (sent > 0 && Parks()) SentInALife(fd, side);
      if (total == length) return static_cast<ssize_t>(total);
      if (sent > 0) wait.request.word = nullptr;
      continue;  // 0: just gone over to the FIFO
    }
    if (sent == kStreamUsesTcp) {
      if (total == 0) return kUseKernel;
      if (!blocking) return static_cast<ssize_t>(total);
      if (!side->send.EnterKernel()) continue;
      const ssize_t rest =
          InKernel(&side->send, [&] { return SendRestByKernel(fd, cursor, flags, interruption); });
      side->send.LeaveKernel();
      return static_cast<ssize_t>(total) + (rest > 0 ? rest : 0);
    }
    if (sent != -EAGAIN) {
      if (total > 0) return static_cast<ssize_t>(total);
      if (sent == -EPIPE && (flags & MSG_NOSIGNAL) == 0)
        return kUseKernel;  // the kernel raises SIGPIPE
      return sent;
    }
    if (!blocking) {
      RequestWatch(side);
      return total > 0 ? static_cast<ssize_t>(total) : -EAGAIN;
    }
    const int error = WaitForRoom(fd, side, &wait, total > 0, interruption, self);
    if (error != 0) return total > 0 ? static_cast<ssize_t>(total) : error;
    if (FindSide(fd) != side) return total > 0 ? static_cast<ssize_t>(total) : GoOnElsewhere(fd);
  }
}

ssize_t SendFile(int out_fd, Side* side, int in_fd, off_t* offset, size_t count,
                 const Interruption& interruption) {
  // Through a buffer and not straight into the ring: a file that is truncated or slow must not hold
  // the send lock.
  LentMemory lent;
  uint8_t few[512];
  uint8_t* const much = lent.Get();
  uint8_t* const piece = much != nullptr ? much : few;
  const size_t piece_bytes = much != nullptr ? LentMemory::kBytes : sizeof few;
  if (offset != nullptr && !MayWrite(offset, sizeof *offset)) return -EFAULT;
  if (count > kMostBytesACall) count = kMostBytesACall;
  size_t total = 0;
  off_t next = offset != nullptr ? *offset : 0;
  while (total < count) {
    const size_t want = count - total < piece_bytes ? count - total : piece_bytes;
    // Bytes that the socket does not take must stay in the file. So a descriptor without an offset
    // argument is read where it stands and moved by what was sent.
    off_t at = next;
    if (offset == nullptr) {
      at = sys::Call(SYS_lseek, in_fd, 0, 1 /* SEEK_CUR */);
      if (at < 0) {  // not seekable: leave it to the kernel
        if (total > 0) return static_cast<ssize_t>(total);
        FallBack(out_fd, side, Reason::kSendfileStream);
        return kUseKernel;
      }
    }
    const ssize_t got =
        sys::Call(SYS_pread64, in_fd, reinterpret_cast<long>(piece), static_cast<long>(want), at);
    if (got <= 0) {
      if (total > 0 || got == 0) return static_cast<ssize_t>(total);
      if (side->send.route.load(std::memory_order_relaxed) == SendRoute::kTcp) return kUseKernel;
      return got;
    }
    const iovec iov{piece, static_cast<size_t>(got)};
    const ssize_t sent = Send(out_fd, side, &iov, 1, 0, interruption);
    if (sent < 0) return total > 0 ? static_cast<ssize_t>(total) : sent;
    total += static_cast<size_t>(sent);
    if (offset != nullptr) {
      next += sent;
      *offset = next;
    } else {
      sys::Call(SYS_lseek, in_fd, sent, 1 /* SEEK_CUR */);
    }
    if (sent < got) break;
  }
  return static_cast<ssize_t>(total);
}

}  // namespace xenloop
