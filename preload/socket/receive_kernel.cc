// See receive_kernel.h.
#include "preload/socket/receive_kernel.h"

#include <errno.h>

#include "preload/libc/errno.h"
#include "preload/libc/real.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/socket/pairing.h"
#include "preload/socket/transfer.h"

namespace xenloop {

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
    const int how = flags | (enough ? MSG_DONTWAIT : MSG_WAITALL);
    const ssize_t received = FromLibc([&] { return real::recvmsg(fd, &message, how); });
    if (received < 0) return total > 0 ? static_cast<ssize_t>(total) : received;
    total += static_cast<size_t>(received);
    if (static_cast<size_t>(received) < asked || (flags & MSG_PEEK) != 0) break;
    if ((flags & MSG_TRUNC) == 0) left.Skip(static_cast<size_t>(received));
  }
  return static_cast<ssize_t>(total);
}

void CountTaken(Side* side, int flags, ssize_t received) {
  if (received <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0) return;
  if ((flags & MSG_OOB) != 0) {
    side->receive.ForgetTaken();
  } else {
    side->receive.CountTaken(static_cast<uint64_t>(received));
  }
}

bool ResetByDeadPeer(int fd, Side* side) {
  const auto seen_by_agent = [side] {
    int32_t error = -ECONNRESET;
    return side->send.pending_error.compare_exchange_strong(error, 0, std::memory_order_relaxed);
  };
  if (seen_by_agent()) return true;
  // No FIN: the program has shut this direction down itself, which tells nothing of the peer.
  tcp_info info;
  if (TcpInfoOf(fd, &info) == 0 && SocketShadow::FinBytes(info) == 0) return false;
  if (side->pair.load(std::memory_order_relaxed) != 0) {
    const LockScope scope(side->receive.lock, CurrentTid());
    if (side->receive.lives.OtherHasFinished()) return false;  // and did not die
  }
  SocketShadow shadow(fd, side);
  {
    sys::SignalsBlocked blocked;
    LockScope scope(side->send.lock, CurrentTid());
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
        FindSide(fd) != side || side->send.fifo.AvailableBytes() == 0 || side->send.fifo.Sealed()) {
      return seen_by_agent();  // perhaps just now
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

void AwaitOwed(int fd) {
  pollfd entry{fd, POLLIN, 0};
  const timespec patience{0, 100000000};
  sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&patience), 0, 8);
}

namespace {

// The agent has ended a FIFO whose bytes the program may have been told of, and a receive of the
// program found nothing in the kernel: they are on their way, and it comes once more.
void AwaitResidue(int fd, Side* side) {
  side->receive.owed.store(0, std::memory_order_relaxed);
  bool come = true;
  {
    sys::SignalsBlocked blocked;
    LockScope scope(side->receive.lock, CurrentTid());
    SocketShadow shadow(fd, side);
    if (shadow.StillOurs()) come = side->receive.ResidueHasCome(shadow);
  }
  if (!come) AwaitOwed(fd);
}

// The kernel has told the end of the stream, or `error`. True: not yet, a dead peer's FIFO holds
// bytes that stand before it.
bool InheritsResidue(int fd, Side* side, bool ended, int error) {
  std::atomic<int32_t>& pending = side->send.pending_error;
  sys::SignalsBlocked blocked;
  LockScope scope(side->receive.lock, CurrentTid());
  SocketShadow shadow(fd, side);
  const DeadResidue found =
      shadow.StillOurs() ? side->receive.FindDeadResidue(shadow) : DeadResidue::kNone;
  if (found == DeadResidue::kRead) {
    // The error comes behind the bytes, as it does from the kernel's own queue.
    if (!ended) pending.store(-error, std::memory_order_relaxed);
    return true;
  }
  if (found == DeadResidue::kLost && ended) pending.store(-ECONNRESET, std::memory_order_relaxed);
  return false;
}

}  // namespace

bool EnterKernelReceive(Side* side) {
  CountOperation(side);
  return side->receive.EnterKernel(CurrentSelf());
}

bool LeaveKernelReceive(int fd, Side* side, int flags, ssize_t* result) {
  if (*result > 0) {
    CountTaken(side, flags, *result);
    if ((flags & (MSG_PEEK | MSG_ERRQUEUE)) == 0) PairingReceived(fd, side);
  }
  side->receive.LeaveKernel(CurrentSelf());
  if (*result > 0) return true;
  if (*result < 0 && errno == EAGAIN && side->receive.owed.load(std::memory_order_relaxed) > 0) {
    AwaitResidue(fd, side);
    return false;
  }
  if (side->receive.residue_due.load(std::memory_order_relaxed) != 0 ||
      side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kResidue) {
    const KeepErrno keep_errno;
    const int error = errno;
    if (*result == 0 || (error != EAGAIN && error != EINTR)) {
      if (InheritsResidue(fd, side, *result == 0, error)) return false;
    }
  }
  std::atomic<int32_t>& pending = side->send.pending_error;
  if (*result != 0 || pending.load(std::memory_order_relaxed) == 0) return true;
  // The agent met the connection's error while it flushed; the kernel tells it once only.
  const int32_t error = pending.exchange(0, std::memory_order_relaxed);
  if (error == 0) return true;
  *result = ReturnToLibc(error);
  return true;
}

void WakeProducer(int fd, Side* side) {
  SocketShadow shadow(fd, side);
  side->receive.WakeProducer(shadow, 0);
}

}  // namespace xenloop
