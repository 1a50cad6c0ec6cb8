// Single steps that every data call takes: the compare-and-swap of a publication and what a plain
// store in its stead would cost, the way into and out of the kernel, the descriptor table, a lock.
#include <benchmark/benchmark.h>

#include <atomic>
#include <new>

#include "channel/base/lock.h"
#include "channel/stream.h"
#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {
namespace {

constexpr Self kSelf{1, 1};

alignas(64) std::atomic<uint64_t> word{0};

void StoreRelease(benchmark::State& state) {
  uint64_t value = 0;
  for ([[maybe_unused]] auto step : state) word.store(++value, std::memory_order_release);
}
BENCHMARK(StoreRelease);

void StoreSequential(benchmark::State& state) {
  uint64_t value = 0;
  for ([[maybe_unused]] auto step : state) word.store(++value, std::memory_order_seq_cst);
}
BENCHMARK(StoreSequential);

void CompareAndSwap(benchmark::State& state) {
  uint64_t value = word.load();
  for ([[maybe_unused]] auto step : state) {
    benchmark::DoNotOptimize(
        word.compare_exchange_strong(value, value + 1, std::memory_order_seq_cst));
    ++value;
  }
}
BENCHMARK(CompareAndSwap);

void EnterAndLeaveKernelSend(benchmark::State& state) {
  SendStream stream;
  for ([[maybe_unused]] auto step : state) {
    benchmark::DoNotOptimize(stream.EnterKernel());
    stream.LeaveKernel();
  }
}
BENCHMARK(EnterAndLeaveKernelSend);

void EnterAndLeaveKernelReceive(benchmark::State& state) {
  ReceiveStream stream;
  for ([[maybe_unused]] auto step : state) {
    benchmark::DoNotOptimize(stream.EnterKernel(kSelf));
    stream.LeaveKernel(kSelf);
  }
}
BENCHMARK(EnterAndLeaveKernelReceive);

void FindOurSide(benchmark::State& state) {
  static char side_memory[sizeof(Side)] __attribute__((aligned(64)));
  FdTable::SetSide(7, reinterpret_cast<Side*>(side_memory));
  int fd = 7;
  for ([[maybe_unused]] auto step : state) {
    benchmark::DoNotOptimize(fd);
    benchmark::DoNotOptimize(FdTable::FindSide(fd));
  }
  FdTable::Clear(7);
}
BENCHMARK(FindOurSide);

void FindNothing(benchmark::State& state) {
  int fd = 8;
  for ([[maybe_unused]] auto step : state) {
    benchmark::DoNotOptimize(fd);
    benchmark::DoNotOptimize(FdTable::FindSide(fd));
  }
}
BENCHMARK(FindNothing);

void LockAndUnlock(benchmark::State& state) {
  RecoverableLock lock;
  for ([[maybe_unused]] auto step : state) {
    const LockScope scope(lock, kSelf.tid);
    benchmark::DoNotOptimize(scope.result());
  }
}
BENCHMARK(LockAndUnlock);

void LockAndUnlockContended(benchmark::State& state) {
  static RecoverableLock lock;
  const auto tid = static_cast<uint32_t>(sys::GetTid());
  for ([[maybe_unused]] auto step : state) {
    const LockScope scope(lock, tid);
    benchmark::DoNotOptimize(scope.result());
  }
}
BENCHMARK(LockAndUnlockContended)->Threads(2)->UseRealTime();

}  // namespace
}  // namespace xenloop
