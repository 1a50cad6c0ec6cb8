// Options and state of a socket: shutdown, getsockopt, setsockopt, ioctl. The kernel's socket keeps
// them all; we only look at those that change where bytes go or how long a call may wait.
#include <stdarg.h>

#include "preload/abi/abi.h"
#include "preload/libc/errno.h"
#include "preload/side/fd_table.h"
#include "preload/socket/socket.h"

using namespace xenloop;

XENLOOP_EXPORT int shutdown(int fd, int how) {
  Side* const side = FindSide(fd);
  if (side == nullptr || how < SHUT_RD || how > SHUT_RDWR) return real::shutdown(fd, how);
  const int result = BeforeShutdown(fd, side, how) ? 0 : real::shutdown(fd, how);
  const KeepErrno keep_errno;
  AfterShutdown(fd, side, how);
  return result;
}

XENLOOP_EXPORT int setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  Side* const side = FindSide(fd);
  if (side == nullptr) return real::setsockopt(fd, level, name, value, length);
  const ssize_t answer = BeforeSetOption(fd, side, level, name, value, length);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = real::setsockopt(fd, level, name, value, length);
  const KeepErrno keep_errno;
  if (result == 0) AfterSetOption(fd, side, level, name, value, length);
  return result;
}

XENLOOP_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  Side* const side = FindSide(fd);
  if (side == nullptr) return real::getsockopt(fd, level, name, value, length);
  const ssize_t answer = BeforeGetOption(fd, side, level, name, value, length);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = real::getsockopt(fd, level, name, value, length);
  const KeepErrno keep_errno;
  if (result == 0) AfterGetOption(fd, side, level, name, value, length);
  return result;
}

XENLOOP_EXPORT int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  Side* const side = FindSide(fd);
  if (side == nullptr) return real::ioctl(fd, request, argument);
  const ssize_t answer = BeforeIoctl(fd, side, request, argument);
  if (answer != kUseKernel) return ReturnToLibc(static_cast<int>(answer));
  const int result = real::ioctl(fd, request, argument);
  const KeepErrno keep_errno;
  if (result >= 0) AfterIoctl(fd, side, request, argument);
  return result;
}
