// Options and state of a socket: shutdown, getsockopt, setsockopt, ioctl; what they mean is in
// abi_option.h.
#include "preload/abi/abi_option.h"

#include <stdarg.h>

#include "preload/abi/abi.h"

using namespace xenloop;

XENLOOP_EXPORT int shutdown(int fd, int how) {
  return ShutdownBy(fd, how, [=] { return real::shutdown(fd, how); });
}

XENLOOP_EXPORT int setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  return SetOptionBy(fd, level, name, value, length,
                     [=] { return real::setsockopt(fd, level, name, value, length); });
}

XENLOOP_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  return GetOptionBy(fd, level, name, value, length,
                     [=] { return real::getsockopt(fd, level, name, value, length); });
}

XENLOOP_EXPORT int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return IoctlBy(fd, request, argument, [=] { return real::ioctl(fd, request, argument); });
}
