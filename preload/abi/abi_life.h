// What it means to make, connect, accept, duplicate or replace a socket, whoever makes the call:
// libc's function of that name, or syscall(), which must make the program's own raw call. The order
// is the rule here: an entry of our table is dropped before the kernel may give its number away,
// and made after the kernel gave it to us.
#pragma once

#include <poll.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "channel/base/sys.h"
#include "preload/abi/abi.h"
#include "preload/side/fallback.h"
#include "preload/side/lowest_number.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"
#include "preload/socket/datagram.h"
#include "preload/socket/parked.h"

namespace xenloop {

// A descriptor of another kind than we follow, or two (abi_new.cc).
inline int AnotherKind(int fd) {
  if (fd >= 0 && CloseConcernsUs(fd)) NumberIsNew(fd);
  return fd;
}
template <class KernelCall>
inline int MadeBy(KernelCall kernel) {
  return AnotherKind(Numbered(kernel));
}
// Changes the one that it is given, unless that is -1.
template <class KernelCall>
inline int SignalsBy(int given, KernelCall kernel) {
  return given == -1 ? MadeBy(kernel) : AnotherKind(static_cast<int>(kernel()));
}

template <class KernelCall>
inline FILE* StreamMadeBy(KernelCall kernel) {
  FILE* const stream = kernel();
  if (stream != nullptr) AnotherKind(fileno(stream));
  return stream;
}

template <class KernelCall>
inline int BothMadeBy(int* fds, KernelCall kernel) {
  const int result = BothNumbered(fds, kernel);
  for (int i = 0; result == 0 && i < 2; ++i) {
    if (CloseConcernsUs(fds[i])) NumberIsNew(fds[i]);
  }
  return result;
}

template <class KernelCall>
inline int SocketBy(int domain, int type, int protocol, KernelCall kernel) {
  const int fd = Numbered(kernel);
  if (fd >= 0) {
    const KeepErrno keep_errno;
    if (CloseConcernsUs(fd)) NumberIsNew(fd);
    SocketCreated(fd, domain, type, protocol);
    DatagramCreated(fd, domain, type, protocol);
  }
  return fd;
}

template <class KernelCall>
inline int ConnectBy(int fd, const sockaddr* address, socklen_t length, KernelCall kernel) {
  BeforeCallOn(fd);
  const bool dissolves = FindSide(fd) != nullptr && length >= sizeof(sa_family_t) &&
                         MayRead(address, sizeof(sa_family_t)) && address->sa_family == AF_UNSPEC;
  if (dissolves) FallBackToTcp(fd, Reason::kDisconnected, TcpFor::kGood);
  if (Parks()) {
    const ssize_t connected = ConnectParked(fd, address, length);
    if (connected != kUseKernel) return static_cast<int>(ReturnToLibc(connected));
  }
  BeforeDatagramConnect(fd);
  const int result = static_cast<int>(kernel());
  if (FindDatagram(fd) != nullptr) {
    const KeepErrno keep_errno;
    AfterDatagramConnect(fd, address, length, result == 0);
    return result;
  }
  if (!dissolves && (result == 0 || errno == EINPROGRESS)) {
    const KeepErrno keep_errno;
    SocketConnected(fd);
    if (Parks()) ConnectedByKernel(fd, address, length);
  }
  return result;
}

inline int DuplicatedAs(int from, int to) {
  if (to >= 0) {
    const KeepErrno keep_errno;
    if (from != to && CloseConcernsUs(to)) NumberIsNew(to);
    if (ChangesOurTables(from)) {
      Duplicated(from, to);
    } else if (InBorrowedMemory()) {
      KeptForAnotherProgram(from);
    }
  }
  return to;
}

// dup2 and dup3 close `to` unseen, provided that they succeed.
template <class KernelCall>
inline int DuplicateOnto(int from, int to, bool valid, KernelCall kernel) {
  BeforeCallOn(from);
  if (valid && from != to && ChangesOurTables(to) &&
      (IsSetInDoubt(to) || sys::Call(SYS_fcntl, from, F_GETFD) >= 0)) {
    if (BeforeClose(to) < 0) {  // a descriptor of ours is in the way
      const int error = MakeRoomAt(to);
      if (error < 0) return ReturnToLibc(error);
    }
  }
  int result;
  {
    const Placing placing;
    result = static_cast<int>(kernel());
  }
  return from == to ? result : DuplicatedAs(from, result);
}

// What kind of socket it is, the call itself can say: a question to the kernel might be one that
// the program's sandbox forbids. A pointer that leads nowhere is left to the kernel.
template <class KernelCall>
inline int AcceptByKernel(int listener, sockaddr* address, const socklen_t* length,
                          KernelCall kernel) {
  constexpr uintptr_t kUserSpace = uintptr_t{1} << 47;
  const bool followed = FindSide(listener) != nullptr;
  sockaddr_storage own;
  own.ss_family = AF_UNSPEC;
  socklen_t own_length = sizeof own.ss_family;
  int fd;
  if (followed || address != nullptr) {
    const auto where = reinterpret_cast<uintptr_t>(length);
    const bool told = !followed && where >= 4096 && where < kUserSpace && *length >= own_length;
    fd = Numbered([&] { return kernel(address, length); });
    if (fd >= 0 && told) own.ss_family = address->sa_family;
    if (followed) own.ss_family = AF_INET;  // or AF_INET6: it is TCP
  } else {
    fd = Numbered([&] { return kernel(reinterpret_cast<sockaddr*>(&own), &own_length); });
  }
  if (fd >= 0) {
    const KeepErrno keep_errno;
    if (CloseConcernsUs(fd)) NumberIsNew(fd);
    SocketAccepted(fd, own.ss_family);
  }
  return fd;
}

// A handler has run since the program's call began, which is to wait in the kernel now, or to wait
// there again after a connection that was not the program's.
inline bool EndsBeforeAccept(const Interruption& interruption, int listener, const Side* side) {
  return __builtin_expect(interruption.Ends(/*restarts=*/false), 0) &&
         side->nonblocking.load() == 0 &&
         InterruptedBefore(interruption, side->receive_timeout_us.load() == 0, listener, POLLIN);
}

// On a listener of ours while connections are parked (socket/parked.h): those of its virtual queue
// besides, and not those that agents have made. `listener_side` is counted as one in which a thread
// may sleep unaware.
template <class KernelCall>
inline int AcceptWithParked(int listener, Side* listener_side, sockaddr* address, socklen_t* length,
                            int flags, KernelCall kernel) {
  const socklen_t room =
      address != nullptr && MayRead(length, sizeof *length) ? *length : socklen_t{0};
  // Not for ever: a life that waits and cannot be had (a name that the kernel will refuse, a
  // handler above a lock, a liar) is none for this call.
  int looks_left = 3;
  const Interruption interruption;
  for (;;) {
    const ssize_t parked = AcceptParked(listener_side, address, length, flags);
    if (parked != kUseKernel) return static_cast<int>(ReturnToLibc(parked));
    const Self self = CurrentSelf();
    const bool counted = listener_side->receive.EnterKernel(self);
    if (MaySleepInAccept(listener_side) && looks_left > 0 && MayAcceptParked(listener_side)) {
      if (counted) listener_side->receive.LeaveKernel(self);
      --looks_left;
      continue;
    }
    const auto call = [&] {
      return EndsBeforeAccept(interruption, listener, listener_side)
                 ? ReturnToLibc(-EINTR)
                 : AcceptByKernel(listener, address, length, kernel);
    };
    const int fd = counted ? InKernel(&listener_side->receive, call) : call();
    const KeepErrno keep_errno;
    if (counted) listener_side->receive.LeaveKernel(self);
    HasSleptInAccept(listener_side);
    if (fd < 0 && errno == EAGAIN && looks_left-- > 0 && MayAcceptParked(listener_side)) continue;
    if (fd < 0 || !ExpectsToPark() || !IsToBeParked(fd)) {
      if (fd >= 0) AcceptedByKernel(listener_side);
      return fd;
    }
    if (room != 0) *length = room;
  }
}

template <class KernelCall>
inline int AcceptBy(int listener, sockaddr* address, socklen_t* length, int flags,
                    KernelCall kernel) {
  BeforeCallOn(listener);
  Side* const side = Parks() ? FindSide(listener) : nullptr;
  return side != nullptr ? AcceptWithParked(listener, side, address, length, flags, kernel)
                         : AcceptByKernel(listener, address, length, kernel);
}

template <class KernelCall>
inline int FcntlBy(int fd, int command, long argument, KernelCall kernel) {
  BeforeCallOn(fd);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
    return DuplicatedAs(fd, Numbered(kernel, static_cast<int>(argument)));
  const int result = static_cast<int>(kernel());
  if (command == F_SETFD && result == 0 && (argument & FD_CLOEXEC) == 0 && InBorrowedMemory()) {
    const KeepErrno keep_errno;
    KeptForAnotherProgram(fd);
  }
  if (command == F_SETFL && result == 0) {
    const KeepErrno keep_errno;
    if (Side* const side = FindSide(fd)) AfterSetFlags(fd, side, static_cast<int>(argument));
    if (DatagramSide* const side = FindDatagram(fd))
      AfterDatagramSetFlags(fd, side, static_cast<int>(argument));
  }
  return result;
}

}  // namespace xenloop
