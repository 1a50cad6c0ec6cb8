// The memory of a FIFO between two pages that nobody may touch: the data ends where the second
// begins, and what lies before the header is filled with a pattern. And the hostile peer, who
// writes what it likes into the header.
#pragma once

#include <sys/mman.h>

#include "channel/fifo.h"
#include "channel/transport.h"
#include "tests/fuzz/input.h"

namespace xenloop::fuzz {

class GuardedFifo {
 public:
  explicit GuardedFifo(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {
    const size_t pages = (FifoMemoryBytes(capacity_bytes) + kPage - 1) / kPage * kPage;
    void* all = mmap(nullptr, pages + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    XENLOOP_REQUIRE(all != MAP_FAILED);
    pages_ = static_cast<uint8_t*>(all) + kPage;
    XENLOOP_REQUIRE(mprotect(pages_, pages, PROT_READ | PROT_WRITE) == 0);
    memory_ = pages_ + pages - FifoMemoryBytes(capacity_bytes);
    Clear();
  }
  GuardedFifo(const GuardedFifo&) = delete;
  GuardedFifo& operator=(const GuardedFifo&) = delete;

  // As new: an input must not see what another has left.
  Fifo Clear() {
    memset(pages_, kPattern, static_cast<size_t>(memory_ - pages_));
    memset(memory_, 0, FifoMemoryBytes(capacity_bytes_));
    static_assert(sizeof(FifoHeader) == kFifoDataOffset, "nothing between them to be watched");
    return Fifo::Initialise(memory_, capacity_bytes_);
  }
  uint8_t* memory() const { return memory_; }
  FifoHeader* header() const { return reinterpret_cast<FifoHeader*>(memory_); }

  // Nothing before the header, and nothing between the header and the data, has been written.
  bool PatternsIntact() const {
    return AllPattern(pages_, memory_) &&
           AllPattern(memory_ + sizeof(FifoHeader), memory_ + kFifoDataOffset);
  }

 private:
  static constexpr size_t kPage = 4096;
  static constexpr uint8_t kPattern = 0xa5;

  static bool AllPattern(const uint8_t* begin, const uint8_t* end) {
    for (; begin != end; ++begin) {
      if (*begin != kPattern) return false;
    }
    return true;
  }

  uint64_t capacity_bytes_;
  uint8_t* pages_;
  uint8_t* memory_;
};

// A value that an index could have, and some that none should: near either index, near the wrap of
// 63 bits, sealed, or anything.
inline uint64_t HostileIndexWord(Input& input, const FifoHeader& header, uint64_t capacity_bytes) {
  const uint64_t producer = IndexOf(header.producer.load(std::memory_order_relaxed));
  const uint64_t consumer = IndexOf(header.consumer.load(std::memory_order_relaxed));
  const uint8_t how = input.Byte();
  const auto step = static_cast<uint64_t>(static_cast<int16_t>(input.Short()));
  const uint64_t bases[] = {producer,
                            consumer,
                            producer + capacity_bytes,
                            consumer + capacity_bytes,
                            0,
                            (uint64_t{1} << 63) - 1,
                            uint64_t{1} << 62,
                            0};
  uint64_t index = bases[how % 8] + step;
  if (how % 8 == 7) index = input.Word();
  return (index << 1) | ((how & 0x40) != 0 ? 1 : 0);
}

// One write of a peer that keeps no rule, anywhere in the header that it can write.
inline void HostileWrite(Input& input, FifoHeader* header, uint64_t capacity_bytes) {
  switch (input.Below(12)) {
    case 0:
    case 1:
      return header->producer.store(HostileIndexWord(input, *header, capacity_bytes));
    case 2:
    case 3:
      return header->consumer.store(HostileIndexWord(input, *header, capacity_bytes));
    case 4:
      return header->switch_offset.store(input.OneIn(2) ? input.Word() : input.Short());
    case 5:
      return header->up.store(input.Byte());
    case 6:
      return header->consumer_ready.store(input.Byte());
    case 7:
      return header->consumer_waiting.store(input.OneIn(2) ? ~0u : input.Byte());
    case 8:
      return header->producer_waiting.store(input.OneIn(2) ? ~0u : input.Byte());
    case 9:
      header->capacity_bytes = input.OneIn(2) ? input.Word() : uint64_t{1} << input.Below(64);
      return;
    case 10:
      if (input.OneIn(2)) header->magic ^= input.Byte();
      if (input.OneIn(2)) header->version ^= input.Byte();
      return;
    default: {
      const auto word = static_cast<uint32_t>(input.Word());
      header->producer_cpu.store(word);
      header->consumer_bell.store(word % 2 != 0 ? word : word & (2 * kMostBells - 1));
      header->producer_bell.store(word / 2);
    }
  }
}

}  // namespace xenloop::fuzz
