// The one door for a transfer: every call of libc that moves bytes of a socket comes through here.
// What lies in the FIFO is taken at once. Else the call enters the kernel, or waits at the FIFO
// (receive.cc, send.cc), and leaves; and comes again where the bytes have changed their route
// meanwhile. `kernel` makes the real call, a cancellation point: nothing is held across it. Results
// are those of libc: -1 and errno.
#pragma once

#include <limits.h>

#include "channel/base/iov_cursor.h"
#include "preload/agent/agent.h"
#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/threads.h"
#include "preload/settings/config.h"
#include "preload/side/bare_wait.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"
#include "preload/socket/socket.h"

namespace xenloop {

// False: the kernel shall say what is wrong with these arguments.
inline bool IsUsable(const iovec* iov, size_t iov_count) {
  if (iov_count > IOV_MAX || !MayRead(iov, iov_count * sizeof *iov)) return false;
  for (size_t i = 0; i < iov_count; ++i) {
    if (iov[i].iov_len > SSIZE_MAX) return false;
  }
  return true;
}
inline bool IsEmpty(const iovec* iov, size_t iov_count) {
  for (size_t i = 0; i < iov_count; ++i) {
    if (iov[i].iov_len != 0) return false;
  }
  return true;
}

inline void CountOperation(Side* side) {
  // Not a read-modify-write: a lost count between threads only delays an attempt.
  const uint64_t n = side->operations.load(std::memory_order_relaxed) + 1;
  side->operations.store(n, std::memory_order_relaxed);
  if (n >= side->next_attempt.load(std::memory_order_relaxed)) ConsiderUpgrade(side);
}

// Makes a transfer that nobody could make another one of while it is in the kernel
// (side/bare_wait.h). False: it is to be counted there.
template <class KernelCall>
inline bool TransferBarely(Side* side, KernelCall kernel, ssize_t* result) {
  if (!BareWait::IsEnough() || !side->IsCold()) return false;
  CountOperation(side);  // and perhaps an agent is started by that
  const BareWait bare;
  if (!BareWait::IsEnough() || !side->IsCold()) return false;
  *result = kernel();
  return true;
}

// Tests let the routes flip every so many operations.
inline bool SwitchDue(Side* side) {
  if (!process_state.switches) return false;
  const uint64_t n = side->operations.load(std::memory_order_relaxed) + 1;
  side->operations.store(n, std::memory_order_relaxed);
  if (n % GetConfig().switch_every != 0) return false;
  side->next_attempt.store(n + 1, std::memory_order_relaxed);
  return true;
}

// ---- behind the door: receive.cc, receive_kernel.cc, send.cc ----
// Results are bytes, or -errno, or kUseKernel.

// Enter...: true if this call must go to the kernel; then make the real call and call Leave... with
// its result (errno is preserved). False: the direction is (being) accelerated; call Receive/Send,
// and start over on kUseKernel.
bool EnterKernelReceive(Side* side);
// False: start over, what the call is to receive is not in the kernel. `*result` changes where an
// error that the agent met belongs to this call (then -1 and errno).
bool LeaveKernelReceive(int fd, Side* side, int flags, ssize_t* result);
bool EnterKernelSend(Side* side);
void LeaveKernelSend(Side* side, ssize_t result);

// recv flags as for recvmsg(2). `message_flags` (may be null) receives what recvmsg would put into
// msg_flags.
// `interruption`: begun with the program's call.
ssize_t Receive(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                int* message_flags, const Interruption& interruption);
ssize_t Send(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
             const Interruption& interruption);
// sendfile(2) to an accelerated socket. `offset` as in sendfile (may be null).
ssize_t SendFile(int out_fd, Side* side, int in_fd, off_t* offset, size_t count,
                 const Interruption& interruption);
// Under the receive lock, after bytes were taken from the FIFO.
void WakeProducer(int fd, Side* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->receive.lock);

// ---- the door ----

// What most receives find: bytes in the FIFO, and nothing else to think of. 0: go the long way.
inline ssize_t TakeFromFifo(int fd, Side* side, const iovec* iov, size_t iov_count, int flags) {
  constexpr int kPlainFlags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;
  if (side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kFifo ||
      (flags & ~kPlainFlags) != 0 || !IsOurs(side) || process_state.switches ||
      side->receive_low_water.load(std::memory_order_relaxed) > 1 || HasBadBuffer(iov, iov_count)) {
    return 0;
  }
  // These calls are cancellation points even when they need not wait.
  if (const auto test = threads::test_cancel.load(std::memory_order_relaxed)) test();
  IovCursor cursor(iov, iov_count, kMostBytesACall);
  size_t taken = 0;
  {
    LockScope scope(side->receive.lock, CurrentTid());
    if (FindSide(fd) != side) return 0;
    taken = side->receive.TakeFromFifo(&cursor, cursor.remaining());
    // Under the lock: the FIFO cannot be unmapped beneath us.
    if (taken > 0 && side->receive.ProducerWaits()) WakeProducer(fd, side);
  }
  if (taken > 0) CountOperation(side);
  return static_cast<ssize_t>(taken);
}

// A handler has run since the call began, which is to wait in the kernel now: it ends, unless what
// it waits for is there.
inline bool EndsBeforeKernel(const Interruption& interruption, int fd,
                             const std::atomic<int64_t>& timeout_us, Side* side, int flags,
                             short events) {
  if (__builtin_expect(!interruption.Ends(/*restarts=*/false), 1)) return false;
  return (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0 &&
         InterruptedBefore(interruption, timeout_us.load(std::memory_order_relaxed) == 0, fd,
                           events);
}

// `side`: what the caller has found behind `fd`, or null. It is looked up anew before each further
// turn, because a wait may have ended by another thread's close or dup2.
template <class KernelCall>
inline ssize_t ReceiveOr(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                         int* message_flags, KernelCall kernel) {
  if (side == nullptr || (flags & MSG_ERRQUEUE) != 0) return kernel();
  if (const ssize_t taken = TakeFromFifo(fd, side, iov, iov_count, flags); taken > 0) {
    if (message_flags != nullptr) *message_flags = 0;
    return taken;
  }
  ssize_t by_kernel;
  if (TransferBarely(side, kernel, &by_kernel)) return by_kernel;
  const Interruption interruption;
  for (; side != nullptr; side = FindSide(fd)) {
    if (EnterKernelReceive(side)) {
      ssize_t received = InKernel(&side->receive, [&]() -> ssize_t {
        return EndsBeforeKernel(interruption, fd, side->receive_timeout_us, side, flags, POLLIN)
                   ? ReturnToLibc(-EINTR)
                   : kernel();
      });
      if (LeaveKernelReceive(fd, side, flags, &received)) return received;
      continue;
    }
    const ssize_t received = Receive(fd, side, iov, iov_count, flags, message_flags, interruption);
    if (received != kUseKernel) return ReturnToLibc(received);
  }
  return kernel();
}

template <class KernelCall, class OurSend>
inline ssize_t SendByOr(int fd, Side* side, int flags, OurSend our_send, KernelCall kernel) {
  ssize_t by_kernel;
  if (side != nullptr && side->Connected() && TransferBarely(side, kernel, &by_kernel))
    return by_kernel;
  const Interruption interruption;
  for (; side != nullptr; side = FindSide(fd)) {
    if (EnterKernelSend(side)) {
      const ssize_t sent = InKernel(&side->send, [&]() -> ssize_t {
        return EndsBeforeKernel(interruption, fd, side->send_timeout_us, side, flags, POLLOUT)
                   ? ReturnToLibc(-EINTR)
                   : kernel();
      });
      LeaveKernelSend(side, sent);
      return sent;
    }
    const ssize_t sent = our_send(side, interruption);
    if (sent != kUseKernel) return ReturnToLibc(sent);
  }
  return kernel();
}

template <class KernelCall>
inline ssize_t SendOr(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                      KernelCall kernel) {
  return SendByOr(
      fd, side, flags,
      [=](Side* now, const Interruption& interruption) {
        return Send(fd, now, iov, iov_count, flags, interruption);
      },
      kernel);
}

}  // namespace xenloop
