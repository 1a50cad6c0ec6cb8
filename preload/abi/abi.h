// What the abi_*.cc files share. An interposed function finds out whether the descriptor is ours,
// passes the call through if not, packs its arguments for socket.h, and returns as libc does.
// Blocking functions hold nothing while they make the real call: it is the cancellation point.
#pragma once

#include <errno.h>
#include <limits.h>

#include "preload/libc/errno.h"
#include "preload/libc/export.h"
#include "preload/libc/real.h"
#include "preload/process/process.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/wait.h"
#include "preload/socket/socket.h"

namespace xenloop {

static_assert(sizeof(off_t) == 8, "the 64 forms are aliases of the plain ones");

// The receive path of every call: `kernel` makes the real one. The side is looked up anew each time
// round, because a wait may have ended by another thread's close or dup2.
template <class KernelCall>
inline ssize_t ReceiveOr(int fd, const iovec* iov, size_t iov_count, int flags, int* message_flags,
                         KernelCall kernel) {
  while (Side* const side = FindSide(fd)) {
    if (EnterKernelReceive(side)) {
      ssize_t received = InKernel(&side->receive, kernel);
      if (LeaveKernelReceive(fd, side, flags, &received)) return received;
      continue;
    }
    const ssize_t received = Receive(fd, side, iov, iov_count, flags, message_flags);
    if (received != kUseKernel) return ReturnToLibc(received);
  }
  return kernel();
}

template <class KernelCall, class OurSend>
inline ssize_t SendByOr(int fd, OurSend our_send, KernelCall kernel) {
  while (Side* const side = FindSide(fd)) {
    if (EnterKernelSend(side)) {
      const ssize_t sent = InKernel(&side->send, kernel);
      LeaveKernelSend(side, sent);
      return sent;
    }
    const ssize_t sent = our_send(side);
    if (sent != kUseKernel) return ReturnToLibc(sent);
  }
  return kernel();
}

template <class KernelCall>
inline ssize_t SendOr(int fd, const iovec* iov, size_t iov_count, int flags, KernelCall kernel) {
  return SendByOr(
      fd, [=](Side* side) { return Send(fd, side, iov, iov_count, flags); }, kernel);
}

// False: the kernel shall say what is wrong with these arguments.
inline bool IsUsable(size_t length) { return length <= SSIZE_MAX; }
inline bool IsUsable(const iovec* iov, size_t iov_count) {
  if (iov_count > IOV_MAX || (iov == nullptr && iov_count != 0)) return false;
  for (size_t i = 0; i < iov_count; ++i) {
    if (!IsUsable(iov[i].iov_len)) return false;
  }
  return true;
}
inline bool IsEmpty(const iovec* iov, size_t iov_count) {
  for (size_t i = 0; i < iov_count; ++i) {
    if (iov[i].iov_len != 0) return false;
  }
  return true;
}
inline bool IsUsable(const timespec* timeout) {
  return timeout == nullptr ||
         (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000);
}

// A child in borrowed memory (vfork) has descriptors of its own, but our tables are its parent's.
inline bool ChangesOurTables(int fd) { return CloseConcernsUs(fd) && !InBorrowedMemory(); }

template <class KernelCall>
inline auto CloseOr(int fd, KernelCall kernel) -> decltype(kernel()) {
  if (ChangesOurTables(fd)) {
    const int refused = BeforeClose(fd);
    if (refused < 0) return ReturnToLibc(refused);
  }
  return kernel();
}

template <class KernelCall>
inline auto ExecBy(const ProgramFile& program, KernelCall kernel) -> decltype(kernel()) {
  const bool memory_is_ours = !InBorrowedMemory();
  if (memory_is_ours) BeforeExec(program);
  const auto result = kernel();
  const KeepErrno keep_errno;
  if (memory_is_ours) AfterFailedExec();
  return result;
}

inline void SayFarewell() {
  if (!InBorrowedMemory()) BeforeExit();
}

}  // namespace xenloop
