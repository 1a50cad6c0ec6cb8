// The shadow socket of a side as a stream wants to see it: never blocks, never raises SIGPIPE,
// knows how many payload bytes the kernel has carried.
#pragma once

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>

#include "channel/base/sys.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/side.h"

namespace xenloop {

// Both ends are told, by the kernel: ECONNRESET. For a stream that cannot go on without a byte too
// few: nobody knows how far it was read, or TCP does not take what it owes.
void ResetConnection(int fd, Side* side);

// -EPROTO: a kernel that does not tell as much as we need (before Linux 4.19), or something that
// stands in for one: qemu's user-mode emulation answers four bytes.
inline int TcpInfoOf(int fd, tcp_info* info) {
  constexpr size_t kNeeded =
      offsetof(tcp_info, tcpi_bytes_retrans) + sizeof info->tcpi_bytes_retrans;
  socklen_t length = sizeof *info;
  const long result =
      sys::Call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, sys::Word(info), sys::Word(&length));
  return result == 0 && length < kNeeded ? -EPROTO : static_cast<int>(result);
}

// What a program that has set a send buffer of its own counts on: not to be able to send much more
// than that ahead of the reader. No limit where the kernel chooses the size, or does not say
// (before Linux 5.14).
inline uint64_t SendWindowOf(int fd) {
  constexpr int kBufferLocks = 72;  // SO_BUF_LOCK: which sizes the program has set
  constexpr int kSendLock = 1;
  int locks = 0;
  int bytes = 0;  // twice what was asked for: the kernel's own overhead is in it
  for (const auto& [name, value] :
       {std::pair{kBufferLocks, &locks}, std::pair{SO_SNDBUF, &bytes}}) {
    socklen_t length = sizeof *value;
    if (sys::Call(SYS_getsockopt, fd, SOL_SOCKET, name, sys::Word(value), sys::Word(&length)) != 0)
      return ~0ull;
  }
  return (locks & kSendLock) != 0 ? static_cast<uint64_t>(bytes) / 2 : ~0ull;
}

class SocketShadow {
 public:
  SocketShadow(int fd, Side* side) : fd_(fd), side_(side) {}

  bool StillOurs() const { return FdTable::FindSide(fd_) == side_; }

  ssize_t TrySend(const iovec* iov, size_t count) const {
    // An error that is pending belongs to the program's next call: a send of ours must not swallow
    // it.
    pollfd entry{fd_, 0, 0};
    const timespec now{0, 0};
    if (sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&now), 0,
                  8) > 0)
      return -EPIPE;
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(iov);
    message.msg_iovlen = count;
    return sys::Call(SYS_sendmsg, fd_, reinterpret_cast<long>(&message),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  ssize_t TryReceive(const iovec* iov, size_t count, int flags) const {
    if ((flags & MSG_TRUNC) != 0 && iov[0].iov_base == nullptr) {
      return sys::Call(SYS_recvfrom, fd_, 0, static_cast<long>(iov[0].iov_len),
                       flags | MSG_DONTWAIT, 0, 0);
    }
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(iov);
    message.msg_iovlen = count;
    return sys::Call(SYS_recvmsg, fd_, reinterpret_cast<long>(&message), flags | MSG_DONTWAIT);
  }
  // Payload bytes the program has handed to TCP: those acknowledged and those not yet. Not those
  // sent: a segment that this machine's own queue has dropped is among them as often as it was
  // tried (findings/tcp_info_bytes_sent_local_drop.sh). Asked again if more came in between.
  int64_t Written() const {
    tcp_info before;
    tcp_info after;
    int queued = 0;
    do {
      if (const int error = TcpInfoOf(fd_, &before)) return error;
      const long result = sys::Call(SYS_ioctl, fd_, SIOCOUTQ, reinterpret_cast<long>(&queued));
      if (result < 0) return result;
      if (const int error = TcpInfoOf(fd_, &after)) return error;
    } while (before.tcpi_bytes_acked != after.tcpi_bytes_acked);
    const int64_t taken = static_cast<int64_t>(after.tcpi_bytes_acked) + queued;
    const int64_t sent = static_cast<int64_t>(after.tcpi_bytes_sent - after.tcpi_bytes_retrans +
                                              after.tcpi_notsent_bytes);
    if (side_->opening.load(std::memory_order_relaxed) == Opening::kUnseen) {
      // Without a drop of our own the two differ by the SYN; with one nobody can tell any more.
      if (taken != sent && taken != sent + 1) return -EAGAIN;
      side_->opening.store(taken == sent ? Opening::kAccepted : Opening::kConnected,
                           std::memory_order_relaxed);
    }
    const bool connected = side_->opening.load(std::memory_order_relaxed) == Opening::kConnected;
    return taken - (connected ? 1 : 0);
  }
  // Payload bytes the program has taken from TCP: those received, less those in the queue. A FIN
  // counts as one byte received. Asked again if more came in between.
  int64_t Read() const {
    tcp_info before;
    tcp_info after;
    for (;;) {
      int queued = 0;
      if (const int error = TcpInfoOf(fd_, &before)) return error;
      const long result = sys::Call(SYS_ioctl, fd_, SIOCINQ, reinterpret_cast<long>(&queued));
      if (result < 0) return result;
      if (const int error = TcpInfoOf(fd_, &after)) return error;
      if (before.tcpi_bytes_received != after.tcpi_bytes_received ||
          before.tcpi_state != after.tcpi_state)
        continue;
      return static_cast<int64_t>(after.tcpi_bytes_received) - queued - FinBytes(after);
    }
  }
  // Payload bytes that have arrived, read or not. A connection that is closed does not tell whether
  // a FIN is among them: then these are two numbers.
  int64_t ReceivedAtLeast() const {
    tcp_info info;
    if (const int error = TcpInfoOf(fd_, &info)) return error;
    return static_cast<int64_t>(info.tcpi_bytes_received) - FinBytes(info);
  }
  int64_t ReceivedAtMost() const {
    tcp_info info;
    if (const int error = TcpInfoOf(fd_, &info)) return error;
    return static_cast<int64_t>(info.tcpi_bytes_received) -
           (info.tcpi_state == kTcpClose ? 0 : FinBytes(info));
  }
  // The queue is empty and will stay so.
  bool Ended() const {
    tcp_info info;
    int queued = 0;
    return TcpInfoOf(fd_, &info) != 0 ||
           (FinBytes(info) != 0 &&
            sys::Call(SYS_ioctl, fd_, SIOCINQ, reinterpret_cast<long>(&queued)) == 0 &&
            queued == 0);
  }
  bool Readable() const {
    pollfd entry{fd_, POLLIN | POLLRDHUP, 0};
    const timespec now{0, 0};
    return sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&now), 0,
                     8) > 0;
  }
  void BeforeTcp() const { TellHeldOptions(fd_, side_); }
  void PushTcp() const { PushHeldBack(fd_); }
  // Both ends are told, by the kernel: ECONNRESET.
  void Reset() const { ResetConnection(fd_, side_); }
  void Ring(bool certain, uint32_t bell) const { RingPeerOf(side_, certain, bell); }
  void RingAll(bool certain, uint32_t bell) const {
    RingPeerOf(side_, certain, bell);
    RingOwnOf(side_);
  }

  // The kernel's states, as TCP_INFO gives them (include/net/tcp_states.h).
  static constexpr int kTcpEstablished = 1;
  static constexpr int kTcpFinWait1 = 4;
  static constexpr int kTcpFinWait2 = 5;
  static constexpr int kTcpClose = 7;
  static constexpr int kTcpCloseWait = 8;

  // A FIN that has come counts as one byte received.
  static int64_t FinBytes(const tcp_info& info) {
    return info.tcpi_state != kTcpEstablished && info.tcpi_state != kTcpFinWait1 &&
                   info.tcpi_state != kTcpFinWait2
               ? 1
               : 0;
  }

 private:
  int fd_;
  Side* side_;
};

}  // namespace xenloop
