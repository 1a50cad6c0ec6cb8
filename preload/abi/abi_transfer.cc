// read, write, recv, send and their relatives without a msghdr. read and write of nothing are not
// recv and send of nothing (they never wait), and go to the kernel: no byte moves.
#include <sys/uio.h>

#include "preload/abi/abi.h"
#include "preload/side/fd_table.h"
#include "preload/socket/datagram.h"
#include "preload/socket/message.h"
#include "preload/socket/transfer.h"

using namespace xenloop;

namespace {

// What read and write refuse: they look at the whole length, and not at what one call can move.
bool IsRefused(const void* buffer, size_t length) {
  return length == 0 || length > SSIZE_MAX || IsBeyondMemory(buffer, length);
}
// The kernel cuts what recv, send and their like ask for.
size_t Most(size_t length) { return length < kMostBytesACall ? length : kMostBytesACall; }

bool IsTransfer(const iovec* iov, int iov_count) {
  return iov_count > 0 && IsUsable(iov, static_cast<size_t>(iov_count)) &&
         !IsEmpty(iov, static_cast<size_t>(iov_count));
}

}  // namespace

XENLOOP_EXPORT ssize_t read(int fd, void* buffer, size_t length) {
  const auto kernel = [=] { return real::read(fd, buffer, length); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  if (IsRefused(buffer, length)) return kernel();
  const iovec destination{buffer, length};
  if (side == nullptr)
    return DatagramReceiveOr(fd, meaning.OfDatagram(), &destination, 1, 0, kernel);
  return ReceiveOr(fd, side, &destination, 1, 0, nullptr, kernel);
}
XENLOOP_ALIAS(__read, read);

XENLOOP_EXPORT ssize_t __read_chk(int fd, void* buffer, size_t length, size_t buffer_size) {
  if (length > buffer_size) return real::__read_chk(fd, buffer, length, buffer_size);  // aborts
  return read(fd, buffer, length);
}

XENLOOP_EXPORT ssize_t readv(int fd, const iovec* iov, int iov_count) {
  const auto kernel = [=] { return real::readv(fd, iov, iov_count); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  if ((side == nullptr && meaning.OfDatagram() == nullptr) || !IsTransfer(iov, iov_count))
    return kernel();
  if (side == nullptr)
    return DatagramReceiveOr(fd, meaning.OfDatagram(), iov, static_cast<size_t>(iov_count), 0,
                             kernel);
  return ReceiveOr(fd, side, iov, static_cast<size_t>(iov_count), 0, nullptr, kernel);
}

XENLOOP_EXPORT ssize_t preadv2(int fd, const iovec* iov, int iov_count, off_t offset, int flags) {
  const auto kernel = [=] { return real::preadv2(fd, iov, iov_count, offset, flags); };
  BeforeCallOn(fd);
  DatagramToKernel(fd, Reason::kVectorFlags, KernelFor::kGood);
  Side* const side = FindSide(fd);
  if (side == nullptr || offset != -1 || !IsTransfer(iov, iov_count)) return kernel();
  return ReceiveOr(fd, side, iov, static_cast<size_t>(iov_count), MessageFlags(fd, flags), nullptr,
                   kernel);
}
XENLOOP_ALIAS(preadv64v2, preadv2);

XENLOOP_EXPORT ssize_t recv(int fd, void* buffer, size_t length, int flags) {
  const auto kernel = [=] { return real::recv(fd, buffer, length, flags); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  const iovec destination{buffer, Most(length)};
  if (side == nullptr)
    return DatagramReceiveOr(fd, meaning.OfDatagram(), &destination, 1, flags, kernel);
  return ReceiveOr(fd, side, &destination, 1, flags, nullptr, kernel);
}

XENLOOP_EXPORT ssize_t __recv_chk(int fd, void* buffer, size_t length, size_t buffer_size,
                                  int flags) {
  if (length > buffer_size) return real::__recv_chk(fd, buffer, length, buffer_size, flags);
  return recv(fd, buffer, length, flags);
}

XENLOOP_EXPORT ssize_t recvfrom(int fd, void* buffer, size_t length, int flags, sockaddr* address,
                                socklen_t* address_length) {
  bool by_kernel = false;
  const auto kernel = [=, &by_kernel] {
    by_kernel = true;
    return real::recvfrom(fd, buffer, length, flags, address, address_length);
  };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  const iovec destination{buffer, Most(length)};
  if (side == nullptr) {
    return DatagramReceiveOr(fd, meaning.OfDatagram(), &destination, 1, flags, kernel,
                             DatagramName{address, address_length});
  }
  const ssize_t received = ReceiveOr(fd, side, &destination, 1, flags, nullptr, kernel);
  // TCP names no sender. As in the kernel, the bytes are gone when this turns out wrong.
  if (!by_kernel && received >= 0 && address != nullptr) {
    if (!MayWrite(address_length, sizeof *address_length)) return ReturnToLibc(-EFAULT);
    *address_length = 0;
  }
  return received;
}

XENLOOP_EXPORT ssize_t __recvfrom_chk(int fd, void* buffer, size_t length, size_t buffer_size,
                                      int flags, sockaddr* address, socklen_t* address_length) {
  if (length > buffer_size) {
    return real::__recvfrom_chk(fd, buffer, length, buffer_size, flags, address, address_length);
  }
  return recvfrom(fd, buffer, length, flags, address, address_length);
}

XENLOOP_EXPORT ssize_t write(int fd, const void* buffer, size_t length) {
  const auto kernel = [=] { return real::write(fd, buffer, length); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  const iovec source{const_cast<void*>(buffer), length};
  // To write nothing is to send an empty datagram.
  if (side == nullptr && (length == 0 || !IsRefused(buffer, length)))
    return DatagramSendOr(fd, meaning.OfDatagram(), &source, 1, 0, kernel);
  if (side == nullptr || IsRefused(buffer, length)) return kernel();
  return SendOr(fd, side, &source, 1, 0, kernel);
}
XENLOOP_ALIAS(__write, write);

XENLOOP_EXPORT ssize_t writev(int fd, const iovec* iov, int iov_count) {
  const auto kernel = [=] { return real::writev(fd, iov, iov_count); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  if ((side == nullptr && meaning.OfDatagram() == nullptr) || !IsTransfer(iov, iov_count))
    return kernel();
  if (side == nullptr)
    return DatagramSendOr(fd, meaning.OfDatagram(), iov, static_cast<size_t>(iov_count), 0, kernel);
  return SendOr(fd, side, iov, static_cast<size_t>(iov_count), 0, kernel);
}

XENLOOP_EXPORT ssize_t pwritev2(int fd, const iovec* iov, int iov_count, off_t offset, int flags) {
  const auto kernel = [=] { return real::pwritev2(fd, iov, iov_count, offset, flags); };
  BeforeCallOn(fd);
  DatagramToKernel(fd, Reason::kVectorFlags, KernelFor::kGood);
  Side* const side = FindSide(fd);
  if (side == nullptr || offset != -1 || !IsTransfer(iov, iov_count)) return kernel();
  return SendOr(fd, side, iov, static_cast<size_t>(iov_count), MessageFlags(fd, flags), kernel);
}
XENLOOP_ALIAS(pwritev64v2, pwritev2);

XENLOOP_EXPORT ssize_t send(int fd, const void* buffer, size_t length, int flags) {
  const auto kernel = [=] { return real::send(fd, buffer, length, flags); };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  const iovec source{const_cast<void*>(buffer), Most(length)};
  if (side == nullptr) return DatagramSendOr(fd, meaning.OfDatagram(), &source, 1, flags, kernel);
  if (length == 0) return kernel();
  return SendOr(fd, side, &source, 1, flags, kernel);
}
XENLOOP_ALIAS(__send, send);

// A connected TCP socket ignores the address.
XENLOOP_EXPORT ssize_t sendto(int fd, const void* buffer, size_t length, int flags,
                              const sockaddr* address, socklen_t address_length) {
  const auto kernel = [=] {
    return real::sendto(fd, buffer, length, flags, address, address_length);
  };
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (meaning.IsNothing()) return OnUnknown(kernel);
  Side* const side = meaning.OfSide();
  const iovec source{const_cast<void*>(buffer), Most(length)};
  if (side == nullptr)
    return DatagramSendOr(fd, meaning.OfDatagram(), &source, 1, flags, kernel, address,
                          address_length);
  if (length == 0) return kernel();
  return SendOr(fd, side, &source, 1, flags, kernel);
}
