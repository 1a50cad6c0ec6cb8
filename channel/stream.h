// One direction of a connection: decides which byte goes by which route, switches at an exact
// offset, and falls back. The shadow TCP connection is a template parameter, so the same code runs
// on sockets and, in simulation, on vectors. tests/model/switch.pml is this file as a spin model.
//
// Rules (each named in the model): (1) a fallback seals both words, then sends the residue [C, P)
// before anything newer; (2) a failed publication means: not sent / not received, go by TCP; (3) a
// new FIFO begins only after the old residue is flushed, at N = TCP bytes written by then; (4) the
// reader takes from the FIFO only when it has read exactly N.
//
// Shadow:  ssize_t TrySend(const iovec*, size_t)             never blocks, no SIGPIPE; bytes or
// -errno
//          ssize_t TryReceive(const iovec*, size_t, int)     never blocks; flags MSG_PEEK,
//          MSG_TRUNC; 0 = end of stream int64_t Written(), Read()                         TCP
//          payload bytes so far, or -errno bool Readable()                                   data,
//          end of stream or an error is pending bool StillOurs() asked under the lock: this is
//          still the stream we looked up void Ring()                                       the
//          peer's doorbell: somebody there waits for this FIFO void RingAll() a route ended: the
//          peer's doorbell and our own
//
// Both structs live in memory shared by a process and its forked children; they hold no pointers
// but the mapping of the FIFO, which fork preserves. Zero-initialised memory is a valid stream on
// TCP.
#pragma once

#include <errno.h>
#include <sys/socket.h>

#include <atomic>

#include "channel/base/lock.h"
#include "channel/fifo.h"

namespace xenloop {

inline constexpr ssize_t kStreamUsesTcp =
    -100000;  // == kUseKernel: make the call on the shadow socket

struct Self {
  uint32_t tid;
  uint32_t cpu;  // + 1; 0 unknown
};

enum class SendRoute : uint32_t { kTcp, kOffered, kSwitching, kFifo, kFlushing };
enum class ReceiveRoute : uint32_t { kTcp, kAware, kDraining, kFifo };

// After a seal: whoever waits at either end of the FIFO must look again.
template <typename Shadow>
void WakeEverybody(const Fifo& fifo, Shadow& shadow) {
  WakeSleepers(fifo.header->consumer_waiting);
  WakeSleepers(fifo.header->producer_waiting);
  shadow.RingAll();
}

// Counts the threads that are inside the kernel on a direction's behalf, so that a route is never
// changed beneath them.
template <typename Route>
struct KernelUsers {
  std::atomic<uint32_t> count{0};

  template <typename Allowed>
  bool Enter(const std::atomic<Route>& route, Allowed allowed) {
    if (!allowed(route.load(std::memory_order_relaxed))) return false;
    count.fetch_add(1, std::memory_order_seq_cst);
    // seq_cst: our presence before our look at the route; pairs with "route, then count" of whoever
    // switches (Dekker).
    if (allowed(route.load(std::memory_order_seq_cst))) return true;
    count.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }
  void Leave() { count.fetch_sub(1, std::memory_order_seq_cst); }
  bool Any() const { return count.load(std::memory_order_seq_cst) != 0; }
};

struct SendStream {
  RecoverableLock lock;
  std::atomic<SendRoute> route{SendRoute::kTcp};
  KernelUsers<SendRoute> kernel_users;
  std::atomic<uint32_t> defer_switch{
      0};  // the next send goes to the kernel although an offer stands
  std::atomic<uint32_t> blocked{
      0};  // a send found the FIFO full: room is news (edge-triggered readiness)
  std::atomic<int32_t> pending_error{0};  // met by the agent; belongs to the program's next send
  Fifo fifo;                              // ours: we are the producer
  uint64_t known_consumer = 0;
  uint64_t residue_begin = 0;  // FIFO indices of the residue; valid while kFlushing
  uint64_t residue_end = 0;
  uint64_t residue_in_doubt = 0;  // a thread is, or died, giving residue to the kernel
  int64_t flush_base = 0;         // TCP bytes written when the flush began
  uint64_t finished_bytes = 0;    // carried by FIFOs before this one

  static bool IsKernelRoute(SendRoute r) { return r == SendRoute::kTcp; }

  bool EnterKernel() {
    if (route.load(std::memory_order_relaxed) == SendRoute::kOffered &&
        defer_switch.exchange(0, std::memory_order_relaxed) != 0) {
      return kernel_users.Enter(
          route, [](SendRoute r) { return r == SendRoute::kOffered || IsKernelRoute(r); });
    }
    return kernel_users.Enter(route, IsKernelRoute);
  }
  void LeaveKernel() { kernel_users.Leave(); }

  // Under the lock. The peer has joined and maps `fifo`.
  void Offer(const Fifo& mine) {
    fifo = mine;
    known_consumer = 0;
    route.store(SendRoute::kOffered, std::memory_order_release);
  }

  // Under the lock, signals blocked. Goes over to the FIFO if nobody is in the kernel and the
  // consumer is ready.
  template <typename Shadow>
  bool SwitchUp(Shadow& shadow) {
    // acquire: pairs with MarkReadyIfQuiet at the other end.
    if (fifo.header->consumer_ready.load(std::memory_order_acquire) == 0) return false;
    route.store(SendRoute::kSwitching,
                std::memory_order_seq_cst);  // before our look at the users (Dekker)
    const int64_t written = kernel_users.Any() ? -EBUSY : shadow.Written();
    if (written < 0) {
      route.store(SendRoute::kOffered, std::memory_order_release);
      return false;
    }
    fifo.header->switch_offset.store(static_cast<uint64_t>(written), std::memory_order_relaxed);
    fifo.header->up.store(1, std::memory_order_release);  // the offset before the flag
    route.store(SendRoute::kFifo, std::memory_order_release);
    return true;
  }

  // Under the lock, signals blocked. Seals the FIFO and works out what is owed to TCP.
  template <typename Shadow>
  void BeginFlush(Shadow& shadow) {
    const SendRoute was = route.load(std::memory_order_relaxed);
    if (was == SendRoute::kFlushing || was == SendRoute::kTcp) return;
    fifo.Seal();
    WakeEverybody(fifo, shadow);
    if (was != SendRoute::kFifo) {
      route.store(SendRoute::kTcp, std::memory_order_seq_cst);
      return;
    }
    residue_begin = IndexOf(fifo.header->consumer.load(std::memory_order_acquire));
    residue_end = IndexOf(fifo.header->producer.load(std::memory_order_relaxed));
    // A consumer that wrote nonsense loses its residue; nobody else is touched.
    if (residue_end - residue_begin > fifo.capacity_bytes) residue_begin = residue_end;
    finished_bytes += residue_begin;
    residue_in_doubt = 0;
    flush_base = shadow.Written() - static_cast<int64_t>(residue_begin);
    route.store(SendRoute::kFlushing, std::memory_order_release);
  }

  // Under the lock, signals blocked. Sends what the FIFO still owed. 0 when all is on TCP, else
  // -EAGAIN.
  template <typename Shadow>
  int PumpResidue(Shadow& shadow) {
    Recover(shadow);
    if (route.load(std::memory_order_relaxed) != SendRoute::kFlushing) return 0;
    while (residue_begin != residue_end) {
      const uint64_t offset = residue_begin & (fifo.capacity_bytes - 1);
      uint64_t n = residue_end - residue_begin;
      if (n > fifo.capacity_bytes - offset) n = fifo.capacity_bytes - offset;
      const iovec piece{fifo.data + offset, n};
      residue_in_doubt = 1;  // until residue_begin says what the kernel has taken
      const ssize_t sent = shadow.TrySend(&piece, 1);
      if (sent > 0) residue_begin += static_cast<uint64_t>(sent);
      residue_in_doubt = 0;
      if (sent == -EAGAIN || sent == -EINTR || sent == -ENOBUFS || sent == -ENOMEM) return -EAGAIN;
      if (sent < 0) {  // the connection is dead: the kernel would have dropped these bytes too
        if (sent != -EPIPE)
          pending_error.store(static_cast<int32_t>(sent), std::memory_order_relaxed);
        residue_begin = residue_end;
        break;
      }
    }
    route.store(SendRoute::kTcp, std::memory_order_seq_cst);
    return 0;
  }

  // Under the lock, signals blocked. Repairs what a thread that died with the lock has left half
  // done, whoever notices first: the next sender, the agent, a shutdown.
  template <typename Shadow>
  void Recover(Shadow& shadow) {
    const SendRoute now = route.load(std::memory_order_relaxed);
    if (now == SendRoute::kSwitching) {
      // Nobody has been in the kernel since; the offset may have been announced already.
      const bool announced = fifo.header->up.load(std::memory_order_relaxed) != 0;
      route.store(announced ? SendRoute::kFifo : SendRoute::kOffered, std::memory_order_release);
    }
    if (now != SendRoute::kFlushing || residue_in_doubt == 0) return;
    // The kernel is the witness of how much of the residue it has been given.
    const int64_t written = shadow.Written();
    if (written < 0) return;
    const uint64_t begin = static_cast<uint64_t>(written - flush_base);
    if (residue_end - begin <= residue_end - residue_begin) residue_begin = begin;
    residue_in_doubt = 0;
  }

  // One attempt. Bytes (> 0), -EAGAIN (no room now), kStreamUsesTcp, or a connection error.
  template <typename Shadow>
  ssize_t TrySend(Shadow& shadow, IovCursor& source, Self self) {
    LockScope scope(lock, self.tid);
    if (!shadow.StillOurs()) return kStreamUsesTcp;
    if (route.load(std::memory_order_relaxed) == SendRoute::kFifo &&
        scope.result() == LockResult::kAcquired) {
      const FifoResult result = fifo.Produce(source, known_consumer, self.cpu);
      if (result.bytes > 0) {
        // Under the lock: the FIFO cannot be unmapped beneath us.
        if (WakeSleepers(fifo.header->consumer_waiting)) shadow.Ring();
        return static_cast<ssize_t>(result.bytes);
      }
      if (result.state == FifoState::kOpen) {
        // Full. Ask for the doorbell in case the caller is going to poll, then look once more.
        RequestDoorbell(fifo.header->producer_waiting);
        const FifoResult again = fifo.Produce(source, known_consumer, self.cpu);
        if (again.bytes == 0 && again.state == FifoState::kOpen) {
          blocked.store(1, std::memory_order_relaxed);
          return -EAGAIN;
        }
        if (again.bytes > 0) {
          if (WakeSleepers(fifo.header->consumer_waiting)) shadow.Ring();
          return static_cast<ssize_t>(again.bytes);
        }
      }
      // Sealed (or nonsense) before a byte was published: fall through to the flush.
    }
    return TrySendSlow(shadow, scope.result());
  }

  template <typename Shadow>
  ssize_t TrySendSlow(Shadow& shadow, LockResult how) {
    sys::SignalsBlocked blocked;
    if (how != LockResult::kReentered) Recover(shadow);
    switch (route.load(std::memory_order_relaxed)) {
      case SendRoute::kTcp:
        return TakePendingError();
      case SendRoute::kOffered:
        if (fifo.Sealed()) {
          BeginFlush(shadow);
          return kStreamUsesTcp;
        }
        if (SwitchUp(shadow)) return 0;  // try again, now by the FIFO
        defer_switch.store(1, std::memory_order_relaxed);
        return kStreamUsesTcp;
      case SendRoute::kSwitching:  // only an interrupted owner leaves this behind
        return -EAGAIN;
      case SendRoute::kFifo:
        // Sealed; or a signal handler interrupted a producer: end the FIFO, the interrupted
        // publication fails.
        BeginFlush(shadow);
        [[fallthrough]];
      case SendRoute::kFlushing:
        if (PumpResidue(shadow) != 0) return -EAGAIN;
        return TakePendingError();
    }
    return kStreamUsesTcp;
  }

  ssize_t TakePendingError() {
    const int32_t error = pending_error.exchange(0, std::memory_order_relaxed);
    return error != 0 ? error : kStreamUsesTcp;
  }

  // Bytes that FIFOs have carried to the other end or hold for it.
  uint64_t FifoBytes() const {
    if (route.load(std::memory_order_relaxed) != SendRoute::kFifo) return finished_bytes;
    return finished_bytes + IndexOf(fifo.header->producer.load(std::memory_order_relaxed));
  }
};

struct ReceiveStream {
  RecoverableLock lock;
  std::atomic<ReceiveRoute> route{ReceiveRoute::kTcp};
  KernelUsers<ReceiveRoute> kernel_users;
  Fifo fifo;  // the peer's: we are the consumer
  uint64_t tcp_remaining =
      0;  // TCP bytes still to be read before the FIFO begins; valid while kDraining
  uint64_t finished_bytes = 0;
  std::atomic<uint64_t> owed{
      0};  // bytes that the last FIFO still held when it ended: they come by TCP

  static bool IsKernelRoute(ReceiveRoute r) { return r == ReceiveRoute::kTcp; }

  bool EnterKernel(Self self) {
    if (kernel_users.Enter(route, IsKernelRoute)) return true;
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kAware) MarkReadyIfQuiet(self);
    return false;
  }
  void LeaveKernel(Self self) {
    kernel_users.Leave();
    if (route.load(std::memory_order_seq_cst) == ReceiveRoute::kAware) MarkReadyIfQuiet(self);
  }

  // Under the lock. From now on nobody enters the kernel unaware; those who are in there keep the
  // switch waiting.
  void BecomeAware(const Fifo& theirs) {
    fifo = theirs;
    RequestDoorbell(fifo.header->consumer_waiting);
    route.store(ReceiveRoute::kAware,
                std::memory_order_seq_cst);  // before the look at the users (Dekker)
    if (!kernel_users.Any()) fifo.header->consumer_ready.store(1, std::memory_order_release);
  }
  void MarkReadyIfQuiet(Self self) {
    LockScope scope(lock, self.tid);
    if (route.load(std::memory_order_relaxed) != ReceiveRoute::kAware || kernel_users.Any()) return;
    // release: everything we did before is done; pairs with SwitchUp.
    if (fifo.header->consumer_ready.load(std::memory_order_relaxed) == 0) {
      fifo.header->consumer_ready.store(1, std::memory_order_release);
    }
  }

  // Under the lock. The FIFO is behind us: what it still held comes by TCP.
  template <typename Shadow>
  void EndFifo(Shadow& shadow) {
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp) return;
    fifo.Seal();
    WakeEverybody(fifo, shadow);
    finished_bytes += IndexOf(fifo.header->consumer.load(std::memory_order_relaxed));
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kFifo) {
      owed.store(fifo.AvailableBytes(), std::memory_order_relaxed);
    }
    route.store(ReceiveRoute::kTcp, std::memory_order_seq_cst);
  }

  // One attempt at `limit` bytes into `destination` (null with MSG_TRUNC: discard). `flags`:
  // MSG_PEEK, MSG_TRUNC. `look`: ask the shadow socket too when the FIFO is empty (end of stream,
  // errors). Bytes, 0 at the end of the stream, -EAGAIN, kStreamUsesTcp, or a connection error.
  template <typename Shadow>
  ssize_t TryReceive(Shadow& shadow, IovCursor* destination, size_t limit, int flags, bool look,
                     Self self) {
    LockScope scope(lock, self.tid);
    if (!shadow.StillOurs()) return kStreamUsesTcp;
    for (;;) {
      switch (route.load(std::memory_order_relaxed)) {
        case ReceiveRoute::kTcp:
          return kStreamUsesTcp;
        case ReceiveRoute::kFifo: {
          const FifoResult result = fifo.Consume(destination, limit, (flags & MSG_PEEK) != 0);
          if (result.bytes > 0) {
            WakeProducer(shadow, flags);
            return static_cast<ssize_t>(result.bytes);
          }
          if (result.state != FifoState::kOpen) {
            EndFifo(shadow);
            return kStreamUsesTcp;
          }
          return look ? LookAtShadow(shadow, destination, limit, flags) : -EAGAIN;
        }
        case ReceiveRoute::kAware:
        case ReceiveRoute::kDraining: {
          // A handler that interrupted the bookkeeping below cannot be: signals are blocked there.
          sys::SignalsBlocked blocked;
          ssize_t received = 0;
          if (TryReceiveTcpPart(shadow, destination, limit, flags, &received)) return received;
          break;
        }
      }
    }
  }

  // Under the lock. For readiness: goes over to the FIFO if the peer has, and nothing of TCP stands
  // before it; and leaves a FIFO that has ended, for what it still held comes by TCP and is not
  // there yet.
  template <typename Shadow>
  void Advance(Shadow& shadow) {
    const ReceiveRoute now = route.load(std::memory_order_relaxed);
    if (now == ReceiveRoute::kFifo && fifo.Ended()) {
      sys::SignalsBlocked blocked;
      EndFifo(shadow);
    }
    if (now != ReceiveRoute::kAware) return;
    sys::SignalsBlocked blocked;
    // acquire: pairs with SwitchUp; the offset is there before the flag.
    if (fifo.header->up.load(std::memory_order_acquire) != 0) {
      EnterDraining(shadow);
    } else if (fifo.Sealed()) {
      EndFifo(shadow);
    }
  }

  uint64_t FifoBytes() const {
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp) return finished_bytes;
    return finished_bytes + IndexOf(fifo.header->consumer.load(std::memory_order_relaxed));
  }
  // Bytes that a receive could take without waiting; `tcp_bytes` is what the shadow socket holds
  // (SIOCINQ).
  uint64_t ReadableBytes(uint64_t tcp_bytes) const {
    switch (route.load(std::memory_order_relaxed)) {
      case ReceiveRoute::kTcp:
      case ReceiveRoute::kAware:
        return tcp_bytes;
      case ReceiveRoute::kDraining:
        return tcp_remaining + fifo.AvailableBytes();
      case ReceiveRoute::kFifo:
        return fifo.AvailableBytes();
    }
    return tcp_bytes;
  }

 private:
  // A producer that waits for room is woken when there is enough of it to be worth the trip.
  template <typename Shadow>
  void WakeProducer(Shadow& shadow, int flags) {
    if ((flags & MSG_PEEK) != 0 ||
        fifo.header->producer_waiting.load(std::memory_order_seq_cst) == 0)
      return;
    if (fifo.FreeBytes() < fifo.WakeThresholdBytes()) return;
    if (WakeSleepers(fifo.header->producer_waiting, /*once=*/true)) shadow.Ring();
  }

  // The bytes before the switch offset. False: the route has changed, start over.
  template <typename Shadow>
  bool TryReceiveTcpPart(Shadow& shadow, IovCursor* destination, size_t limit, int flags,
                         ssize_t* received) {
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kAware) {
      // acquire: pairs with SwitchUp; the offset is there before the flag.
      if (fifo.header->up.load(std::memory_order_acquire) != 0) return EnterDraining(shadow);
      if (fifo.Sealed()) {
        EndFifo(shadow);
        return false;
      }
      *received = Take(shadow, destination, limit, flags);
      // The peer may have switched, filled the FIFO and even closed since we looked.
      const bool got = *received > 0;
      return got || fifo.header->up.load(std::memory_order_acquire) == 0;
    }
    *received = Take(shadow, destination, limit < tcp_remaining ? limit : tcp_remaining, flags);
    if (*received > 0 && (flags & MSG_PEEK) == 0) {
      tcp_remaining -= static_cast<uint64_t>(*received);
      if (tcp_remaining == 0) route.store(ReceiveRoute::kFifo, std::memory_order_release);
    }
    if (*received == 0)
      EndFifo(shadow);  // the stream ends before the offset that was named: the peer lied or died
    return true;
  }

  template <typename Shadow>
  bool EnterDraining(Shadow& shadow) {
    const uint64_t offset = fifo.header->switch_offset.load(std::memory_order_relaxed);
    const int64_t read = shadow.Read();
    const uint64_t remaining = offset - static_cast<uint64_t>(read);
    // A seal at C = 0 may have sent the residue by TCP before we looked: then all is TCP, whatever
    // the offset says.
    if (read < 0 || remaining > (1ull << 48) ||
        IsSealed(fifo.header->consumer.load(std::memory_order_acquire))) {
      EndFifo(shadow);
      return false;
    }
    tcp_remaining = remaining;
    route.store(remaining == 0 ? ReceiveRoute::kFifo : ReceiveRoute::kDraining,
                std::memory_order_release);
    return false;
  }

  template <typename Shadow>
  ssize_t LookAtShadow(Shadow& shadow, IovCursor* destination, size_t limit, int flags) {
    if (!shadow.Readable()) return -EAGAIN;
    // Whatever the peer published before its FIN, its reset or its seal is visible now: look again,
    // in this order.
    const FifoResult result = fifo.Consume(destination, limit, (flags & MSG_PEEK) != 0);
    if (result.bytes > 0) {
      WakeProducer(shadow, flags);
      return static_cast<ssize_t>(result.bytes);
    }
    if (result.state == FifoState::kOpen && !fifo.Sealed()) {
      uint8_t byte;
      const iovec probe{&byte, 1};
      const ssize_t there = shadow.TryReceive(&probe, 1, MSG_PEEK);
      if (there <= 0)
        return there;  // end of stream, or the connection's error (taken by this look)
      // Bytes beside the FIFO: somebody wrote to the socket without us. The FIFO is empty; go on
      // with TCP.
    }
    EndFifo(shadow);
    return kStreamUsesTcp;
  }

  template <typename Shadow>
  static ssize_t Take(Shadow& shadow, IovCursor* destination, size_t limit, int flags) {
    if (destination == nullptr) {  // discard: MSG_TRUNC takes a length and no memory
      const iovec nowhere{nullptr, limit};
      return shadow.TryReceive(&nowhere, 1, MSG_TRUNC | flags);
    }
    iovec pieces[16];
    const size_t n = destination->Rest(pieces, 16, limit);
    const ssize_t received = shadow.TryReceive(pieces, n, flags);
    if (received > 0 && (flags & MSG_PEEK) == 0) destination->Skip(static_cast<size_t>(received));
    return received;
  }
};

}  // namespace xenloop
