// A FIFO in plain memory for tests, and short ways to put bytes in and take them out.
#pragma once

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "channel/fifo.h"

namespace xenloop {

class PlainFifo {
 public:
  explicit PlainFifo(uint64_t capacity_bytes) {
    bytes_ = FifoMemoryBytes(capacity_bytes);
    memory_ = std::aligned_alloc(64, (bytes_ + 63) / 64 * 64);
    memset(memory_, 0, bytes_);
    fifo = Fifo::Initialise(memory_, capacity_bytes);
  }
  ~PlainFifo() { std::free(memory_); }
  PlainFifo(const PlainFifo&) = delete;
  PlainFifo& operator=(const PlainFifo&) = delete;

  void* memory() const { return memory_; }
  size_t memory_bytes() const { return bytes_; }
  FifoHeader* header() const { return fifo.header; }

  FifoResult Put(const std::string& text) {
    const iovec iov{const_cast<char*>(text.data()), text.size()};
    IovCursor source(&iov, 1);
    return fifo.Produce(source, known_consumer, 0);
  }
  // At most `limit` bytes; `state` may be null.
  std::string Take(size_t limit, bool peek = false, FifoState* state = nullptr) {
    std::string text(limit, '?');
    const iovec iov{text.data(), limit};
    IovCursor destination(&iov, 1);
    const FifoResult result = fifo.Consume(&destination, limit, peek);
    if (state != nullptr) *state = result.state;
    text.resize(result.bytes);
    return text;
  }
  // Moves both indices on, as if that many bytes had passed.
  void StartAt(uint64_t index) {
    header()->producer.store(index << 1);
    header()->consumer.store(index << 1);
    known_consumer = index;
  }

  Fifo fifo;
  uint64_t known_consumer = 0;

 private:
  void* memory_;
  size_t bytes_;
};

inline std::string Text(size_t length, int first = 0) {
  std::string text(length, '\0');
  for (size_t i = 0; i < length; ++i)
    text[i] = static_cast<char>((static_cast<size_t>(first) + i) % 251);
  return text;
}

}  // namespace xenloop
