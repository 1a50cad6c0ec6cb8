// From socket to close, and every call that makes or replaces a descriptor; what they mean is in
// abi_life.h.
#include "preload/abi/abi_life.h"

#include <stdarg.h>

#include <algorithm>

#include "channel/base/descriptor.h"
#include "preload/abi/abi.h"

using namespace xenloop;

XENLOOP_EXPORT int socket(int domain, int type, int protocol) {
  return SocketBy(domain, type, protocol, [=] { return real::socket(domain, type, protocol); });
}

XENLOOP_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  return ConnectBy(fd, address, length, [=] { return real::connect(fd, address, length); });
}
XENLOOP_ALIAS(__connect, connect);

// The side of a listener is made with its socket; the name stays in the list of what we export.
XENLOOP_EXPORT int listen(int fd, int backlog) { return real::listen(fd, backlog); }

XENLOOP_EXPORT int accept(int listener, sockaddr* address, socklen_t* length) {
  return AcceptBy(listener, address, length, 0, [=](sockaddr* name, const socklen_t* name_length) {
    return real::accept(listener, name, const_cast<socklen_t*>(name_length));
  });
}

XENLOOP_EXPORT int accept4(int listener, sockaddr* address, socklen_t* length, int flags) {
  return AcceptBy(
      listener, address, length, flags, [=](sockaddr* name, const socklen_t* name_length) {
        return real::accept4(listener, name, const_cast<socklen_t*>(name_length), flags);
      });
}

XENLOOP_EXPORT int close(int fd) {
  return CloseOr(fd, [=] { return real::close(fd); });
}
XENLOOP_ALIAS(__close, close);

XENLOOP_EXPORT int close_range(unsigned first, unsigned last, int flags) {
  constexpr int kUnshare = static_cast<int>(CLOSE_RANGE_UNSHARE);
  constexpr int kKnownFlags = kUnshare | static_cast<int>(CLOSE_RANGE_CLOEXEC);
  if (first > last || (flags & ~kKnownFlags) != 0 || InBorrowedMemory()) {
    return real::close_range(first, last, flags);
  }
  if ((flags & kUnshare) == 0) return ReturnToLibc(CloseRange(first, last, flags));
  return OneThreadBy(
      [=] {
        if (BeforeOwnDescriptors()) return real::close_range(first, last, flags);
        return static_cast<int>(ReturnToLibc(CloseRange(first, last, flags & ~kUnshare)));
      },
      /*of_descriptors=*/true);
}

XENLOOP_EXPORT void closefrom(int first) {
  if (first < 0) first = 0;
  if (!InBorrowedMemory() && CloseRange(static_cast<unsigned>(first), ~0U, 0) == 0) return;
  // A kernel without close_range leaves the work to libc, and a libc before 2.34 to us.
  if (real::closefrom.IsAvailable()) return real::closefrom(first);
  constexpr uint64_t kMostByDefault = 1 << 20;  // fs.nr_open
  const auto end = static_cast<int>(std::min(sys::DescriptorLimit(), kMostByDefault));
  for (int fd = first; fd < end; ++fd) close(fd);
}

XENLOOP_EXPORT int dup(int fd) {
  BeforeCallOn(fd);
  return DuplicatedAs(fd, Numbered([=] { return real::dup(fd); }));
}

XENLOOP_EXPORT int dup2(int from, int to) {
  return DuplicateOnto(from, to, /*valid=*/true, [=] { return real::dup2(from, to); });
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
  return FcntlBy(fd, command, reinterpret_cast<long>(argument),
                 [=] { return real::fcntl(fd, command, argument); });
}
XENLOOP_ALIAS(__fcntl, fcntl);
XENLOOP_ALIAS(fcntl64, fcntl);
