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

XENLOOP_EXPORT int timerfd_create(clockid_t clock, int flags) noexcept {
  return MadeBy([=] { return real::timerfd_create(clock, flags); });
}

XENLOOP_EXPORT int signalfd(int fd, const sigset_t* signals, int flags) noexcept {
  return SignalsBy(fd, [=] { return real::signalfd(fd, signals, flags); });
}

XENLOOP_EXPORT int inotify_init() noexcept {
  return MadeBy([] { return real::inotify_init(); });
}
XENLOOP_EXPORT int inotify_init1(int flags) noexcept {
  return MadeBy([=] { return real::inotify_init1(flags); });
}
XENLOOP_EXPORT int fanotify_init(unsigned flags, unsigned event_flags) noexcept {
  return MadeBy([=] { return real::fanotify_init(flags, event_flags); });
}

XENLOOP_EXPORT int pidfd_open(pid_t process, unsigned flags) noexcept {
  return MadeBy([=] { return real::pidfd_open(process, flags); });
}
XENLOOP_EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags) noexcept {
  return MadeBy([=] { return real::pidfd_getfd(pidfd, fd, flags); });
}

XENLOOP_EXPORT int posix_openpt(int flags) {
  return MadeBy([=] { return real::posix_openpt(flags); });
}
XENLOOP_EXPORT int getpt() {
  return MadeBy([] { return real::getpt(); });
}

XENLOOP_EXPORT int mkstemp(char* path) {
  return MadeBy([=] { return real::mkstemp(path); });
}
XENLOOP_ALIAS(mkstemp64, mkstemp);
XENLOOP_EXPORT int mkostemp(char* path, int flags) {
  return MadeBy([=] { return real::mkostemp(path, flags); });
}
XENLOOP_ALIAS(mkostemp64, mkostemp);
XENLOOP_EXPORT int mkstemps(char* path, int ending) {
  return MadeBy([=] { return real::mkstemps(path, ending); });
}
XENLOOP_ALIAS(mkstemps64, mkstemps);
XENLOOP_EXPORT int mkostemps(char* path, int ending, int flags) {
  return MadeBy([=] { return real::mkostemps(path, ending, flags); });
}
XENLOOP_ALIAS(mkostemps64, mkostemps);

// What libc reads and writes there goes past us; what the program does with the number does not.
XENLOOP_EXPORT FILE* fopen(const char* path, const char* mode) {
  return StreamMadeBy([=] { return real::fopen(path, mode); });
}
XENLOOP_ALIAS(_IO_fopen, fopen);
XENLOOP_ALIAS(fopen64, fopen);
XENLOOP_EXPORT FILE* tmpfile() {
  return StreamMadeBy([] { return real::tmpfile(); });
}
XENLOOP_ALIAS(tmpfile64, tmpfile);

XENLOOP_EXPORT int memfd_create(const char* name, unsigned flags) noexcept {
  return MadeBy([=] { return real::memfd_create(name, flags); });
}
