// Back to TCP, and waiting for it: what any thread does to end the FIFOs of a side (agent.h). The
// agent finishes what is left over: agent_service.cc.
#include <sys/socket.h>

#include "preload/agent.h"
#include "preload/agent_state.h"
#include "preload/fd_table.h"
#include "preload/log.h"
#include "preload/self.h"
#include "preload/shadow.h"
#include "preload/stats.h"

namespace xenloop {
namespace {

// After a fallback of ours: bytes that were readable in the FIFO come back by TCP. The program may
// be told EAGAIN or an empty socket where it saw bytes before, so wait until they are here; not for
// ever, the peer may be stopped.
void AwaitResidue(int fd, uint64_t owed, int64_t received_before) {
  constexpr uint64_t kPatienceNs = 100000000;
  const uint64_t end = sys::MonotonicNs() + kPatienceNs;
  tcp_info info;
  while (TcpInfoOf(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished &&
         info.tcpi_bytes_received < static_cast<uint64_t>(received_before) + owed &&
         sys::MonotonicNs() < end) {
    const timespec nap{0, 50000};
    sys::Call(SYS_nanosleep, reinterpret_cast<long>(&nap), 0);
  }
}

}  // namespace

// This guest was suspended unprepared, and where the peer stands in the stream is not known.
void ResetConnection(int fd, Side* side) {
  constexpr const char* kReason = "the guest was suspended without notice";
  sockaddr nobody = {};
  nobody.sa_family = AF_UNSPEC;
  sys::Call(SYS_connect, fd, reinterpret_cast<long>(&nobody), sizeof nobody);
  Log("reset fd %d: %s", fd, kReason);
  side->reason.store(kReason, std::memory_order_relaxed);
  CountFallback(kReason);
}

void FallBack(int fd, Side* side, const char* reason) {
  SocketShadow shadow(fd, side);
  uint64_t owed = 0;
  int64_t received_before = 0;
  const uint32_t tid = CurrentTid();
  bool ended = false;
  bool pending = false;
  {
    sys::SignalsBlocked blocked;
    {
      LockScope scope(side->send.lock, tid);
      const SendRoute route = side->send.route.load(std::memory_order_relaxed);
      if (route != SendRoute::kTcp && FindSide(fd) == side) {
        ended = !SendStream::IsOwing(route);
        side->send.BeginFlush(shadow);
        pending = side->send.PumpResidue(shadow) != 0;
      }
    }
    {
      LockScope scope(side->receive.lock, tid);
      if (side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp &&
          FindSide(fd) == side) {
        ended = true;
        if (side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kFifo) {
          tcp_info info;
          received_before =
              TcpInfoOf(fd, &info) == 0 ? static_cast<int64_t>(info.tcpi_bytes_received) : 0;
          owed = side->receive.fifo.AvailableBytes();
        }
        side->receive.EndFifo(shadow);
      }
    }
  }
  if (ended) {
    Log("fall back fd %d: %s", fd, reason);
    side->fallbacks.fetch_add(1, std::memory_order_relaxed);
    side->reason.store(reason, std::memory_order_relaxed);
    CountFallback(reason);
  }
  if (ended || pending) RequestService(side);
  if (owed > 0 && tid != agent.tid.load(std::memory_order_relaxed))
    AwaitResidue(fd, owed, received_before);
}

void AgentDrain(int milliseconds) {
  if (agent.started.load(std::memory_order_acquire) != 2) return;
  const uint64_t end = sys::MonotonicNs() + static_cast<uint64_t>(milliseconds) * 1000000u;
  for (;;) {
    bool pending = false;
    for (uint32_t slot = 0; slot < kMaxSides && !pending; ++slot) {
      if (slot % 64 == 0 && Arena()->used.words[slot / 64].load(std::memory_order_relaxed) == 0) {
        slot += 63;
        continue;
      }
      Side* side = SideAt(slot);
      pending = IsOurs(side) && side->in_use.load(std::memory_order_relaxed) != 0 &&
                SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
    }
    if (!pending) return;
    if (sys::MonotonicNs() >= end) break;
    const timespec nap{0, 1000000};
    sys::Call(SYS_nanosleep, reinterpret_cast<long>(&nap), 0);
  }
  // What a FIFO still holds when we end would be missing at a clean end of the stream.
  for (uint32_t slot = 0; slot < kMaxSides; ++slot) {
    if (IsOurs(SideAt(slot))) StopAsking(SideAt(slot));
  }
}

void StopAsking(Side* side) {
  if (side->send.route.load(std::memory_order_acquire) != SendRoute::kAsking) return;
  const int lingering_fd = agent.sides[SlotOf(side)].lingering_fd;
  const int fd = lingering_fd >= 0 ? lingering_fd : side->fd.load(std::memory_order_acquire);
  SocketShadow shadow(fd, side);
  sys::SignalsBlocked blocked;
  LockScope scope(side->send.lock, CurrentTid());
  if (lingering_fd >= 0 || FindSide(fd) == side) side->send.GiveUp(shadow);
}

void AgentRelease(Side* side, int lingering_fd) {
  if (lingering_fd >= 0) agent.sides[SlotOf(side)].lingering_fd = lingering_fd;
  side->holders.store(0, std::memory_order_release);
  side->references.store(0, std::memory_order_release);
  RequestService(side);
}

}  // namespace xenloop
