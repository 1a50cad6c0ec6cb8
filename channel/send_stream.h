// The sending half of a connection: TCP, then a FIFO that the peer has joined, then TCP again with
// the residue first. See stream.h for the rules.
#pragma once

#include "channel/lives.h"
#include "channel/route.h"

namespace xenloop {

enum class SendRoute : uint32_t {
  kTcp,
  kOffered,
  kSwitching,
  kFifo,
  kFlushing,  // the FIFO is sealed; the residue goes to TCP first
  kAsking,    // cut off from the peer, with a residue: where that begins, only the peer knows
};

struct SendStream {
  RecoverableLock lock;
  std::atomic<SendRoute> route{SendRoute::kTcp};
  KernelUsers<SendRoute> kernel_users;
  // The next send goes to the kernel although an offer stands.
  std::atomic<uint32_t> defer_switch{0};
  // How often a send found no room of ours: then room is news (edge-triggered readiness).
  std::atomic<uint32_t> found_full{0};
  std::atomic<int32_t> pending_error{0};  // met by the agent; belongs to the program's next send
  Fifo fifo ABSL_GUARDED_BY(lock);        // ours: we are the producer
  uint64_t known_consumer ABSL_GUARDED_BY(lock) = 0;
  uint64_t window ABSL_GUARDED_BY(lock) = ~0ull;
  uint64_t residue_begin ABSL_GUARDED_BY(lock) =
      0;  // FIFO indices of the residue; valid while kFlushing, kAsking
  uint64_t residue_end ABSL_GUARDED_BY(lock) = 0;
  uint64_t residue_in_doubt ABSL_GUARDED_BY(lock) =
      0;  // a thread is, or died, giving residue to the kernel
  uint64_t flush_base ABSL_GUARDED_BY(lock) = 0;      // TCP bytes written when the flush began
  uint64_t finished_bytes ABSL_GUARDED_BY(lock) = 0;  // carried by FIFOs before this one
  // The peer's FIFO, if that is another guest's. When it is gone, our own is a copy that the peer
  // does not see.
  Fifo witness ABSL_GUARDED_BY(lock);
  Lives lives ABSL_GUARDED_BY(lock);

  // A slot's next life: nobody else has it yet.
  void Renew() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    route.store(SendRoute::kTcp, std::memory_order_relaxed);
    defer_switch.store(0, std::memory_order_relaxed);
    pending_error.store(0, std::memory_order_relaxed);
    finished_bytes = 0;
    window = ~0ull;
    lives = {};
  }

  static bool IsKernelRoute(SendRoute r) { return r == SendRoute::kTcp; }
  // What this direction has taken from the program stands before what TCP is given.
  static bool IsOwing(SendRoute r) { return r == SendRoute::kFlushing || r == SendRoute::kAsking; }
  // Whether there is room is for us to say, and not for the kernel.
  static bool HoldsRoom(SendRoute r) { return r == SendRoute::kFifo || r == SendRoute::kAsking; }

  bool EnterKernel() {
    // Met by a flush, and so taken from the kernel, which would say something else.
    if (pending_error.load(std::memory_order_relaxed) != 0) return false;
    if (route.load(std::memory_order_relaxed) == SendRoute::kOffered &&
        defer_switch.exchange(0, std::memory_order_relaxed) != 0) {
      return kernel_users.Enter(
          route, [](SendRoute r) { return r == SendRoute::kOffered || IsKernelRoute(r); });
    }
    return kernel_users.Enter(route, IsKernelRoute);
  }
  void LeaveKernel() { kernel_users.Leave(); }

  // Under the lock. The peer has joined and maps `fifo`.
  void Offer(const Fifo& mine, const Fifo& theirs = Fifo{}) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    fifo = mine;
    witness = theirs.foreign ? theirs : Fifo{};
    known_consumer = 0;
    SetWindow(window);
    route.store(SendRoute::kOffered, std::memory_order_release);
  }

  // Under the lock. No more than so many bytes are to be in flight, as in a send buffer of that
  // size.
  void SetWindow(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    window = bytes;
    if (bytes < kMinFifoBytes) bytes = kMinFifoBytes;
    fifo.window_bytes = bytes < fifo.capacity_bytes ? bytes : fifo.capacity_bytes;
  }

  // Under the lock, signals blocked. Goes over to the FIFO if nobody is in the kernel and the
  // consumer is ready.
  template <typename Shadow>
  bool SwitchUp(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
    shadow.PushTcp();
    return true;
  }

  // Under the lock, signals blocked. Seals the FIFO and works out what is owed to TCP.
  template <typename Shadow>
  void BeginFlush(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const SendRoute was = route.load(std::memory_order_relaxed);
    if (IsOwing(was) || was == SendRoute::kTcp) return;
    lives.End();
    fifo.Seal();
    WakeEverybody(fifo, fifo.header->consumer_bell, shadow);
    if (was != SendRoute::kFifo) {
      route.store(SendRoute::kTcp, std::memory_order_seq_cst);
      return;
    }
    shadow.BeforeTcp();
    residue_begin = IndexOf(fifo.header->consumer.load(std::memory_order_acquire));
    residue_end = IndexOf(fifo.header->producer.load(std::memory_order_relaxed));
    // A consumer that wrote nonsense loses its residue; nobody else is touched.
    if (residue_end - residue_begin > fifo.capacity_bytes) residue_begin = residue_end;
    // Looked at behind the seal: with the witness still there, the seal was made in the peer's
    // sight. Without, the peer reads on in the page as it was when we were suspended, we do not
    // know how far, nor what of ours was written after that. Only if all is taken both ends are at
    // the same byte.
    if (witness && witness.CutOff() && residue_begin != residue_end) {
      route.store(SendRoute::kAsking, std::memory_order_release);
    } else {
      Owe(shadow);
    }
  }

  // Under the lock, signals blocked. The peer has sealed the page that it reads in: it has taken
  // `consumed` bytes of the FIFO, and takes no more from there. What is impossible to be is no
  // answer.
  template <typename Shadow>
  void Settle(Shadow& shadow, uint64_t consumed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) != SendRoute::kAsking) return;
    if (consumed - residue_begin > residue_end - residue_begin) return GiveUp(shadow);
    residue_begin = consumed;
    Owe(shadow);
  }
  // Nobody can say: both programs are told that the connection is broken.
  template <typename Shadow>
  void GiveUp(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) != SendRoute::kAsking) return;
    shadow.Reset();
    residue_begin = residue_end;
    Owe(shadow);
  }

  // Under the lock, signals blocked. All of the residue is in TCP, or the connection is broken: who
  // writes next would come before the rest of it.
  template <typename Shadow>
  void SettleOrBreak(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (PumpResidue(shadow) == 0) return;
    GiveUp(shadow);
    if (residue_begin != residue_end) shadow.Reset();
    residue_begin = residue_end;
    PumpResidue(shadow);
  }

  // Under the lock, signals blocked. Sends what the FIFO still owed. 0 when all is on TCP, else
  // -EAGAIN.
  template <typename Shadow>
  int PumpResidue(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) == SendRoute::kAsking) return -EAGAIN;
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
  void Recover(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
    const uint64_t begin = static_cast<uint64_t>(written) - flush_base;
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
        WakeConsumer(shadow);
        return static_cast<ssize_t>(result.bytes);
      }
      if (result.state == FifoState::kOpen) {
        // Full. Ask for the doorbell in case the caller is going to poll, then look once more.
        RequestDoorbell(fifo.header->producer_waiting);
        const FifoResult again = fifo.Produce(source, known_consumer, self.cpu);
        if (again.bytes == 0 && again.state == FifoState::kOpen) {
          found_full.fetch_add(1, std::memory_order_relaxed);
          return -EAGAIN;
        }
        if (again.bytes > 0) {
          WakeConsumer(shadow);
          return static_cast<ssize_t>(again.bytes);
        }
      }
      // Sealed (or nonsense) before a byte was published: fall through to the flush.
    }
    return TrySendSlow(shadow, scope.result());
  }

  template <typename Shadow>
  ssize_t TrySendSlow(Shadow& shadow, LockResult how) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
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
      case SendRoute::kAsking:
        if (PumpResidue(shadow) == 0) return TakePendingError();
        if (route.load(std::memory_order_relaxed) == SendRoute::kAsking)
          found_full.fetch_add(1, std::memory_order_relaxed);
        return -EAGAIN;
    }
    return kStreamUsesTcp;
  }

  template <typename Shadow>
  void WakeConsumer(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    const uint32_t bits = WakeSleepers(fifo.header->consumer_waiting, /*once=*/false, fifo.foreign);
    if (bits == 0) return;
    // seq_cst: behind the publication; pairs with whoever goes to wait by another bell.
    shadow.Ring(/*certain=*/(bits & kFutexSleeper) != 0,
                fifo.header->consumer_bell.load(std::memory_order_seq_cst));
  }

  ssize_t TakePendingError() {
    const int32_t error = pending_error.exchange(0, std::memory_order_relaxed);
    return error != 0 ? error : kStreamUsesTcp;
  }

  // Bytes that FIFOs have carried to the other end or hold for it.
  uint64_t FifoBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    if (route.load(std::memory_order_relaxed) != SendRoute::kFifo) return finished_bytes;
    return finished_bytes + IndexOf(fifo.header->producer.load(std::memory_order_relaxed));
  }

 private:
  template <typename Shadow>
  void Owe(Shadow& shadow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock) {
    finished_bytes += residue_begin;
    residue_in_doubt = 0;
    // Modulo 2^64: the index may be anything that a hostile consumer has written. Where nothing is
    // owed nobody asks.
    if (residue_begin != residue_end)
      flush_base = static_cast<uint64_t>(shadow.Written()) - residue_begin;
    route.store(SendRoute::kFlushing, std::memory_order_release);
  }
};

}  // namespace xenloop
