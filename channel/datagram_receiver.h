// The receiving end: one socket, the kernel's queue and the FIFOs of up to sixteen senders. Decides
// which datagram comes next, and which are dropped because the queue is full; in the kernel there
// would be one queue, and the program must not see that there are more. The kernel's socket is
// known only as `Shadow`:
//
//   ssize_t Peek(IovCursor*)   looks at the kernel's first datagram: its length, or -errno
//   ssize_t Take(IovCursor*)   takes it; or another one, or -EAGAIN, if somebody else was faster
//
// All of it under the receive lock of the socket. Rules: channel/DATAGRAMS.md.
#pragma once

#include <errno.h>
#include <sys/types.h>

#include "channel/datagram_queue.h"

namespace xenloop {

// Where a datagram has come from: a slot, or the kernel.
inline constexpr int kFromKernel = -1;

struct DatagramReceiver {
  DatagramQueue queue;

  // Copies the next datagram, as much as there is room for, into `destination` (null: nothing).
  // The length of the whole, or -errno. What a peek has shown is what the next call gets, whatever
  // has come in between.
  template <typename Shadow>
  ssize_t Receive(Shadow& shadow, IovCursor* destination, bool peek, int* from) {
    // A sender whose index never stands still must not hold us here.
    int owed = 0;
    for (int round = 0; round < kMostRounds; ++round) {
      queue.Admit();
      const Choice choice = Choose();
      if (choice == Choice::kFifo) {
        if (!queue.AnyAdmitted()) continue;  // it has come since
        const ssize_t result = queue.TakeFirst(destination, peek, from);
        if (result == DatagramQueue::kAgain) continue;
        Note(peek, Choice::kFifo);
        return result;
      }
      const uint32_t draining = queue.Draining();
      IovCursor attempt = destination != nullptr ? *destination : IovCursor(nullptr, 0);
      ssize_t result = shadow.Peek(destination != nullptr ? &attempt : nullptr);
      if (result == -EAGAIN) {
        queue.KernelIsDry(draining);
        promised_ = Choice::kNone;
        if (queue.Any()) {
          since_kernel_ = 0;
          continue;
        }
        if (!queue.IsOwed() || ++owed == kMostOwed) return -EAGAIN;
        // Its sender is at it: what was sent before this call is to be found.
        sys::Yield();
        continue;
      }
      if (result >= 0 && choice == Choice::kKernel) {
        // Look again: a sender may have left its FIFO since we looked, and this may be newer than
        // what it has left there.
        queue.Admit();
        if (queue.AnyLeft()) continue;
      }
      if (result >= 0 && !peek) {
        // A thread that has slept in the kernel may be at it, too.
        attempt = destination != nullptr ? *destination : IovCursor(nullptr, 0);
        result = shadow.Take(destination != nullptr ? &attempt : nullptr);
        if (result == -EAGAIN) continue;
        queue.KernelGave(draining);
      }
      if (destination != nullptr) *destination = attempt;
      *from = kFromKernel;
      if (result >= 0) Note(peek, Choice::kPromisedKernel);
      return result;
    }
    return -EAGAIN;
  }

  // Would a receive find a datagram of a FIFO?
  bool Readable() const { return queue.Any(); }

  // A thread that held the lock is dead: what it was doing is half done.
  void Recover() {
    queue.Recover();
    promised_ = Choice::kNone;
  }

 private:
  // While datagrams come by FIFOs all the time, those of strangers must not wait for ever.
  static constexpr uint32_t kMostBesideKernel = 16;
  static constexpr int kMostRounds = 100;
  static constexpr int kMostOwed = 3;

  enum class Choice : uint8_t { kNone, kFifo, kKernel, kPromisedKernel };

  Choice Choose() const {
    if (promised_ != Choice::kNone) {
      if (promised_ == Choice::kPromisedKernel) return promised_;
      if (queue.AnyAdmitted()) return promised_;
    }
    if (queue.AnyLeft()) return Choice::kFifo;
    if (queue.Draining() != 0) return Choice::kKernel;
    if (queue.AnyAdmitted() && since_kernel_ < kMostBesideKernel) return Choice::kFifo;
    return Choice::kKernel;
  }
  void Note(bool peek, Choice made) {
    promised_ = peek ? made : Choice::kNone;
    if (peek) return;
    since_kernel_ = made == Choice::kFifo ? since_kernel_ + 1 : 0;
  }

  uint32_t since_kernel_ = 0;
  Choice promised_ = Choice::kNone;
};

}  // namespace xenloop
