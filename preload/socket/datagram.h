// What the calls of libc mean on a UDP socket (side/datagram_side.h). The ABI layer comes here
// where the table has one; `kernel` makes the program's own call, and all that waits is done by it.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "preload/side/datagram_side.h"
#include "preload/socket/datagram_cold.h"
#include "preload/socket/socket.h"

namespace xenloop {

// Where the name of the sender goes: recvfrom's and recvmsg's arguments. All null: nowhere.
struct DatagramName {
  void* name = nullptr;
  socklen_t* length = nullptr;
};
// What a receive has to tell beside its result, where the kernel has not told it.
struct DatagramNews {
  bool by_kernel = true;
  int message_flags = 0;
};

ssize_t ReceiveDatagram(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                        const DatagramName& name, DatagramNews* news, const KernelCall& kernel,
                        const Interruption& interruption = Interruption());
// `to` null: the peer of a connected socket. `plain`: no ancillary data.
ssize_t SendDatagram(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                     const void* to, socklen_t to_length, bool plain, const KernelCall& kernel);

ssize_t ReceiveDatagramMessage(int fd, DatagramSide* side, msghdr* message, int flags,
                               const Interruption& interruption = Interruption());
ssize_t SendDatagramMessage(int fd, DatagramSide* side, const msghdr* message, int flags);
int ReceiveDatagramMessages(int fd, mmsghdr* messages, unsigned count, int flags,
                            timespec* timeout);
int SendDatagramMessages(int fd, mmsghdr* messages, unsigned count, int flags);

// By a plural form of the kernel's.
void DatagramsReceived(DatagramSide* side, uint32_t count);
void DatagramSent(DatagramSide* side, const msghdr& message);

// What is rare stands in functions of its own: what is not is short then, and needs few registers.
template <class Call>
[[gnu::noinline]] ssize_t ReceiveBesideFifos(int fd, DatagramSide* side, const iovec* iov,
                                             size_t iov_count, int flags, Call kernel,
                                             const DatagramName& name) {
  const Interruption interruption;
  const bool waits = (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) == 0 &&
                     side->nonblocking.load(std::memory_order_relaxed) == 0;
  ssize_t result;
  if (side->receiving.load(std::memory_order_acquire) == 0 &&
      ReceiveByKernel(side, fd, waits, kernel, &result, interruption))
    return result;
  DatagramNews news;
  return ReceiveDatagram(fd, side, iov, iov_count, flags, name, &news, KernelCall(kernel),
                         interruption);
}
template <class Call>
[[gnu::noinline]] ssize_t SendBesideFifos(int fd, DatagramSide* side, const iovec* iov,
                                          size_t iov_count, int flags, Call kernel, const void* to,
                                          socklen_t to_length) {
  return SendDatagram(fd, side, iov, iov_count, flags, to, to_length, /*plain=*/true,
                      KernelCall(kernel));
}

template <class Call>
ssize_t DatagramReceiveOr(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                          const Call& kernel, const DatagramName& name = {}) {
  if (side == nullptr) return kernel();
  ssize_t result;
  const bool waits = (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) == 0 &&
                     side->nonblocking.load(std::memory_order_relaxed) == 0;
  if (__builtin_expect(ReceiveBarely(side, waits, kernel, &result), 1)) return result;
  return ReceiveBesideFifos(fd, side, iov, iov_count, flags, kernel, name);
}
template <class Call>
ssize_t DatagramSendOr(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                       const Call& kernel, const void* to = nullptr, socklen_t to_length = 0) {
  if (side == nullptr) return kernel();
  if (__builtin_expect(
          side->sending.load(std::memory_order_acquire) == 0 && (flags & MSG_MORE) == 0, 1)) {
    const ssize_t result = kernel();
    if (result >= 0) CountKernelSend(side, to, to_length);
    return result;
  }
  return SendBesideFifos(fd, side, iov, iov_count, flags, kernel, to, to_length);
}

// ---- life and options (datagram_life.cc) ----
void DatagramCreated(int fd, int domain, int type, int protocol);
void BeforeDatagramConnect(int fd);
void AfterDatagramConnect(int fd, const void* address, socklen_t length, bool done);
void BeforeDatagramShutdown(int fd);
ssize_t BeforeDatagramSetOption(int fd, DatagramSide* side, int level, int name, const void* value,
                                socklen_t length);
void AfterDatagramSetOption(int fd, DatagramSide* side, int level, int name);
ssize_t BeforeDatagramGetOption(int fd, DatagramSide* side, int level, int name, void* value,
                                socklen_t* length);
ssize_t BeforeDatagramIoctl(int fd, DatagramSide* side, unsigned long request, void* argument);
void AfterDatagramIoctl(DatagramSide* side, unsigned long request, const void* argument);
void AfterDatagramSetFlags(int fd, DatagramSide* side, int flags);

}  // namespace xenloop
