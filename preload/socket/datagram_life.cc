// Life and options of a UDP socket: when it is followed, what ends its FIFOs, what its queue is
// asked for.
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "preload/agent/agent.h"
#include "preload/libc/program_memory.h"
#include "preload/settings/config.h"
#include "preload/side/confinement.h"
#include "preload/side/self.h"
#include "preload/socket/datagram.h"
#include "preload/socket/test_points.h"

namespace xenloop {
namespace {

// They change nothing about which datagrams come, or what is told with them.
bool IsHarmless(int level, int name) {
  if (level != SOL_SOCKET) return false;
  switch (name) {
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
    case SO_PRIORITY:
    case SO_RCVLOWAT:
    case SO_BUSY_POLL:
    case SO_KEEPALIVE:
    case SO_LINGER:
    case SO_NO_CHECK:
      return true;
    default:
      return false;
  }
}

// The kernel's queue without a receive, which would take an error of the socket with it.
struct Glance {
  int fd;
  ssize_t Peek(IovCursor*) const { return FirstOfKernel(fd); }
  static ssize_t Take(IovCursor*) { return -EAGAIN; }
};

}  // namespace

void DatagramCreated(int fd, int domain, int type, int protocol) {
  if (!GetConfig().udp || (domain != AF_INET && domain != AF_INET6) || (type & 0xf) != SOCK_DGRAM ||
      (protocol != 0 && protocol != IPPROTO_UDP))
    return;
  if (!MayFollow() || process_state.bypassed || !FdTable::InRange(fd)) return;
  DatagramSide* const side = AllocateDatagramSide();
  if (side == nullptr) return;
  LookAtProgramMemory();
  side->family = domain;
  side->fd.store(fd, std::memory_order_release);
  side->nonblocking.store((type & SOCK_NONBLOCK) != 0, std::memory_order_relaxed);
  FdTable::SetDatagram(fd, side);
}

// What has come stays, what comes now is the kernel's to judge.
void BeforeDatagramConnect(int fd) {
  DatagramSide* const side = FindDatagram(fd);
  if (side == nullptr) return;
  StopSending(side, Reason::kDisconnected);
  EndSources(side, Reason::kDisconnected);
}

void AfterDatagramConnect(int fd, const void* address, socklen_t length, bool done) {
  DatagramSide* const side = FindDatagram(fd);
  if (side == nullptr || !done) return;
  const UdpName name = MayRead(address, NameLengthOf(length))
                           ? ReadUdpName(side->family, address, length)
                           : UdpName{};
  side->destination.Store(name);
  side->connected.store(name.Known(), std::memory_order_relaxed);
  WatchSends(side);
  // Joined between our look and the kernel's connect.
  EndSources(side, Reason::kDisconnected);
  // Its name may be another one now.
  side->published.store(0, std::memory_order_relaxed);
  side->receive_looks.store(0, std::memory_order_relaxed);
  side->next_receive_look_ns.store(0, std::memory_order_relaxed);
}

void BeforeDatagramShutdown(int fd) {
  DatagramSide* const side = FindDatagram(fd);
  if (side == nullptr) return;
  side->pinned.store(1, std::memory_order_seq_cst);
  StopSending(side, Reason::kDisconnected);
  EndSources(side, Reason::kDisconnected);
}

ssize_t BeforeDatagramSetOption(int fd, DatagramSide* side, int level, int name, const void* value,
                                socklen_t length) {
  if (level == SOL_SOCKET && name == kMarkedPoint && GetConfig().test_points) {
    int request = 0;
    if (length != sizeof request || !MayRead(value, sizeof request)) return -EINVAL;
    memcpy(&request, value, sizeof request);
    if (request == 2) return MeetNow(side);
    if (request >= kSignalPoint) {
      PlantSignal(request - kSignalPoint);
      return 0;
    }
    DatagramToKernel(fd, Reason::kMarkedPoint, KernelFor::kNow);
    return 0;
  }
  if (IsHarmless(level, name)) return kUseKernel;
  DatagramToKernel(fd, Reason::kDatagramOption, KernelFor::kNow);
  // Who binds the port as well may do so from now on, and stay when the option has gone.
  if (level == SOL_SOCKET && (name == SO_REUSEADDR || name == SO_REUSEPORT)) {
    int share = 0;
    if (length >= sizeof share && MayRead(value, sizeof share)) memcpy(&share, value, sizeof share);
    if (share == 0) return kUseKernel;
    side->shares.store(1, std::memory_order_relaxed);
  }
  return kUseKernel;
}

void AfterDatagramSetOption(int fd, DatagramSide* side, int level, int name) {
  // Joined between our look and the kernel's.
  if (name != kMarkedPoint && !IsHarmless(level, name))
    DatagramToKernel(fd, Reason::kDatagramOption, KernelFor::kNow);
  if (level != SOL_SOCKET || (name != SO_RCVBUF && name != SO_RCVBUFFORCE) ||
      side->receiving.load(std::memory_order_acquire) == 0)
    return;
  uint32_t bytes = 0;
  socklen_t length = sizeof bytes;
  if (sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVBUF, sys::Word(&bytes), sys::Word(&length)) !=
      0)
    return;
  const LockScope scope(side->receive_lock, CurrentTid());
  side->receiver.queue.SetLimit(bytes);
}

ssize_t BeforeDatagramGetOption(int fd, DatagramSide* side, int level, int name, void* value,
                                socklen_t* length) {
  (void)fd;
  if (level != SOL_SOCKET || name != kMarkedPoint || !GetConfig().test_points) return kUseKernel;
  const int routes = DatagramRoutes(side);
  if (!MayWrite(length, sizeof *length) || *length < sizeof routes ||
      !MayWrite(value, sizeof routes))
    return -EINVAL;
  memcpy(value, &routes, sizeof routes);
  return 0;
}

namespace {
// When has the last datagram come? In each of its forms.
bool AsksForTime(unsigned long request) {
  const unsigned long type_and_number = request & 0xffff;
  return type_and_number == 0x8906 || type_and_number == 0x8907;  // SIOCGSTAMP, SIOCGSTAMPNS
}
}  // namespace

ssize_t BeforeDatagramIoctl(int fd, DatagramSide* side, unsigned long request, void* argument) {
  // From the first question on the kernel notes it.
  if (AsksForTime(request)) DatagramToKernel(fd, Reason::kDatagramOption, KernelFor::kGood);
  if (request != FIONREAD || side->receiving.load(std::memory_order_acquire) == 0)
    return kUseKernel;
  int bytes = 0;
  {
    const LockScope scope(side->receive_lock, CurrentTid());
    if (scope.result() == LockResult::kReentered || FindDatagram(fd) != side) return kUseKernel;
    Glance shadow{fd};
    int from = kFromKernel;
    const ssize_t first = side->receiver.Receive(shadow, nullptr, /*peek=*/true, &from);
    if (first < 0 || from == kFromKernel) return kUseKernel;
    bytes = static_cast<int>(first);
  }
  if (!MayWrite(argument, sizeof bytes)) return -EFAULT;
  memcpy(argument, &bytes, sizeof bytes);
  return 0;
}

void AfterDatagramIoctl(DatagramSide* side, unsigned long request, const void* argument) {
  int on = 0;
  if (request != FIONBIO || !MayRead(argument, sizeof on)) return;
  memcpy(&on, argument, sizeof on);
  side->nonblocking.store(on != 0, std::memory_order_relaxed);
}

void AfterDatagramSetFlags(int fd, DatagramSide* side, int flags) {
  (void)fd;
  side->nonblocking.store((flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
  if ((flags & O_ASYNC) != 0) DatagramToKernel(fd, Reason::kSignalsSet, KernelFor::kGood);
}

}  // namespace xenloop
