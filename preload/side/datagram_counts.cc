// How many datagrams went by which route, which were dropped, and why sockets are on no FIFO: for
// people (datagram_side.h).
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/side/datagram_side.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

RecoverableLock counts_lock;

// The first few reasons that occur, and how often.
struct ReasonTally {
  static constexpr int kMost = 4;
  Reason reasons[kMost] = {};
  int counts[kMost] = {};
  int kinds = 0;

  void Add(Reason reason) {
    int i = 0;
    while (i < kinds && reasons[i] != reason) ++i;
    if (i == kMost || reason == Reason::kNone) return;
    if (i == kinds) reasons[kinds++] = reason;
    ++counts[i];
  }
};
// Of sockets that are closed.
struct Closed {
  DatagramCounts counts = {};
  ReasonTally reasons;
};
Closed closed ABSL_GUARDED_BY(counts_lock);

// Without the sockets' locks: for people.
void Add(const DatagramSide& side, DatagramCounts* sum) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  sum->fifo_sent += side.fifo_sent.load(std::memory_order_relaxed);
  sum->fifo_received += side.fifo_received.load(std::memory_order_relaxed);
  sum->kernel_sent += side.kernel_sent.load(std::memory_order_relaxed);
  sum->kernel_received += side.kernel_received.load(std::memory_order_relaxed);
  sum->dropped_sending += side.sender.dropped;
  sum->dropped_receiving += side.receiver.queue.dropped();
  sum->upgrades += side.upgrades.load(std::memory_order_relaxed);
  sum->fallbacks += side.fallbacks.load(std::memory_order_relaxed);
}

uint32_t DroppedByKernel(int fd) {
  constexpr int kMemInfo = 55;  // SO_MEMINFO
  constexpr int kDrops = 8;
  uint32_t memory[kDrops + 1] = {};
  socklen_t length = sizeof memory;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, kMemInfo, sys::Word(memory), sys::Word(&length));
  return memory[kDrops];
}

}  // namespace

DatagramCounts CountedDatagrams() {
  const LockScope scope(counts_lock, CurrentTid());
  DatagramCounts sum = closed.counts;
  EachDatagramSide([&sum](DatagramSide* side) {
    Add(*side, &sum);
    const int fd = side->fd.load(std::memory_order_relaxed);
    if (FindDatagram(fd) == side) sum.dropped_kernel += DroppedByKernel(fd);
  });
  return sum;
}

namespace {

bool IsUsed(const DatagramSide& side) {
  return side.kernel_sent.load(std::memory_order_relaxed) +
             side.kernel_received.load(std::memory_order_relaxed) !=
         0;
}

// Of a closed one.
bool NeverMet(const DatagramSide& side) {
  return IsUsed(side) && side.upgrades.load(std::memory_order_relaxed) == 0 &&
         side.reason.load(std::memory_order_relaxed) != Reason::kNotHotYet;
}

// Why sockets that are used are on no FIFO, and those that were closed never were:
// {"reason":sockets,...} of the first few.
size_t FormatReasons(char* text, size_t capacity) {
  ReasonTally tally;
  {
    const LockScope scope(counts_lock, CurrentTid());
    tally = closed.reasons;
  }
  EachDatagramSide([&tally](DatagramSide* side) {
    if (side->in_use.load(std::memory_order_acquire) == 2) {  // its agent has still to free it
      if (NeverMet(*side)) tally.Add(side->reason.load(std::memory_order_relaxed));
    } else if (FindDatagram(side->fd.load(std::memory_order_relaxed)) == side && IsUsed(*side) &&
               side->sending.load(std::memory_order_relaxed) +
                       side->receiving.load(std::memory_order_relaxed) ==
                   0) {
      tally.Add(side->reason.load(std::memory_order_relaxed));
    }
  });
  size_t length = 0;
  for (int i = 0; i < tally.kinds && length < capacity; ++i)
    length += static_cast<size_t>(snprintf(text + length, capacity - length, "%s\"%s\":%d",
                                           i == 0 ? "" : ",", ReasonText(tally.reasons[i]),
                                           tally.counts[i]));
  return length;
}
}  // namespace

size_t FormatDatagrams(char* text, size_t capacity) {
  const DatagramCounts sum = CountedDatagrams();
  char reasons[512] = "";
  if (FormatReasons(reasons, sizeof reasons) >= sizeof reasons) reasons[0] = 0;
  const auto length = static_cast<size_t>(snprintf(
      text, capacity,
      "{\"fifo_sent\":%lu,\"fifo_received\":%lu,\"kernel_sent\":%lu,\"kernel_received\":%lu,"
      "\"dropped\":%lu,\"dropped_by_sender\":%lu,\"dropped_by_receiver\":%lu,"
      "\"dropped_by_kernel\":%lu,\"upgrades\":%lu,\"fallbacks\":%lu,\"by_kernel\":{%s}}",
      sum.fifo_sent, sum.fifo_received, sum.kernel_sent, sum.kernel_received,
      sum.dropped_sending + sum.dropped_receiving + sum.dropped_kernel, sum.dropped_sending,
      sum.dropped_receiving, sum.dropped_kernel, sum.upgrades, sum.fallbacks, reasons));
  if (length < capacity) return length;
  memcpy(text, "{}", 3);  // no room
  return 2;
}

void FreeDatagramSide(DatagramSide* side) {
  const LockScope scope(counts_lock, CurrentTid());
  Add(*side, &closed.counts);
  if (NeverMet(*side)) closed.reasons.Add(side->reason.load(std::memory_order_relaxed));
  side->in_use.store(0, std::memory_order_release);
}

// Alone.
void ForgetDatagramCounts() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  counts_lock.Release();
  closed = Closed{};
}

}  // namespace xenloop
