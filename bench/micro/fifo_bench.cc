// A FIFO alone: publishing and consuming messages of 64 B to 64 KiB, both ends in one thread and in
// two, with a copy of the same bytes to compare with.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "channel/fifo.h"

namespace xenloop {
namespace {

constexpr uint64_t kCapacity = 256 * 1024;  // what is configured when nothing is

class Ring {
 public:
  Ring() : memory_(std::aligned_alloc(4096, (FifoMemoryBytes(kCapacity) + 4095) / 4096 * 4096)) {
    memset(memory_, 0, FifoMemoryBytes(kCapacity));
    fifo_ = Fifo::Initialise(memory_, kCapacity);
  }
  ~Ring() { std::free(memory_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Bytes that went in, or came out: all of them, or as many as there was room for.
  size_t Put(const std::vector<uint8_t>& bytes, size_t from) {
    const iovec iov{const_cast<uint8_t*>(bytes.data()) + from, bytes.size() - from};
    IovCursor source(&iov, 1);
    return fifo_.Produce(source, known_consumer_, 0).bytes;
  }
  size_t Take(std::vector<uint8_t>* bytes) const {
    const iovec iov{bytes->data(), bytes->size()};
    IovCursor destination(&iov, 1);
    return fifo_.Consume(&destination, bytes->size(), /*peek=*/false).bytes;
  }

 private:
  void* memory_;
  Fifo fifo_;
  uint64_t known_consumer_ = 0;
};

// The other thread may have lost its processor: then it gets ours.
void WaitALittle(uint32_t* rounds) {
  if (++*rounds % 1024 == 0) {
    sys::Yield();
  } else {
    sys::Pause();
  }
}

void SetBytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}

// What the two copies of a message cost without a FIFO between them.
void TwoCopies(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  std::vector<uint8_t> from(size, 1);
  std::vector<uint8_t> ring(kCapacity);
  std::vector<uint8_t> to(size);
  size_t at = 0;
  for ([[maybe_unused]] auto step : state) {
    memcpy(&ring[at], from.data(), size);
    benchmark::ClobberMemory();
    memcpy(to.data(), &ring[at], size);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
    at = (at + size) % kCapacity;
  }
  SetBytes(state);
}
BENCHMARK(TwoCopies)->RangeMultiplier(4)->Range(64, 64 << 10);

void PublishAndConsume(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  Ring ring;
  const std::vector<uint8_t> from(size, 1);
  std::vector<uint8_t> to(size);
  for ([[maybe_unused]] auto step : state) {
    if (ring.Put(from, 0) != size || ring.Take(&to) != size) {
      state.SkipWithError("a message did not go through");
    }
    benchmark::DoNotOptimize(to.data());
  }
  SetBytes(state);
}
BENCHMARK(PublishAndConsume)->RangeMultiplier(4)->Range(64, 64 << 10);

// The consumer is a thread of its own that takes what it finds; time and rate are the producer's.
// On one processor the two would only wait for each other's time slices.
void PublishToAnotherThread(benchmark::State& state) {
  if (std::thread::hardware_concurrency() < 2) {
    state.SkipWithError("needs two processors");
    return;
  }
  const auto size = static_cast<size_t>(state.range(0));
  Ring ring;
  const std::vector<uint8_t> from(size, 1);
  std::atomic<uint64_t> sent{~uint64_t{0}};  // all of it, once the producer has ended
  std::thread consumer([&] {
    std::vector<uint8_t> to(size);
    uint32_t rounds = 0;
    for (uint64_t taken = 0; taken != sent.load(std::memory_order_acquire);) {
      const size_t n = ring.Take(&to);
      taken += n;
      if (n == 0) WaitALittle(&rounds);
    }
  });
  uint32_t rounds = 0;
  uint64_t total = 0;
  for ([[maybe_unused]] auto step : state) {
    for (size_t put = 0; put < size;) {
      const size_t n = ring.Put(from, put);
      put += n;
      if (n == 0) WaitALittle(&rounds);
    }
    total += size;
  }
  sent.store(total, std::memory_order_release);
  consumer.join();
  SetBytes(state);
}
BENCHMARK(PublishToAnotherThread)->RangeMultiplier(4)->Range(64, 64 << 10)->UseRealTime();

// A message there and one back: what a round trip costs when nobody sleeps.
void RoundTripToAnotherThread(benchmark::State& state) {
  if (std::thread::hardware_concurrency() < 2) {
    state.SkipWithError("needs two processors");
    return;
  }
  const auto size = static_cast<size_t>(state.range(0));
  Ring there;
  Ring back;
  std::atomic<bool> over{false};
  const auto take_all = [&over](const Ring& ring, std::vector<uint8_t>* bytes) {
    uint32_t rounds = 0;
    for (size_t taken = 0; taken < bytes->size() && !over.load(std::memory_order_relaxed);) {
      const size_t n = ring.Take(bytes);
      taken += n;
      if (n == 0) WaitALittle(&rounds);
    }
  };
  std::thread echo([&] {
    std::vector<uint8_t> bytes(size);
    for (;;) {
      take_all(there, &bytes);
      if (over.load(std::memory_order_relaxed)) return;
      back.Put(bytes, 0);
    }
  });
  std::vector<uint8_t> bytes(size, 1);
  for ([[maybe_unused]] auto step : state) {
    there.Put(bytes, 0);
    take_all(back, &bytes);
  }
  over.store(true);
  echo.join();
  SetBytes(state);
}
BENCHMARK(RoundTripToAnotherThread)->Arg(64)->Arg(4096)->UseRealTime();

}  // namespace
}  // namespace xenloop
