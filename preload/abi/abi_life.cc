// From socket to close, and every call that makes or replaces a descriptor. The order is the rule
// here: an entry of our table is dropped before the kernel may give its number away, and made after
// the kernel gave it to us.
#include <stdarg.h>

#include "preload/abi/abi.h"
#include "preload/libc/errno.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/socket/socket.h"

using namespace xenloop;

namespace {

int DuplicatedAs(int from, int to) {
  if (to >= 0) {
    const KeepErrno keep_errno;
    if (ChangesOurTables(from)) {
      Duplicated(from, to);
    } else if (InBorrowedMemory()) {
      DuplicatedForAnotherProgram(from);
    }
  }
  return to;
}

// dup2 and dup3 close `to` unseen, provided that they succeed.
template <class KernelCall>
int DuplicateOnto(int from, int to, bool valid, KernelCall kernel) {
  if (valid && from != to && ChangesOurTables(to) && real::fcntl(from, F_GETFD) >= 0) {
    if (BeforeClose(to) < 0) {  // a descriptor of ours is in the way
      const int error = MakeRoomAt(to);
      if (error < 0) return ReturnToLibc(error);
    }
  }
  const int result = kernel();
  return from == to ? result : DuplicatedAs(from, result);
}

// What kind of socket it is, the call itself can say: a question to the kernel might be one that
// the program's sandbox forbids. A pointer that leads nowhere is left to the kernel.
template <class KernelCall>
int AcceptBy(int listener, sockaddr* address, const socklen_t* length, KernelCall kernel) {
  constexpr uintptr_t kUserSpace = uintptr_t{1} << 47;
  const bool followed = FindSide(listener) != nullptr;
  sockaddr_storage own;
  own.ss_family = AF_UNSPEC;
  socklen_t own_length = sizeof own.ss_family;
  int fd;
  if (followed || address != nullptr) {
    const auto where = reinterpret_cast<uintptr_t>(length);
    const bool told = !followed && where >= 4096 && where < kUserSpace && *length >= own_length;
    fd = kernel(address, length);
    if (fd >= 0 && told) own.ss_family = address->sa_family;
    if (followed) own.ss_family = AF_INET;  // or AF_INET6: it is TCP
  } else {
    fd = kernel(reinterpret_cast<sockaddr*>(&own), &own_length);
  }
  if (fd >= 0) {
    const KeepErrno keep_errno;
    SocketAccepted(fd, own.ss_family);
  }
  return fd;
}

}  // namespace

XENLOOP_EXPORT int socket(int domain, int type, int protocol) {
  const int fd = real::socket(domain, type, protocol);
  if (fd >= 0) {
    const KeepErrno keep_errno;
    SocketCreated(fd, domain, type, protocol);
  }
  return fd;
}

XENLOOP_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  const bool dissolves = FindSide(fd) != nullptr && length >= sizeof(sa_family_t) &&
                         MayRead(address, sizeof(sa_family_t)) && address->sa_family == AF_UNSPEC;
  if (dissolves) FallBackToTcp(fd, Reason::kDisconnected, true);
  const int result = real::connect(fd, address, length);
  if (!dissolves && (result == 0 || errno == EINPROGRESS)) {
    const KeepErrno keep_errno;
    SocketConnected(fd);
  }
  return result;
}
XENLOOP_ALIAS(__connect, connect);

// The side of a listener is made with its socket; the name stays in the list of what we export.
XENLOOP_EXPORT int listen(int fd, int backlog) { return real::listen(fd, backlog); }

XENLOOP_EXPORT int accept(int listener, sockaddr* address, socklen_t* length) {
  return AcceptBy(listener, address, length, [=](sockaddr* name, const socklen_t* name_length) {
    return real::accept(listener, name, const_cast<socklen_t*>(name_length));
  });
}

XENLOOP_EXPORT int accept4(int listener, sockaddr* address, socklen_t* length, int flags) {
  return AcceptBy(listener, address, length, [=](sockaddr* name, const socklen_t* name_length) {
    return real::accept4(listener, name, const_cast<socklen_t*>(name_length), flags);
  });
}

XENLOOP_EXPORT int close(int fd) {
  return CloseOr(fd, [=] { return real::close(fd); });
}
XENLOOP_ALIAS(__close, close);

XENLOOP_EXPORT int close_range(unsigned first, unsigned last, int flags) {
  constexpr int kKnownFlags = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;
  if (first > last || (flags & ~kKnownFlags) != 0 || InBorrowedMemory()) {
    return real::close_range(first, last, flags);
  }
  if ((flags & CLOSE_RANGE_UNSHARE) == 0) return ReturnToLibc(CloseRange(first, last, flags));
  return OneThreadBy([=] {
    if (BeforeOwnDescriptors()) return real::close_range(first, last, flags);
    return static_cast<int>(ReturnToLibc(CloseRange(first, last, flags & ~CLOSE_RANGE_UNSHARE)));
  });
}

XENLOOP_EXPORT void closefrom(int first) {
  if (first < 0) first = 0;
  // A kernel without close_range leaves the work to libc.
  if (InBorrowedMemory() || CloseRange(static_cast<unsigned>(first), ~0U, 0) < 0) {
    real::closefrom(first);
  }
}

XENLOOP_EXPORT int dup(int fd) { return DuplicatedAs(fd, real::dup(fd)); }

XENLOOP_EXPORT int dup2(int from, int to) {
  return DuplicateOnto(from, to, true, [=] { return real::dup2(from, to); });
}
XENLOOP_ALIAS(__dup2, dup2);

XENLOOP_EXPORT int dup3(int from, int to, int flags) {
  const bool valid = (flags & ~O_CLOEXEC) == 0;
  return DuplicateOnto(from, to, valid, [=] { return real::dup3(from, to, flags); });
}

XENLOOP_EXPORT int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const int result = real::fcntl(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return DuplicatedAs(fd, result);
  if (command == F_SETFL && result == 0) {
    const KeepErrno keep_errno;
    if (Side* const side = FindSide(fd)) {
      AfterSetFlags(fd, side, static_cast<int>(reinterpret_cast<intptr_t>(argument)));
    }
  }
  return result;
}
XENLOOP_ALIAS(__fcntl, fcntl);
XENLOOP_ALIAS(fcntl64, fcntl);
