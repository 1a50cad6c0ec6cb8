// What a datagram is in a FIFO: a record, and what it counts in a receive queue. Decides the layout
// and the kernel's arithmetic; moves nothing. The memory is an ordinary FIFO's (fifo.h), so the
// transports make and map it as they are. Layout: channel/DATAGRAMS.md.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "channel/fifo.h"

namespace xenloop {

// Records begin at multiples of 16 and capacities are powers of two, so that the head of a record
// never lies over the edge of the ring.
struct DatagramRecord {
  uint32_t length;  // of the payload behind it
  uint32_t flags;   // kAfterKernel; a record with another is not understood
  uint64_t stamp;   // when it was sent, in the order of all senders to this receiver
};
static_assert(sizeof(DatagramRecord) == 16);

// The sender has sent by the kernel since its last record: what is in the kernel's queue is older.
inline constexpr uint32_t kAfterKernel = 1;

inline constexpr uint64_t kRecordAlignment = sizeof(DatagramRecord);
inline constexpr uint32_t kMostDatagramBytes = 65535;
// Below this a FIFO could not take every datagram that an empty kernel queue takes.
inline constexpr uint64_t kMinDatagramFifoBytes = 128 << 10;

inline constexpr uint64_t RecordBytes(uint32_t length) {
  return sizeof(DatagramRecord) +
         (length + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}

// Stamps are numbers of a circle: one is later than another if it is less than half of it ahead.
inline constexpr bool IsLater(uint64_t stamp, uint64_t than) {
  return static_cast<int64_t>(stamp - than) > 0;
}

// What the kernel charges a receive queue for a datagram of that length over loopback: the size of
// the memory that it takes (measured on Linux 6.18 with SO_MEMINFO, every length). The larger head
// of IPv6 moves the steps.
inline constexpr uint32_t DatagramCharge(uint32_t length, bool ipv6) {
  constexpr uint32_t kSocketBuffer = 256;
  constexpr uint32_t kSmall = 832;
  constexpr struct {
    uint32_t below;
    uint32_t bytes;
  } kSteps[] = {{198, kSmall - kSocketBuffer},
                {646, 1024},
                {1670, 2048},
                {3718, 4096},
                {7814, 8192},
                {16005, 16384}};
  const uint32_t head = ipv6 ? 13 : 0;
  for (const auto& step : kSteps) {
    if (length < step.below - head) return step.bytes + kSocketBuffer;
  }
  // Over 65,535 bytes with its heads it goes in two fragments.
  return length + (ipv6 && length >= 65489 ? 1655 : kSmall);
}

// The kernel's drop rule: a queue that holds `queued` takes a datagram only within the limit, and
// an empty one takes any.
inline constexpr bool FitsQueue(uint64_t queued, uint32_t charge, uint64_t limit) {
  return queued == 0 || queued + charge <= limit;
}

// Who has to deliver the records [C, P) of a FIFO that comes to its end. Decided once, by a
// compare-and-swap from kUndecided: else a sender might go on by the kernel while a receiver counts
// on getting the older ones from there first.
enum class Residue : uint32_t {
  kUndecided,
  kLeft,       // the receiver takes them from the FIFO; the sender goes on by the kernel
  kWanted,     // the sender sends them by the kernel, before anything newer; either end wants it
  kFlushed,    // that has been done
  kForgotten,  // the receiving socket is closed: the kernel would throw its queue away, too
};

// Who sleeps at the receiving socket, in calls of the kernel: the low bits of `asleep`. The others
// count, so that each sleep is another one. A sender wakes a sleeper by sending a datagram by the
// kernel. One sleeper is woken by the first; where several sleep, each datagram wakes another one.
// Who goes to sleep looks at the FIFO first, and stays awake if it holds anything; but for waits
// for edges (kForEdges), which have told of that already.
inline constexpr uint32_t kSleepers = 3;
inline constexpr uint32_t kForEdges = 4;
inline constexpr uint32_t kOneSleep = 8;  // from here on they count
inline constexpr uint32_t kNobodyAsleep = 0;
inline constexpr uint32_t kOneAsleep = 1;
inline constexpr uint32_t kSeveralAsleep = 2;

// The words that datagrams need besides those of the FIFO. They lie where a stream's proof of
// pairing lies.
struct DatagramBoard {
  // Written by the consumer.
  std::atomic<uint64_t> released;     // sum of the charges of all records that it has passed
  std::atomic<uint32_t> limit_bytes;  // its SO_RCVBUF
  std::atomic<uint32_t> started;      // it has read the kernel dry, and takes records
  std::atomic<Residue> residue;       // by both ends
  std::atomic<uint32_t> asleep;       // by the consumer; before its last look at the FIFO
  // By the producer: around its look at `asleep` and the record that it publishes then, for which
  // who goes to sleep waits; and around each that it sends by the kernel out of the FIFO, for which
  // who closes its socket waits.
  std::atomic<uint32_t> putting;
  // Indices, as the FIFO's. The kernel has been read dry for a record that began before here
  // (written by the consumer); and there begins no record with kAfterKernel behind this (by the
  // producer).
  std::atomic<uint64_t> drained;
  std::atomic<uint64_t> doubtful;
};
inline constexpr size_t kDatagramBoardOffset = 320;
static_assert(offsetof(FifoHeader, pairing) == kDatagramBoardOffset);
static_assert(kDatagramBoardOffset + sizeof(DatagramBoard) <= kFifoDataOffset);
static_assert(offsetof(DatagramBoard, limit_bytes) == 8);
static_assert(offsetof(DatagramBoard, started) == 12);
static_assert(offsetof(DatagramBoard, residue) == 16);
static_assert(offsetof(DatagramBoard, asleep) == 20);
static_assert(offsetof(DatagramBoard, putting) == 24);
static_assert(offsetof(DatagramBoard, drained) == 32);
static_assert(offsetof(DatagramBoard, doubtful) == 40);

}  // namespace xenloop
