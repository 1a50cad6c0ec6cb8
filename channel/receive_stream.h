// The receiving half of a connection: TCP up to the switch offset, then the peer's FIFO, then TCP
// again; to the program one queue. See stream.h for the rules.
#pragma once

#include "channel/lives.h"
#include "channel/route.h"

namespace xenloop {

enum class ReceiveRoute : uint32_t {
  kTcp,
  kAware,     // a FIFO is offered; the peer may go over to it
  kDraining,  // the switch offset is known and not reached yet
  kFifo,
  kResidue,  // the peer died before TCP had the residue of its FIFO: it is read from there
};

// What a dead peer's FIFO still holds of a residue that TCP never got.
enum class DeadResidue : uint8_t {
  kNone,  // nothing is missing: the end of the stream is the end
  kRead,  // try again: the rest is read from the FIFO now
  kLost,  // something is missing, and nobody knows where it begins: the connection is broken
};

struct ReceiveStream {
  RecoverableLock lock;
  std::atomic<ReceiveRoute> route{ReceiveRoute::kTcp};
  KernelUsers<ReceiveRoute> kernel_users;
  Fifo fifo ABSL_GUARDED_BY(lock);  // the peer's: we are the consumer
  Lives lives ABSL_GUARDED_BY(lock);
  uint64_t tcp_remaining ABSL_GUARDED_BY(lock) =
      0;  // TCP bytes to be read before the FIFO begins; valid while kDraining
  uint64_t finished_bytes ABSL_GUARDED_BY(lock) = 0;
  // Bytes that the last FIFO still held when it ended: they come by TCP. 1 in residue_due: not all
  // of them have been seen to come.
  std::atomic<uint64_t> owed{0};
  std::atomic<uint32_t> residue_due{0};
  uint64_t switch_offset ABSL_GUARDED_BY(lock) = 0;  // of the last FIFO, once we know it
  uint64_t residue_begin ABSL_GUARDED_BY(lock) =
      0;  // FIFO indices of what it owed; valid while residue_due
  uint64_t residue_end ABSL_GUARDED_BY(lock) = 0;
  // Where the last FIFO ended for us, and which it was, for a peer that has lost sight of it.
  uint64_t last_consumed ABSL_GUARDED_BY(lock) = 0;
  uint64_t last_identity ABSL_GUARDED_BY(lock) = 0;
  // TCP bytes that the program has taken, counted by us while residue_due: the kernel's own count
  // does not say in the end whether a FIN is among them.
  std::atomic<uint64_t> tcp_taken{0};

  // A slot's next life: nobody else has it yet.
  void Renew() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    route.store(ReceiveRoute::kTcp, std::memory_order_relaxed);
    finished_bytes = 0;
    lives = {};
    owed.store(0, std::memory_order_relaxed);
    residue_due.store(0, std::memory_order_relaxed);
  }

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

  // Between EnterKernel and LeaveKernel: so many bytes were taken from TCP (none by a peek).
  void CountTaken(uint64_t bytes) {
    if (residue_due.load(std::memory_order_relaxed) != 0)
      tcp_taken.fetch_add(bytes, std::memory_order_relaxed);
  }
  // Bytes may be taken that nobody counts.
  void ForgetTaken() { tcp_taken.store(kNever << 1, std::memory_order_relaxed); }

  // Under the lock. From now on nobody enters the kernel unaware; those who are in there keep the
  // switch waiting.
  void BecomeAware(const Fifo& theirs) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
  void EndFifo(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const ReceiveRoute was = route.load(std::memory_order_relaxed);
    if (was == ReceiveRoute::kTcp || was == ReceiveRoute::kResidue) return;
    lives.End();
    fifo.Seal();
    WakeEverybody(fifo, fifo.header->producer_bell, shadow);
    const uint64_t consumed = IndexOf(fifo.header->consumer.load(std::memory_order_relaxed));
    if (consumed < kNever) {  // else cut off
      finished_bytes += consumed;
      last_consumed = consumed;
      last_identity = fifo.header->identity;
    }
    if (was == ReceiveRoute::kFifo) owed.store(fifo.AvailableBytes(), std::memory_order_relaxed);
    const bool begun =
        was != ReceiveRoute::kAware || fifo.header->up.load(std::memory_order_acquire) != 0;
    if (begun && fifo.AvailableBytes() > 0) {
      if (was == ReceiveRoute::kAware)
        switch_offset = fifo.header->switch_offset.load(std::memory_order_relaxed);
      residue_begin = consumed;
      residue_end = consumed + fifo.AvailableBytes();
      if (was == ReceiveRoute::kAware) {
        ForgetTaken();  // a receive that began before may still be in the kernel
      } else {
        tcp_taken.store(switch_offset - (was == ReceiveRoute::kDraining ? tcp_remaining : 0),
                        std::memory_order_relaxed);
      }
      residue_due.store(1, std::memory_order_relaxed);
    }
    route.store(ReceiveRoute::kTcp, std::memory_order_seq_cst);
  }

  // Under the lock, signals blocked. The FIFO has ended, and what it holds stays to be read there:
  // by TCP it would be refused. False: that cannot be had on this route.
  template <typename Shadow>
  bool EndFifoAndKeep(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (route.load(std::memory_order_relaxed) != ReceiveRoute::kFifo) return false;
    lives.End();
    if (!fifo.SealAsConsumed(&begin, &end)) return false;
    WakeEverybody(fifo, fifo.header->producer_bell, shadow);
    finished_bytes += begin;
    last_consumed = end;
    last_identity = fifo.header->identity;
    residue_begin = begin;
    residue_end = end;
    residue_due.store(0, std::memory_order_relaxed);
    route.store(begin == end ? ReceiveRoute::kTcp : ReceiveRoute::kResidue,
                std::memory_order_seq_cst);
    return true;
  }

  // Under the lock. All that the last FIFO owed has come by TCP: it may be let go.
  template <typename Shadow>
  bool ResidueHasCome(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kResidue) return false;
    if (residue_due.load(std::memory_order_relaxed) == 0) return true;
    const int64_t received = shadow.ReceivedAtLeast();
    // By TCP came `switch_offset` bytes before the FIFO, and behind them the residue.
    const uint64_t come = static_cast<uint64_t>(received) - switch_offset;
    if (received >= 0 && (come > kNever || come < residue_end - residue_begin)) return false;
    residue_due.store(0, std::memory_order_relaxed);
    return true;
  }

  // Under the lock, after a receive from TCP that found the end of the stream (or its reset).
  template <typename Shadow>
  DeadResidue FindDeadResidue(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kResidue) return DeadResidue::kRead;
    if (route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp || ResidueHasCome(shadow) ||
        !fifo || !shadow.Ended()) {
      return DeadResidue::kNone;
    }
    residue_due.store(0, std::memory_order_relaxed);
    const uint64_t most = static_cast<uint64_t>(shadow.ReceivedAtMost()) - switch_offset;
    const uint64_t least = static_cast<uint64_t>(shadow.ReceivedAtLeast()) - switch_offset;
    uint64_t come = most;
    if (most != 0 && most != least) {  // with a FIN or without: the program's own count decides
      come = tcp_taken.load(std::memory_order_relaxed) - switch_offset;
      if (kernel_users.Any() || (come != least && come != most)) return DeadResidue::kLost;
    }
    if (come > kNever) return DeadResidue::kLost;
    if (come >= residue_end - residue_begin) return DeadResidue::kNone;  // the rest has come since
    if (fifo.CutOff()) return DeadResidue::kLost;
    residue_begin += come;
    route.store(ReceiveRoute::kResidue, std::memory_order_seq_cst);
    return DeadResidue::kRead;
  }
  // Under the lock. Nobody will read what a dead peer left, or wait for what is due.
  void DropResidue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    residue_due.store(0, std::memory_order_relaxed);
    if (route.load(std::memory_order_relaxed) == ReceiveRoute::kResidue)
      route.store(ReceiveRoute::kTcp, std::memory_order_seq_cst);
  }

  // What most receives do, under the lock: takes bytes that lie in the FIFO. 0: TryReceive has to
  // find out what there is.
  size_t TakeFromFifo(IovCursor* destination, size_t limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) != ReceiveRoute::kFifo) return 0;
    return fifo.Consume(destination, limit, /*peek=*/false).bytes;
  }
  // Under the lock, after bytes were taken from the FIFO.
  bool ProducerWaits() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    return (fifo.header->producer_waiting.load(std::memory_order_seq_cst) & kRequests) != 0;
  }
  // The same. A producer that waits for room is woken when there is enough of it to be worth the
  // trip.
  template <typename Shadow>
  void WakeProducer(Shadow& shadow, int flags) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if ((flags & MSG_PEEK) != 0 || !ProducerWaits()) return;
    if (fifo.FreeBytes() < fifo.WakeThresholdBytes()) return;
    const uint32_t bits = WakeSleepers(fifo.header->producer_waiting, /*once=*/true, fifo.foreign);
    if (bits == 0) return;
    shadow.Ring(/*certain=*/(bits & kFutexSleeper) != 0,
                fifo.header->producer_bell.load(std::memory_order_seq_cst));
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
        case ReceiveRoute::kResidue:
          return TakeResidue(destination, limit, flags);
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
          if (lives.AtEnd(fifo)) return 0;
          return look ? LookAtShadow(shadow, destination, limit, flags) : -EAGAIN;
        }
        case ReceiveRoute::kAware:
        case ReceiveRoute::kDraining: {
          // A handler that interrupted the bookkeeping below cannot be: signals are blocked there.
          sys::SignalsBlocked blocked;
          ssize_t received = 0;
          if (!TryReceiveTcpPart(shadow, destination, limit, flags, &received)) break;
          if (received <= 0 || static_cast<size_t>(received) >= limit) return received;
          return received + GoOnWithFifo(shadow, destination, static_cast<size_t>(received),
                                         limit - static_cast<size_t>(received), flags);
        }
      }
    }
  }

  // Under the lock. For readiness: goes over to the FIFO if the peer has, and nothing of TCP stands
  // before it; and leaves a FIFO that has ended, for what it still held comes by TCP and is not
  // there yet.
  template <typename Shadow>
  void Advance(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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

  uint64_t FifoBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const ReceiveRoute now = route.load(std::memory_order_relaxed);
    if (now == ReceiveRoute::kTcp || now == ReceiveRoute::kResidue) return finished_bytes;
    return finished_bytes + IndexOf(fifo.header->consumer.load(std::memory_order_relaxed));
  }
  // Bytes that a receive could take without waiting; `tcp_bytes` is what the shadow socket holds
  // (SIOCINQ).
  uint64_t ReadableBytes(uint64_t tcp_bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    switch (route.load(std::memory_order_relaxed)) {
      case ReceiveRoute::kTcp:
      case ReceiveRoute::kAware:
        return tcp_bytes;
      case ReceiveRoute::kDraining:  // what TCP still owes stands before the FIFO
        return tcp_bytes < tcp_remaining ? tcp_bytes : tcp_remaining + fifo.AvailableBytes();
      case ReceiveRoute::kFifo:
        return fifo.AvailableBytes();
      case ReceiveRoute::kResidue:
        return residue_end - residue_begin;
    }
    return tcp_bytes;
  }

 private:
  static constexpr uint64_t kNever = 1ull << 48;  // more bytes than any connection carries

  // From a FIFO whose producer is dead. Behind it comes what TCP has to say.
  ssize_t TakeResidue(IovCursor* destination, size_t limit, int flags)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const uint64_t left = residue_end - residue_begin;
    const size_t n = limit < left ? limit : left;
    IovCursor to = destination != nullptr ? *destination : IovCursor(nullptr, 0);
    if (destination != nullptr) {
      const uint64_t offset = residue_begin & (fifo.capacity_bytes - 1);
      const size_t first = n < fifo.capacity_bytes - offset ? n : fifo.capacity_bytes - offset;
      to.CopyIn(fifo.data + offset, first);
      if (n > first) to.CopyIn(fifo.data, n - first);
    }
    if (fifo.CutOff()) return -ECONNRESET;  // perhaps before the copy
    if ((flags & MSG_PEEK) != 0) return static_cast<ssize_t>(n);
    if (destination != nullptr) *destination = to;
    residue_begin += n;
    finished_bytes += n;
    if (residue_begin == residue_end) route.store(ReceiveRoute::kTcp, std::memory_order_seq_cst);
    return static_cast<ssize_t>(n);
  }

  // What the FIFO adds to `taken` bytes of TCP in the same call: to the program both are one queue.
  template <typename Shadow>
  ssize_t GoOnWithFifo(Shadow& shadow, IovCursor* destination, size_t taken, size_t limit,
                       int flags) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const bool peek = (flags & MSG_PEEK) != 0;
    // acquire: pairs with SwitchUp; the offset is there before the flag.
    if (!peek && route.load(std::memory_order_relaxed) == ReceiveRoute::kAware &&
        fifo.header->up.load(std::memory_order_acquire) != 0) {
      EnterDraining(shadow);
    }
    const bool reached = peek ? route.load(std::memory_order_relaxed) == ReceiveRoute::kDraining &&
                                    taken == tcp_remaining
                              : route.load(std::memory_order_relaxed) == ReceiveRoute::kFifo;
    if (!reached) return 0;
    IovCursor beyond = destination != nullptr ? *destination : IovCursor(nullptr, 0);
    if (peek && destination != nullptr) beyond.Skip(taken);  // a peek has left it where it was
    const FifoResult result = fifo.Consume(destination != nullptr ? &beyond : nullptr, limit, peek);
    if (result.bytes == 0) return 0;
    if (destination != nullptr && !peek) *destination = beyond;
    WakeProducer(shadow, flags);
    return static_cast<ssize_t>(result.bytes);
  }

  // The bytes before the switch offset. False: the route has changed, start over.
  template <typename Shadow>
  bool TryReceiveTcpPart(Shadow& shadow, IovCursor* destination, size_t limit, int flags,
                         ssize_t* received) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
      fifo.header->tcp_read.store(switch_offset - tcp_remaining, std::memory_order_relaxed);
      if (tcp_remaining == 0) route.store(ReceiveRoute::kFifo, std::memory_order_release);
    }
    if (*received == 0)
      EndFifo(shadow);  // the stream ends before the offset that was named: the peer lied or died
    return true;
  }

  template <typename Shadow>
  bool EnterDraining(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    switch_offset = fifo.header->switch_offset.load(std::memory_order_relaxed);
    const int64_t read = shadow.Read();
    const uint64_t remaining = switch_offset - static_cast<uint64_t>(read);
    // A seal at C = 0 may have sent the residue by TCP before we looked: then all is TCP, whatever
    // the offset says.
    if (read < 0 || remaining > kNever ||
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
  ssize_t LookAtShadow(Shadow& shadow, IovCursor* destination, size_t limit, int flags)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
