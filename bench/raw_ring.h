// The raw ring: a byte queue between two processes that does nothing but copy and busy-poll. It is
// the limit that the library is measured against, so it stays minimal: no wake-ups, no seal, no
// checks of the peer. It is measuring equipment and shares no code with channel/.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xenloop::bench {

inline constexpr size_t kRawRingBytes = 256 * 1024;
// A long message is published in pieces, so that the reader copies while the writer still writes.
inline constexpr size_t kRawRingPieceBytes = 16 * 1024;

// One direction, as it lies in shared memory. Zero-filled memory is an empty ring.
struct RawRingMemory {
  alignas(128) std::atomic<uint64_t> produced;
  alignas(128) std::atomic<uint64_t> consumed;
  alignas(128) std::atomic<uint32_t> finished;
  alignas(128) char data[kRawRingBytes];
};

// Both directions, mapped by both processes.
struct RawRingPair {
  RawRingMemory to_server;
  RawRingMemory to_client;
};

// How an end waits: spinning when each end has a core, giving the core away when both share one.
enum class RawRingWait { kSpin, kYield };

inline void WaitALittle(RawRingWait wait) {
  if (wait == RawRingWait::kYield) {
    sched_yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();  // measured: 10 % less than a bare loop, which fights for the cache line
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class RawRingProducer {
 public:
  RawRingProducer(RawRingMemory* ring, RawRingWait wait) : ring_(ring), wait_(wait) {}

  void SendAll(const void* bytes, size_t length) {
    const char* from = static_cast<const char*>(bytes);
    while (length > 0) {
      size_t room = kRawRingBytes - (produced_ - consumed_seen_);
      if (room < std::min(length, kRawRingPieceBytes)) {
        // Acquire: pairs with the release in RawRingConsumer; its copies out are finished.
        consumed_seen_ = ring_->consumed.load(std::memory_order_acquire);
        room = kRawRingBytes - (produced_ - consumed_seen_);
        if (room == 0) {
          WaitALittle(wait_);
          continue;
        }
      }
      const size_t at = produced_ % kRawRingBytes;
      const size_t piece = std::min({length, room, kRawRingPieceBytes, kRawRingBytes - at});
      std::memcpy(ring_->data + at, from, piece);
      produced_ += piece;
      from += piece;
      length -= piece;
      // Release: pairs with the acquire in RawRingConsumer; the bytes are there before the index.
      ring_->produced.store(produced_, std::memory_order_release);
    }
  }

  // Release: pairs with the acquire in RawRingConsumer::Receive; every byte precedes the end.
  void Finish() { ring_->finished.store(1, std::memory_order_release); }

 private:
  RawRingMemory* ring_;
  RawRingWait wait_;
  uint64_t produced_ = 0;
  uint64_t consumed_seen_ = 0;
};

class RawRingConsumer {
 public:
  RawRingConsumer(RawRingMemory* ring, RawRingWait wait) : ring_(ring), wait_(wait) {}

  // Waits for at least one byte; 0 means that the producer has finished and all is read.
  size_t Receive(void* bytes, size_t capacity) {
    bool finished = false;
    while (produced_seen_ == consumed_) {
      // Acquire: pairs with the release in RawRingProducer::SendAll.
      produced_seen_ = ring_->produced.load(std::memory_order_acquire);
      if (produced_seen_ != consumed_) break;
      if (finished) return 0;
      // Then `produced` is read once more: a producer that had finished has published all it had.
      // Acquire: pairs with the release in RawRingProducer::Finish.
      finished = ring_->finished.load(std::memory_order_acquire) != 0;
      if (!finished) WaitALittle(wait_);
    }
    char* to = static_cast<char*>(bytes);
    const size_t wanted = std::min<size_t>(capacity, produced_seen_ - consumed_);
    size_t done = 0;
    while (done < wanted) {
      const size_t at = consumed_ % kRawRingBytes;
      const size_t piece = std::min({wanted - done, kRawRingPieceBytes, kRawRingBytes - at});
      std::memcpy(to + done, ring_->data + at, piece);
      consumed_ += piece;
      done += piece;
      // Release: pairs with the acquire in RawRingProducer::SendAll; the room is free after the
      // copy.
      ring_->consumed.store(consumed_, std::memory_order_release);
    }
    return done;
  }

 private:
  RawRingMemory* ring_;
  RawRingWait wait_;
  uint64_t consumed_ = 0;
  uint64_t produced_seen_ = 0;
};

}  // namespace xenloop::bench
