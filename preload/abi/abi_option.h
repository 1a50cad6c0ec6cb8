// What the calls do that ask or change options and state of a socket, whoever makes the call:
// libc's function of that name, or syscall(). The kernel's socket keeps them all; we only look at
// those that change where bytes go or how long a call may wait.
#pragma once

#include <sys/ioctl.h>

#include "preload/abi/abi.h"
#include "preload/socket/datagram.h"

namespace xenloop {

template <class KernelCall>
inline int ShutdownBy(int fd, int how, KernelCall kernel) {
  BeforeCallOn(fd);
  Side* const side = FindSide(fd);
  BeforeDatagramShutdown(fd);
  if (side == nullptr || how < SHUT_RD || how > SHUT_RDWR) return static_cast<int>(kernel());
  const int result = BeforeShutdown(fd, side, how) ? 0 : static_cast<int>(kernel());
  const KeepErrno keep_errno;
  AfterShutdown(fd, side, how, result == 0);
  return result;
}

template <class KernelCall>
inline int SetOptionBy(int fd, int level, int name, const void* value, socklen_t length,
                       KernelCall kernel) {
  Side* const side = FindSide(fd);
  if (DatagramSide* const datagrams = FindDatagram(fd)) {
    const ssize_t answer = BeforeDatagramSetOption(fd, datagrams, level, name, value, length);
    if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
    const int result = static_cast<int>(kernel());
    const KeepErrno keep_errno;
    if (result == 0) AfterDatagramSetOption(fd, datagrams, level, name);
    return result;
  }
  if (side == nullptr) return static_cast<int>(OnUnknown(kernel));
  const ssize_t answer = BeforeSetOption(fd, side, level, name, value, length);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = static_cast<int>(kernel());
  const KeepErrno keep_errno;
  if (result == 0) AfterSetOption(fd, side, level, name, value, length);
  return result;
}

template <class KernelCall>
inline int GetOptionBy(int fd, int level, int name, void* value, socklen_t* length,
                       KernelCall kernel) {
  Side* const side = FindSide(fd);
  if (DatagramSide* const datagrams = FindDatagram(fd)) {
    const ssize_t answer = BeforeDatagramGetOption(fd, datagrams, level, name, value, length);
    return answer != kUseKernel ? ReturnToLibc(static_cast<int>(answer))
                                : static_cast<int>(kernel());
  }
  if (side == nullptr) return static_cast<int>(OnUnknown(kernel));
  const ssize_t answer = BeforeGetOption(fd, side, level, name, value, length);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = static_cast<int>(kernel());
  const KeepErrno keep_errno;
  if (result == 0) AfterGetOption(fd, side, level, name, value, length);
  return result;
}

template <class KernelCall>
inline int IoctlBy(int fd, unsigned long request, void* argument, KernelCall kernel) {
  if (request == FIONCLEX && InBorrowedMemory()) {
    const int result = static_cast<int>(kernel());
    const KeepErrno keep_errno;
    if (result == 0) KeptForAnotherProgram(fd);
    return result;
  }
  Side* const side = FindSide(fd);
  if (DatagramSide* const datagrams = FindDatagram(fd)) {
    const ssize_t answer = BeforeDatagramIoctl(fd, datagrams, request, argument);
    if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
    const int result = static_cast<int>(kernel());
    const KeepErrno keep_errno;
    if (result >= 0) AfterDatagramIoctl(datagrams, request, argument);
    return result;
  }
  if (side == nullptr) return static_cast<int>(OnUnknown(kernel));
  const ssize_t answer = BeforeIoctl(fd, side, request, argument);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = static_cast<int>(kernel());
  const KeepErrno keep_errno;
  if (result >= 0) AfterIoctl(fd, side, request, argument);
  return result;
}

}  // namespace xenloop
