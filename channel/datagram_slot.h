// What a receiving socket knows of one sender's FIFO. Plain data of the queue (datagram_queue.h).
#pragma once

#include "channel/datagram_fifo.h"

namespace xenloop {

struct DatagramSlot {
  enum class State : uint8_t {
    kNone,
    kFresh,     // nothing has come yet
    kDraining,  // something has; the kernel first
    kStarted,
    kSealed,  // both words are: nothing more from here
  };
  DatagramFifo fifo;
  uint64_t taken = 0;     // our own copy of the consumer's index
  uint64_t admitted = 0;  // behind the last record that has been admitted or dropped
  uint64_t last_stamp = 0;
  uint64_t released = 0;
  uint64_t queued_bytes = 0;  // its part of the queue's
  uint32_t to_drain = 0;
  uint64_t drained_at = ~uint64_t{0};  // the record for which the kernel was read dry last
  bool any_stamp = false;
  bool returned = false;   // who reads the socket looks at no FIFO
  bool reclaimed = false;  // nobody else takes from it: the consumer's word says nothing any more
  State state = State::kNone;

  // The records that it holds are not ours to take: we have sealed it, or its sender has, and sends
  // them by the kernel.
  bool IsTakenBack() const {
    return state == State::kSealed || (!reclaimed && fifo.ConsumerSealed());
  }
  LookResult TakeOut(const DatagramView& view, IovCursor* destination, bool peek) {
    if (!reclaimed) return fifo.Take(view, destination, peek, released);
    fifo.CopyOut(view, destination);
    return LookResult::kHere;
  }
};

}  // namespace xenloop
