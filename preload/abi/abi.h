// What the abi_*.cc files share. An interposed function finds out whether the descriptor is ours,
// passes the call through if not, packs its arguments for socket.h, and returns as libc does.
// Blocking functions hold nothing while they make the real call: it is the cancellation point.
#pragma once

#include <errno.h>
#include <limits.h>

#include "preload/libc/errno.h"
#include "preload/libc/export.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/real.h"
#include "preload/process/process.h"
#include "preload/process/sandbox.h"
#include "preload/ready/epoll.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/lowest_number.h"
#include "preload/socket/socket.h"

namespace xenloop {

static_assert(sizeof(off_t) == 8, "the 64 forms are aliases of the plain ones");

// False: the kernel shall say what is wrong with the time.
inline bool IsUsable(const timespec* timeout) {
  return timeout == nullptr || (MayRead(timeout, sizeof *timeout) && timeout->tv_sec >= 0 &&
                                timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000);
}

// A child in borrowed memory (vfork) has descriptors of its own, but our tables are its parent's.
inline bool ChangesOurTables(int fd) {
  return CloseConcernsUs(fd) && (IsSetInDoubt(fd) || !InBorrowedMemory());
}

template <class KernelCall>
inline auto OnUnknown(KernelCall kernel) -> decltype(kernel()) {
  BeforeUnknown();
  return kernel();
}

template <class KernelCall>
inline auto CloseOr(int fd, KernelCall kernel) -> decltype(kernel()) {
  if (ChangesOurTables(fd)) {
    const int refused = BeforeClose(fd);
    if (refused < 0) return ReturnToLibc(refused);
  } else {
    BeforeUnknown();
  }
  return kernel();
}

template <class KernelCall>
inline auto ExecBy(const FileId& program, KernelCall kernel) -> decltype(kernel()) {
  const bool memory_is_ours = !InBorrowedMemory();
  memory_is_ours ? BeforeExec(program) : ChildIsSeen();
  const auto result = kernel();
  const KeepErrno keep_errno;
  if (memory_is_ours) AfterFailedExec();
  return result;
}

// What the kernel does to the calling thread only, or for a process of one thread only.
template <class KernelCall>
inline auto OneThreadBy(KernelCall kernel, bool of_descriptors = false) -> decltype(kernel()) {
  BeforeThreadChange(of_descriptors);
  const auto result = kernel();
  const KeepErrno keep_errno;
  AfterThreadChange();
  return result;
}

inline void SayFarewell() { InBorrowedMemory() ? ChildIsSeen() : BeforeExit(); }

}  // namespace xenloop
