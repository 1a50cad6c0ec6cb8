// The FIFO: a single-producer, single-consumer byte ring in memory that the producer owns and both
// ends map. Decides how indices are published, how an index is sealed, and how an end asks to be
// woken. Knows nothing of TCP or of routes.
//
// Both indices are free-running byte counters shifted left by one; bit 0 is the SEALED bit. They
// are published by compare-and-swap only, so whoever maps the header can end the FIFO at an exact
// byte. The other end is not trusted: every shared value is loaded once, checked, then used;
// offsets are masked, lengths clamped to the capacity. Layout: see channel/README.md, "Layout of a
// FIFO".
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "channel/base/iov_cursor.h"
#include "channel/base/sys.h"
#include "channel/life.h"
#include "channel/pairing.h"

namespace xenloop {

inline constexpr uint32_t kFifoMagic = 0x584c4649;  // "XLFI"
#ifndef XENLOOP_FIFO_STEP  // defined where a test wants another version: tests/e2e/versions.sh
#define XENLOOP_FIFO_STEP 0
#endif
inline constexpr uint32_t kFifoVersion = 5 + XENLOOP_FIFO_STEP;
inline constexpr size_t kFifoDataOffset = 512;
inline constexpr uint64_t kMinFifoBytes = 4096;
inline constexpr uint64_t kMaxFifoBytes = 64ull << 20;

// Bits of a waiting word.
inline constexpr uint32_t kFutexSleeper = 1;      // a thread sleeps on this very word
inline constexpr uint32_t kDoorbellInterest = 2;  // ring the doorbell while its owner has sleepers
inline constexpr uint32_t kRequests = kFutexSleeper | kDoorbellInterest;
// From here on the wake-ups are counted: the word has changed for whoever asked before and does not
// sleep yet, also if another has asked since.
inline constexpr uint32_t kOneWakeUp = 4;

// What a bell word says: by which lines into its process (transport.h) one end of the FIFO is woken
// who waits for it in poll or epoll. The number of a bell, and perhaps of a second one, of which
// the common bell has a bit of its own.
inline constexpr uint32_t kAnyBell = 0;  // nobody knows: the doorbell, which wakes all
inline constexpr uint32_t kCommonBell = 1;
inline constexpr uint32_t kCommonToo = 1u << 31;
inline constexpr uint32_t kSecondBellShift = 16;
inline constexpr uint32_t kBellMask = 0x7fff;

inline constexpr uint32_t TwoBells(uint32_t first, uint32_t second) {
  return first | (second == kCommonBell ? kCommonToo : second << kSecondBellShift);
}
template <class Visit>
void EachBellIn(uint32_t word, Visit visit) {
  visit(word & kBellMask);
  if ((word & kCommonToo) != 0) visit(kCommonBell);
  const uint32_t second = word >> kSecondBellShift & kBellMask;
  if (second != 0) visit(second);
}

struct FifoHeader {
  // Line 0: written by the producer.
  alignas(64) std::atomic<uint64_t> producer;
  std::atomic<uint64_t> switch_offset;  // TCP byte at which the FIFO begins; valid once `up`
  std::atomic<uint32_t> up;
  std::atomic<uint32_t> producer_cpu;  // CPU + 1 of the last publication; 0 unknown
  // Line 1: written by the consumer.
  alignas(64) std::atomic<uint64_t> consumer;
  // Nobody at the consumer's end reads TCP behind our back any more.
  std::atomic<uint32_t> consumer_ready;
  // Two processes read it, and a FIFO that has ended cannot be had again: be patient. A hint.
  std::atomic<uint32_t> consumer_shared;
  // How many bytes of TCP it has read, while these go on to the switch offset: does it move? A
  // hint.
  std::atomic<uint64_t> tcp_read;
  // Lines 2 and 3: wake-up requests.
  alignas(64) std::atomic<uint32_t> consumer_waiting;
  std::atomic<uint32_t> consumer_bell;
  alignas(64) std::atomic<uint32_t> producer_waiting;
  std::atomic<uint32_t> producer_bell;
  // Line 4: constants, written once before the memory is offered.
  alignas(64) uint32_t magic;
  uint32_t version;
  uint64_t capacity_bytes;
  uint64_t identity;  // xen: proves that a ticket and this page belong together; else 0
  // Lines 5 to 7: written by the producer, before the FIFO is used.
  alignas(64) PairingBoard pairing;
  // Of a parked connection: in the FIFO of the server's end, written by both.
  SharedLifeWord life;
};
static_assert(sizeof(std::atomic<uint64_t>) == 8 && std::atomic<uint64_t>::is_always_lock_free);
static_assert(offsetof(FifoHeader, consumer) == 64);
static_assert(offsetof(FifoHeader, consumer_shared) == 76);
static_assert(offsetof(FifoHeader, tcp_read) == 80);
static_assert(offsetof(FifoHeader, consumer_waiting) == 128);
static_assert(offsetof(FifoHeader, producer_waiting) == 192);
static_assert(offsetof(FifoHeader, magic) == 256);
static_assert(offsetof(FifoHeader, pairing) == 320);
static_assert(sizeof(PairingBoard) == 144);
static_assert(offsetof(FifoHeader, life) == 464);
static_assert(sizeof(FifoHeader) <= kFifoDataOffset);

inline constexpr size_t FifoMemoryBytes(uint64_t capacity_bytes) {
  return kFifoDataOffset + capacity_bytes;
}

inline constexpr bool IsSealed(uint64_t word) { return (word & 1) != 0; }
inline constexpr uint64_t IndexOf(uint64_t word) { return word >> 1; }

enum class FifoState : uint8_t {
  kOpen,
  kSealed,   // ended: the bytes of this call were not sent / not received, go by TCP
  kCorrupt,  // the other end wrote nonsense
};

struct FifoResult {
  FifoState state;
  size_t bytes;
};

// One end's view of one FIFO: where it is mapped here. Plain data, may lie in shared memory of a
// process family.
struct Fifo {
  FifoHeader* header = nullptr;
  uint8_t* data = nullptr;
  uint64_t capacity_bytes = 0;
  uint64_t window_bytes = 0;  // the producer's own limit of what is in flight; capacity or less
  bool foreign = false;       // the other end is under another kernel (Transport::foreign)

  explicit operator bool() const { return header != nullptr; }

  // Prepares fresh memory (zeroed, FifoMemoryBytes(capacity) long); capacity is a power of two.
  static Fifo Initialise(void* memory, uint64_t capacity_bytes) {
    Fifo fifo = At(memory, capacity_bytes);
    fifo.header->capacity_bytes = capacity_bytes;
    fifo.header->version = kFifoVersion;
    fifo.header->magic = kFifoMagic;
    return fifo;
  }
  // Adopts memory made by somebody else; `memory_bytes` is what is really mapped. A null Fifo if it
  // is not sound.
  static Fifo Adopt(void* memory, size_t memory_bytes) {
    if (memory_bytes < FifoMemoryBytes(kMinFifoBytes)) return Fifo{};
    const auto* header = static_cast<const FifoHeader*>(memory);
    const uint64_t capacity = *const_cast<const volatile uint64_t*>(&header->capacity_bytes);
    if (header->magic != kFifoMagic || header->version != kFifoVersion) return Fifo{};
    if (capacity < kMinFifoBytes || capacity > kMaxFifoBytes || (capacity & (capacity - 1)) != 0)
      return Fifo{};
    if (FifoMemoryBytes(capacity) > memory_bytes) return Fifo{};
    return At(memory, capacity);
  }

  // ---- either end ----

  // Ends the FIFO: seals both words. Idempotent.
  void Seal() const {
    // acq_rel: what was published before is visible to whoever sees the seal; pairs with every CAS
    // below.
    header->producer.fetch_or(1, std::memory_order_acq_rel);
    header->consumer.fetch_or(1, std::memory_order_acq_rel);
  }
  bool Sealed() const {
    return IsSealed(header->producer.load(std::memory_order_acquire)) ||
           IsSealed(header->consumer.load(std::memory_order_acquire));
  }
  // Memory of another guest that is out of reach (it, or we, have moved) reads as all ones: its
  // words as sealed, and what it held is lost.
  bool CutOff() const {
    return *const_cast<const volatile uint32_t*>(&header->magic) != kFifoMagic;
  }
  // The consumer can take nothing from here any more.
  bool Ended() const {
    const uint64_t c = header->consumer.load(std::memory_order_acquire);
    if (IsSealed(c)) return true;
    const uint64_t p = header->producer.load(std::memory_order_acquire);
    return IsSealed(p) && IndexOf(p) == IndexOf(c);
  }
  // Bytes published and not consumed; clamped to the capacity.
  uint64_t AvailableBytes() const {
    const uint64_t c = IndexOf(header->consumer.load(std::memory_order_relaxed));
    const uint64_t p = IndexOf(header->producer.load(std::memory_order_acquire));
    const uint64_t n = p - c;
    return n <= capacity_bytes ? n : capacity_bytes;
  }
  uint64_t FreeBytes() const {
    const uint64_t p = IndexOf(header->producer.load(std::memory_order_relaxed));
    const uint64_t c = IndexOf(header->consumer.load(std::memory_order_acquire));
    const uint64_t n = p - c;
    return n < window_bytes ? window_bytes - n : 0;
  }
  // The room below which a waiting producer is left asleep, as the kernel does with its send
  // buffer.
  uint64_t WakeThresholdBytes() const { return window_bytes / 4; }

  // A producer that waits for room need wait no longer.
  bool HasRoom() const { return FreeBytes() >= WakeThresholdBytes() || Sealed(); }

  // ---- producer (one at a time: under the send lock) ----

  // Copies as much of `source` (at most `limit`) as there is room for and publishes it, in slices
  // so that the consumer can start early. `known_consumer` is the caller's private copy of the
  // consumer index, refreshed here when needed.
  FifoResult Produce(IovCursor& source, uint64_t& known_consumer, uint32_t cpu) const {
    size_t total = 0;
    while (source.remaining() > 0) {
      // relaxed: only we, under the send lock, move it; a seal by others is found by the CAS.
      const uint64_t word = header->producer.load(std::memory_order_relaxed);
      if (IsSealed(word)) return {FifoState::kSealed, total};
      const uint64_t p = IndexOf(word);
      uint64_t free = Room(p, known_consumer);
      size_t want = source.remaining() < kSliceBytes ? source.remaining() : kSliceBytes;
      if (p - known_consumer > capacity_bytes || free < want) {
        // acquire: pairs with the consumer's CAS; its reads of the ring are done before we
        // overwrite.
        const uint64_t consumer = header->consumer.load(std::memory_order_acquire);
        if (IsSealed(consumer)) return {FifoState::kSealed, total};
        if (p - IndexOf(consumer) > capacity_bytes) return {FifoState::kCorrupt, total};
        known_consumer = IndexOf(consumer);
        free = Room(p, known_consumer);
      }
      if (want > free) want = free;
      if (want == 0) break;
      IovCursor attempt = source;  // a failed publication must not consume the caller's bytes
      const uint64_t offset = p & (capacity_bytes - 1);
      const size_t first = want < capacity_bytes - offset ? want : capacity_bytes - offset;
      attempt.CopyOut(data + offset, first);
      if (want > first) attempt.CopyOut(data, want - first);
      if (!Publish(word, p + want, cpu)) return {FifoState::kSealed, total};
      source = attempt;
      total += want;
    }
    return {FifoState::kOpen, total};
  }

  // ---- consumer (safe with several at once: the CAS decides) ----

  // Copies at most `limit` bytes into `destination` (null: discards them). With `peek` nothing is
  // consumed. Ends whatever the peer writes meanwhile: a word that never stands still is nonsense.
  FifoResult Consume(IovCursor* destination, size_t limit, bool peek) const {
    size_t total = 0;
    uint32_t overtaken = 0;
    while (total < limit) {
      if (overtaken == kMostOvertaken) return {FifoState::kCorrupt, total};
      // acquire: pairs with the CAS of another consumer of our family.
      uint64_t word = header->consumer.load(std::memory_order_acquire);
      if (IsSealed(word)) return {FifoState::kSealed, total};
      const uint64_t c = IndexOf(word);
      // acquire: pairs with Publish; the bytes are there before the index says so.
      const uint64_t producer = header->producer.load(std::memory_order_acquire);
      const uint64_t available = IndexOf(producer) - c;
      if (available > capacity_bytes) return {FifoState::kCorrupt, total};
      if (available == 0)
        return {IsSealed(producer) ? FifoState::kSealed : FifoState::kOpen, total};
      size_t n = limit - total < available ? limit - total : available;
      if (!peek && n > kSliceBytes) n = kSliceBytes;
      IovCursor attempt = destination ? *destination : IovCursor(nullptr, 0);
      if (destination) {
        const uint64_t offset = c & (capacity_bytes - 1);
        const size_t first = n < capacity_bytes - offset ? n : capacity_bytes - offset;
        attempt.CopyIn(data + offset, first);
        if (n > first) attempt.CopyIn(data, n - first);
      }
      if (peek) {
        // Unchanged: nobody took (or sealed) the bytes while we copied, so what we copied was
        // theirs. A CAS of the word with itself and not a fence and a load: the thread sanitizer
        // knows no fences.
        if (!header->consumer.compare_exchange_strong(word, word, std::memory_order_seq_cst)) {
          ++overtaken;
          continue;
        }
        return {FifoState::kOpen, n};
      }
      // release: our reads of the ring are done before the producer may overwrite; fails if sealed
      // or overtaken.
      if (!header->consumer.compare_exchange_strong(word, (c + n) << 1,
                                                    std::memory_order_seq_cst)) {
        ++overtaken;
        continue;
      }
      if (destination) *destination = attempt;
      total += n;
    }
    return {FifoState::kOpen, total};
  }

  // Seals both words, and all that has been published counts as consumed: nothing is owed. It stays
  // where it is, from `begin` to `end`, for this end to read. False: it was sealed before, or holds
  // nonsense.
  bool SealAsConsumed(uint64_t* begin, uint64_t* end) const {
    uint64_t word = header->consumer.load(std::memory_order_acquire);
    do {
      if (IsSealed(word)) return false;
      *begin = IndexOf(word);
      // acquire: pairs with Publish.
      *end = IndexOf(header->producer.load(std::memory_order_acquire));
      if (*end - *begin > capacity_bytes) return false;
      // In one step: a producer that sees the new index sees the seal, and does not take for room
      // what is still to be read.
    } while (
        !header->consumer.compare_exchange_weak(word, *end << 1 | 1, std::memory_order_seq_cst));
    Seal();
    return true;
  }

 private:
  static constexpr size_t kSliceBytes = 16384;
  // Failed attempts of one call; consumers of our family take turns under a lock and need one or
  // two.
  static constexpr uint32_t kMostOvertaken = 100;

  static Fifo At(void* memory, uint64_t capacity_bytes) {
    Fifo fifo;
    fifo.header = static_cast<FifoHeader*>(memory);
    fifo.data = static_cast<uint8_t*>(memory) + kFifoDataOffset;
    fifo.capacity_bytes = capacity_bytes;
    fifo.window_bytes = capacity_bytes;
    return fifo;
  }
  uint64_t Room(uint64_t producer_index, uint64_t consumer_index) const {
    const uint64_t in_flight = producer_index - consumer_index;
    return in_flight < window_bytes ? window_bytes - in_flight : 0;
  }
  bool Publish(uint64_t word, uint64_t index, uint32_t cpu) const {
    header->producer_cpu.store(cpu, std::memory_order_relaxed);
    // seq_cst: the bytes before the index; and the index before our look at consumer_waiting
    // (Dekker with Arm).
    return header->producer.compare_exchange_strong(word, index << 1, std::memory_order_seq_cst);
  }
};

// ---- waking: request, look again, sleep ----

// Asks to be woken. Look at the FIFO again after this, then sleep on the word while it holds the
// returned value.
inline uint32_t ArmFutex(std::atomic<uint32_t>& waiting) {
  // seq_cst: the request before our second look; pairs with the CAS in Publish/Consume followed by
  // WakeBits.
  return waiting.fetch_or(kFutexSleeper, std::memory_order_seq_cst) | kFutexSleeper;
}
inline void RequestDoorbell(std::atomic<uint32_t>& waiting) {
  waiting.fetch_or(kDoorbellInterest, std::memory_order_seq_cst);
}
// Wakes futex sleepers of the word at the other end; returns the bits for which the doorbell has to
// be rung as well. The consumer's interest in the doorbell lasts as long as the FIFO, a producer's
// (`once`) ends when it is served. Under another kernel only the doorbell wakes (`foreign`).
inline uint32_t WakeSleepers(std::atomic<uint32_t>& waiting, bool once = false,
                             bool foreign = false) {
  uint32_t bits = waiting.load(std::memory_order_seq_cst) & kRequests;
  if (bits == 0) return 0;
  if ((bits & kFutexSleeper) != 0 || once) {
    // A request that came since the load is taken away here as well, so it is served as well.
    bits |= waiting.fetch_and(once ? ~kRequests : ~kFutexSleeper, std::memory_order_seq_cst) &
            kRequests;
    if (foreign) return bits;
    if ((bits & kFutexSleeper) != 0) {
      waiting.fetch_add(kOneWakeUp, std::memory_order_seq_cst);
      sys::FutexWakeAll(&waiting);
    }
  }
  return bits & kDoorbellInterest;
}
// A ring from another kernel says only that something has changed. Is it for a thread of ours that
// waits for room in `mine`? Who wakes a producer takes its request away, by his own idea of how
// much room is worth the trip: he knows the capacity, not a smaller window of ours. With the
// request gone nobody rings again, so the sleeper must wake however little room there is.
inline bool ProducerIsMeant(const Fifo& mine) {
  // seq_cst: pairs with the fetch_and in WakeSleepers.
  return (mine.header->producer_waiting.load(std::memory_order_seq_cst) & kFutexSleeper) == 0 ||
         mine.HasRoom();
}
// Wakes threads of our own that sleep on a word of this FIFO, also if the word asks for nobody: a
// peer that was killed may have taken the request away and not come to the wake. The kernel knows
// no shared futex in memory of another one; there the sleepers are all of this process.
inline void WakeOwnSleepers(const Fifo& fifo, std::atomic<uint32_t>& waiting) {
  const bool asked =
      (waiting.fetch_and(~kFutexSleeper, std::memory_order_seq_cst) & kFutexSleeper) != 0;
  waiting.fetch_add(kOneWakeUp, std::memory_order_seq_cst);
  if (!fifo.foreign) sys::FutexWakeAll(&waiting);
  // Under our own kernel also one who went to sleep as if the FIFO were foreign still: it has been
  // kept privately since.
  if (fifo.foreign || asked) sys::FutexWakeAll(&waiting, /*of_this_process=*/true);
}

}  // namespace xenloop
