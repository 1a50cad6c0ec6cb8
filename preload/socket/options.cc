// Options, ioctls and shutdown of a followed socket: what changes the data path is remembered, what
// a FIFO cannot follow sends the connection back to TCP.
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/ioctl.h>

#include "channel/base/time.h"
#include "discovery/protocol/control.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/socket_options.h"
#include "preload/side/stats.h"
#include "preload/side/wait.h"
#include "preload/socket/parked.h"
#include "preload/socket/socket.h"
#include "preload/socket/test_points.h"

namespace xenloop {
namespace {

constexpr int kTcpZerocopyReceive = 35;

// What a receive could take without waiting; negative: the kernel knows.
int ReadableBytes(int fd, Side* side) {
  LockScope scope(side->receive.lock, CurrentTid());
  SocketShadow shadow(fd, side);
  if (!shadow.StillOurs()) return -1;
  side->receive.Advance(shadow);
  int tcp = 0;
  if (side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp ||
      sys::Call(SYS_ioctl, fd, FIONREAD, reinterpret_cast<long>(&tcp)) < 0) {
    return -1;
  }
  const uint64_t readable = side->receive.ReadableBytes(static_cast<uint64_t>(tcp));
  constexpr int kMost = 0x7ffffffe;  // leaves room for an end that counts as one
  return readable < kMost ? static_cast<int>(readable) : kMost;
}

int64_t TimeoutOf(int fd, int name) {
  timeval value{};
  socklen_t length = sizeof value;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, name, reinterpret_cast<long>(&value),
            reinterpret_cast<long>(&length));
  return ToUs(value);
}

constexpr uint32_t kShutReading = 1;
constexpr uint32_t kShutWriting = 2;
uint32_t Shut(int how) {
  return (how != SHUT_WR ? kShutReading : 0) | (how != SHUT_RD ? kShutWriting : 0);
}

// Both directions are shut down: TCP answers whatever comes now with a reset. So it must come by
// TCP; but what has come before stays to be read.
void RefuseWhatComes(int fd, Side* side) {
  {
    const sys::SignalsBlocked blocked;
    const LockScope scope(side->receive.lock, CurrentTid());
    SocketShadow shadow(fd, side);
    if (side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp ||
        !shadow.StillOurs())
      return;
    if (!side->receive.EndFifoAndKeep(shadow)) {
      // Before the FIFO come bytes of TCP, or it has ended.
      if (side->receive.fifo.AvailableBytes() > 0) return;
      side->receive.EndFifo(shadow);
    }
  }
  RequestService(side);
}
// What a FIFO held comes by TCP, and has to be here before TCP refuses it. Not for ever: the other
// end may be stopped.
void AwaitWhatIsDue(int fd, Side* side) {
  Naps naps(100 * kNsPerMs, 50 * kNsPerUs);
  while (side->receive.residue_due.load(std::memory_order_relaxed) != 0) {
    {
      const sys::SignalsBlocked blocked;
      const LockScope scope(side->receive.lock, CurrentTid());
      SocketShadow shadow(fd, side);
      if (!shadow.StillOurs() || side->receive.ResidueHasCome(shadow)) return;
    }
    if (!naps.Take()) return;
  }
}

}  // namespace

bool BeforeShutdown(int fd, Side* side, int how) {
  if (side->queue.load(std::memory_order_relaxed) != 0) EndQueue(side, QueueEnd::kGoesOn);
  if (ParkedPair* const pair = PairOf(side)) {
    // As in the kernel, a connect() that has not been asked for its result is done.
    pair->connecting = false;
  }
  if (how >= SHUT_RD && how <= SHUT_RDWR &&
      (side->shut.load(std::memory_order_relaxed) | Shut(how)) == (kShutReading | kShutWriting)) {
    // Both directions of a life end together: the other end sends by TCP at once what is not read.
    if (PairOf(side) != nullptr) FallBack(fd, side, Reason::kParkEnded);
    AwaitWhatIsDue(fd, side);
    // Before the other end hears of it, and closes: it would send what is kept here.
    if (side->Connected()) RefuseWhatComes(fd, side);
  }
  if (how != SHUT_WR && how != SHUT_RDWR) return false;
  if (side->send.route.load(std::memory_order_acquire) == SendRoute::kTcp) return false;
  // The FIN must not overtake what the FIFO holds: this direction goes back to TCP first. If TCP
  // does not take all of it at once, the agent sends the FIN when it has.
  SocketShadow shadow(fd, side);
  bool pending;
  {
    sys::SignalsBlocked blocked;
    LockScope scope(side->send.lock, CurrentTid());
    side->send.BeginFlush(shadow);
    pending = side->send.PumpResidue(shadow) != 0;
    if (pending) side->shutdown_pending.store(1, std::memory_order_release);
  }
  if (pending && how == SHUT_RDWR) sys::Call(SYS_shutdown, fd, SHUT_RD);
  RequestService(side);
  return pending;
}

void AfterShutdown(int fd, Side* side, int how, bool done) {
  const uint32_t shut = Shut(how);
  if (done && (side->shut.fetch_or(shut, std::memory_order_relaxed) | shut) ==
                  (kShutReading | kShutWriting))
    RefuseWhatComes(fd, side);
  // Threads asleep in a FIFO must see what the kernel now says.
  const uint32_t tid = CurrentTid();
  {
    LockScope scope(side->receive.lock, tid);
    if (side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp) {
      const Fifo fifo = side->receive.fifo;
      WakeOwnSleepers(fifo, fifo.header->consumer_waiting);
    }
  }
  RingOwnOf(side);
}

ssize_t BeforeSetOption(int fd, Side* side, int level, int name, const void* value,
                        socklen_t length) {
  if (level == SOL_SOCKET && name == kMarkedPoint) {
    if (!GetConfig().test_points || length != sizeof(int)) return kUseKernel;
    int wish;
    memcpy(&wish, value, sizeof wish);
    if (wish == 2) return UpgradeNow(fd, side);
    if (wish >= kSignalPoint) {
      PlantSignal(wish - kSignalPoint);
      return 0;
    }
    FallBack(fd, side, Reason::kMarkedPoint);
    return 0;
  }
  if (Parks()) OptionIsSet(side, level, name);
  int result;
  if (level == IPPROTO_TCP && length >= sizeof(int) && MayRead(value, sizeof(int))) {
    int on;
    memcpy(&on, value, sizeof on);
    if (HoldOption(fd, side, name, on != 0, &result)) return result;
  }
  const Reason reason = ReasonAgainstOption(level, name);
  if (reason != Reason::kNone) {
    // What was sent before must not pass through the upper layer, nor be missing where it is looked
    // at.
    const bool orders = reason == Reason::kUpperLayer || reason == Reason::kTcpRepair;
    FallBackToTcp(fd, reason, TcpFor::kGood, orders ? NextWriter::kUnseen : NextWriter::kOurs);
  }
  return kUseKernel;
}

void AfterSetOption(int fd, Side* side, int level, int name, const void*, socklen_t) {
  // The agent reads all of these when it first looks at a socket, and then whenever they may have
  // changed.
  if (level == SOL_SOCKET || (level == IPPROTO_TCP && name == TCP_INQ))
    side->options_asked.store(0, std::memory_order_seq_cst);
  if (agent_shared.started.load(std::memory_order_acquire) == 0) return;
  if (level == IPPROTO_TCP && name == TCP_INQ) {
    int tells = 0;
    socklen_t length = sizeof tells;
    sys::Call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INQ, sys::Word(&tells), sys::Word(&length));
    side->tells_bytes_left.store(tells != 0, std::memory_order_relaxed);
  }
  if (level != SOL_SOCKET) return;
  if (name == SO_RCVTIMEO_OLD || name == SO_RCVTIMEO_NEW) {
    side->receive_timeout_us.store(TimeoutOf(fd, SO_RCVTIMEO), std::memory_order_relaxed);
  } else if (name == SO_SNDTIMEO_OLD || name == SO_SNDTIMEO_NEW) {
    side->send_timeout_us.store(TimeoutOf(fd, SO_SNDTIMEO), std::memory_order_relaxed);
  } else if (name == SO_SNDBUF || name == SO_SNDBUFFORCE) {
    const uint64_t window = SendWindowOf(fd);
    const LockScope scope(side->send.lock, CurrentTid());
    side->send.SetWindow(window);
  } else if (name == SO_RCVLOWAT) {
    int low = 1;
    socklen_t length = sizeof low;
    sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVLOWAT, reinterpret_cast<long>(&low),
              reinterpret_cast<long>(&length));
    side->receive_low_water.store(static_cast<uint32_t>(low < 1 ? 1 : low),
                                  std::memory_order_relaxed);
    EpollTellsAnew(side);
  }
}

ssize_t BeforeGetOption(int fd, Side* side, int level, int name, void* value, socklen_t* length) {
  if (level == SOL_SOCKET && name == kMarkedPoint && GetConfig().test_points) {
    if (length == nullptr || *length < sizeof(int)) return -EINVAL;
    const int routes = RoutesOf(side) | (PairOf(side) != nullptr ? kLifeOfParked : 0);
    memcpy(value, &routes, sizeof routes);
    *length = sizeof routes;
    return 0;
  }
  if (level == IPPROTO_TCP && (name == TCP_CORK || name == TCP_NODELAY)) {
    const LockScope scope(side->send.lock, CurrentTid());
    if (scope.result() == LockResult::kAcquired && FindSide(fd) == side) TellHeldOptions(fd, side);
  }
  if (level == IPPROTO_TCP && name == kTcpZerocopyReceive)
    FallBackToTcp(fd, Reason::kZeroCopyReceive, TcpFor::kGood, NextWriter::kOurs);
  return kUseKernel;
}

void AfterGetOption(int, Side* side, int level, int name, void* value, socklen_t* length) {
  if (level == SOL_SOCKET && name == SO_ERROR && value != nullptr && length != nullptr &&
      *length >= sizeof(int)) {
    int error;
    memcpy(&error, value, sizeof error);
    const int32_t met = side->send.pending_error.exchange(0, std::memory_order_relaxed);
    if (error == 0 && met != 0) {
      error = -met;
      memcpy(value, &error, sizeof error);
    }
  }
  if (level != IPPROTO_TCP || name != TCP_INFO || value == nullptr || length == nullptr) return;
  // The counters tell of the stream, by whatever route it went.
  uint64_t sent;
  uint64_t received;
  uint64_t sent_ns;
  uint64_t received_ns;
  bool ended;
  const uint64_t now = sys::MonotonicNs();
  {
    LockScope scope(side->send.lock, CurrentTid());
    sent = side->send.FifoBytes();
    sent_ns = side->last_sent.AgeNs(sent, now);
  }
  {
    LockScope scope(side->receive.lock, CurrentTid());
    received = side->receive.FifoBytes();
    received_ns = side->last_received.AgeNs(received, now);
    ended = side->receive.lives.OtherHasFinished();
  }
  auto* info = static_cast<tcp_info*>(value);
  const auto covers = [length](size_t end) { return *length >= end; };
  if (ended && covers(sizeof info->tcpi_state) && info->tcpi_state == BPF_TCP_ESTABLISHED)
    info->tcpi_state = BPF_TCP_CLOSE_WAIT;
  const auto younger = [&covers, info](uint32_t tcp_info::*ms, uint64_t age_ns) {
    const uint64_t age_ms = age_ns / kNsPerMs;
    const auto* const end = reinterpret_cast<const char*>(&(info->*ms) + 1);
    if (covers(static_cast<size_t>(end - reinterpret_cast<const char*>(info))) &&
        age_ms < info->*ms)
      info->*ms = static_cast<uint32_t>(age_ms);
  };
  younger(&tcp_info::tcpi_last_data_sent, sent_ns);
  younger(&tcp_info::tcpi_last_data_recv, received_ns);
  younger(&tcp_info::tcpi_last_ack_recv, sent_ns < received_ns ? sent_ns : received_ns);
  if (covers(offsetof(tcp_info, tcpi_bytes_acked) + 8)) info->tcpi_bytes_acked += sent;
  if (covers(offsetof(tcp_info, tcpi_bytes_received) + 8)) info->tcpi_bytes_received += received;
  if (covers(offsetof(tcp_info, tcpi_bytes_sent) + 8)) info->tcpi_bytes_sent += sent;
}

void BeforeBpf(int command, const void* attributes, size_t size) {
  if (command != BPF_MAP_UPDATE_ELEM || FdTable::End() == 0 || size < offsetof(bpf_attr, flags) ||
      !MayRead(attributes, size))
    return;
  const auto* const update = static_cast<const bpf_attr*>(attributes);
  bpf_map_info map{};
  bpf_attr question{};
  question.info.bpf_fd = update->map_fd;
  question.info.info_len = sizeof map;
  question.info.info = reinterpret_cast<uintptr_t>(&map);
  if (sys::Call(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, sys::Word(&question), sizeof question) != 0 ||
      (map.type != BPF_MAP_TYPE_SOCKMAP && map.type != BPF_MAP_TYPE_SOCKHASH)) {
    return;
  }
  const auto* const value = reinterpret_cast<const void*>(static_cast<uintptr_t>(update->value));
  if (!MayRead(value, map.value_size)) return;
  uint64_t wide = 0;
  uint32_t narrow = 0;
  if (map.value_size == sizeof wide) memcpy(&wide, value, sizeof wide);
  if (map.value_size == sizeof narrow) memcpy(&narrow, value, sizeof narrow);
  FallBackToTcp(static_cast<int>(wide | narrow), Reason::kSocketMap, TcpFor::kGood);
}

ssize_t BeforeIoctl(int fd, Side* side, unsigned long request, void* argument) {
  if (request == FIOASYNC)
    FallBackToTcp(fd, Reason::kAsynchronousSignals, TcpFor::kGood, NextWriter::kOurs);
  if (request == TIOCOUTQ && MayWrite(argument, sizeof(int))) {
    LockScope scope(side->send.lock, CurrentTid());
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo) return kUseKernel;
    // As with TCP, what fits into the peer's buffer counts as delivered: half the FIFO stands for
    // that buffer.
    const Fifo fifo = side->send.fifo;
    const uint64_t held = fifo.AvailableBytes();
    const int unsent =
        static_cast<int>(held > fifo.capacity_bytes / 2 ? held - fifo.capacity_bytes / 2 : 0);
    memcpy(argument, &unsent, sizeof unsent);
    return 0;
  }
  if (request != FIONREAD) return kUseKernel;
  const int answer = ReadableBytes(fd, side);
  if (answer < 0) return kUseKernel;
  if (!MayWrite(argument, sizeof answer)) return -EFAULT;
  memcpy(argument, &answer, sizeof answer);
  return 0;
}

int BytesLeftToTell(int fd, Side* side) {
  if (side->tells_bytes_left.load(std::memory_order_relaxed) == 0) return kNothingToTell;
  int left = ReadableBytes(fd, side);
  if (left < 0 && sys::Call(SYS_ioctl, fd, FIONREAD, sys::Word(&left)) < 0) left = 0;
  // The end of the stream, too, is a reason to read on.
  tcp_info info;
  if (TcpInfoOf(fd, &info) == 0) left += static_cast<int>(SocketShadow::FinBytes(info));
  return left;
}

namespace {
void BlocksFromNowOn(Side* side, bool blocks) {
  side->nonblocking.store(blocks ? 0 : 1, std::memory_order_relaxed);
  side->options_asked.store(0, std::memory_order_seq_cst);
  // Its accept may sleep in the kernel, which tells of no life.
  if (blocks && side->queue.load(std::memory_order_relaxed) != 0) EndQueue(side, QueueEnd::kGoesOn);
}
}  // namespace

void AfterIoctl(int, Side* side, unsigned long request, void* argument) {
  if (request != FIONBIO || argument == nullptr) return;
  int on;
  memcpy(&on, argument, sizeof on);
  BlocksFromNowOn(side, on == 0);
}

void AfterSetFlags(int fd, Side* side, int flags) {
  BlocksFromNowOn(side, (flags & O_NONBLOCK) == 0);
  if ((flags & O_ASYNC) != 0)
    FallBackToTcp(fd, Reason::kAsynchronousSignals, TcpFor::kGood, NextWriter::kOurs);
}

}  // namespace xenloop
