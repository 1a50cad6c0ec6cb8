// Calls that make descriptors of other kinds than we follow. What such a number meant before was
// closed by a call that we did not see (an inline system call, a ring), and must not be taken for
// that any longer: what is written to a file would go into a FIFO.
#include <stdarg.h>

#include "preload/abi/abi.h"
#include "preload/abi/abi_life.h"
#include "preload/libc/errno.h"
#include "preload/socket/socket.h"

using namespace xenloop;

namespace {

// Handed over without these flags, it is whatever stands there, as in libc's own.
mode_t ModeOf(int flags, va_list* rest) {
  return (flags & O_CREAT) != 0 || (flags & __O_TMPFILE) == __O_TMPFILE ? va_arg(*rest, mode_t) : 0;
}

}  // namespace

XENLOOP_EXPORT int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = ModeOf(flags, &rest);
  va_end(rest);
  return MadeBy([=] { return real::open(path, flags, mode); });
}
XENLOOP_ALIAS(__open, open);
XENLOOP_ALIAS(open64, open);
XENLOOP_ALIAS(__open64, open);

XENLOOP_EXPORT int __open_2(const char* path, int flags) {
  return MadeBy([=] { return real::__open_2(path, flags); });
}
XENLOOP_ALIAS(__open64_2, __open_2);

XENLOOP_EXPORT int openat(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = ModeOf(flags, &rest);
  va_end(rest);
  return MadeBy([=] { return real::openat(directory, path, flags, mode); });
}
XENLOOP_ALIAS(openat64, openat);

XENLOOP_EXPORT int __openat_2(int directory, const char* path, int flags) {
  return MadeBy([=] { return real::__openat_2(directory, path, flags); });
}
XENLOOP_ALIAS(__openat64_2, __openat_2);

XENLOOP_EXPORT int creat(const char* path, mode_t mode) {
  return MadeBy([=] { return real::creat(path, mode); });
}
XENLOOP_ALIAS(creat64, creat);

XENLOOP_EXPORT int pipe(int* fds) noexcept {
  return BothMadeBy(fds, [=] { return real::pipe(fds); });
}
XENLOOP_ALIAS(__pipe, pipe);

XENLOOP_EXPORT int pipe2(int* fds, int flags) noexcept {
  return BothMadeBy(fds, [=] { return real::pipe2(fds, flags); });
}

XENLOOP_EXPORT int socketpair(int domain, int type, int protocol, int* fds) noexcept {
  return BothMadeBy(fds, [=] { return real::socketpair(domain, type, protocol, fds); });
}

XENLOOP_EXPORT int eventfd(unsigned count, int flags) noexcept {
  return MadeBy([=] { return real::eventfd(count, flags); });
}

XENLOOP_EXPORT int memfd_create(const char* name, unsigned flags) noexcept {
  return MadeBy([=] { return real::memfd_create(name, flags); });
}
