// The sending end of one pair of sockets: which datagram goes by which route, and what becomes of
// the records that the receiver has not taken. Knows the kernel's socket only as `Shadow`:
//
//   ssize_t SendRecord(const iovec*, size_t count)   a datagram to the receiver; bytes or -errno
//   bool HasItsName()   what is sent now comes under the name of before
//   bool IsReceiverThere()   false: its socket has been closed
//   void Wake()         whoever waits for this FIFO, or serves it
//
// All of it under the send lock of the socket. Rules: channel/DATAGRAMS.md.
#pragma once

#include <errno.h>
#include <sys/types.h>

#include "channel/datagram_fifo.h"

namespace xenloop {

enum class DatagramRoute : uint8_t {
  kKernel,
  kFifo,
  kLeft,      // newer ones go by the kernel; the receiver takes what the FIFO still holds
  kFlushing,  // newer ones wait for the residue, which the kernel did not take at once
};

enum class Sending : uint8_t {
  kDone,      // sent, or dropped as the kernel would have dropped it
  kByKernel,  // the caller sends it, as it is
  kWait,      // EAGAIN: the kernel's send buffer is full with the residue
  kRing,      // the caller sends it by the kernel, to wake a sleeper, and calls Rang
};

struct DatagramSender {
  std::atomic<DatagramRoute> route{DatagramRoute::kKernel};
  DatagramFifo fifo;
  PutAccount account;
  uint64_t residue_begin = 0;
  uint64_t residue_end = 0;
  // An error that the kernel had for the program and that a flush has met.
  int pending_error = 0;
  uint64_t sent = 0;  // by FIFOs
  uint64_t dropped = 0;

  // The receiver has joined, and no thread of its process waits in the kernel unaware. From here
  // on, what was sent by the kernel is older than the first record.
  void Begin(const DatagramFifo& with) {
    fifo = with;
    account = PutAccount{};
    pending_error = 0;
    account.charged = with.board().released.load(std::memory_order_relaxed);
    // Unless the kernel had nothing for it at the join.
    account.after_kernel = with.board().started.load(std::memory_order_acquire) == 0;
    route.store(DatagramRoute::kFifo, std::memory_order_release);
  }

  template <typename Shadow>
  Sending Send(Shadow& shadow, const IovCursor& source, uint64_t stamp) {
    if (route.load(std::memory_order_relaxed) == DatagramRoute::kFifo) {
      const DatagramFifo::Begun begun = fifo.BeginPut(account);
      if (begun == DatagramFifo::Begun::kRing) return Sending::kRing;
      if (begun == DatagramFifo::Begun::kLeave) {
        Leave(shadow);
        return AfterTheFifo();
      }
      const PutResult put = fifo.Put(source, stamp, account);
      fifo.EndPut();
      switch (put) {
        case PutResult::kSent:
          ++sent;
          shadow.Wake();
          return Sending::kDone;
        case PutResult::kDropped:
          ++dropped;
          return Sending::kDone;
        case PutResult::kFull:
          Leave(shadow);
          break;
        case PutResult::kSealed:
          Settle(shadow);
          break;
        case PutResult::kCorrupt:
          // What the receiver holds for taken nobody knows: nothing is sent twice.
          fifo.board().residue.store(Residue::kForgotten, std::memory_order_release);
          fifo.SealBoth();
          Settle(shadow);
      }
    } else {
      Settle(shadow);
    }
    return AfterTheFifo();
  }
  // Whether the kernel has taken it.
  void Rang(bool taken) {
    if (taken) account.after_kernel = true;
    if (!taken) account.rung = 0;
  }

  // For a reason of ours (an option, another destination, the end of the socket): newer ones go by
  // the kernel, what the FIFO holds is the receiver's, or goes before them if it is in doubt.
  template <typename Shadow>
  void Leave(Shadow& shadow) {
    if (route.load(std::memory_order_relaxed) != DatagramRoute::kFifo) return;
    fifo.SealProducer();
    Settle(shadow);
    shadow.Wake();
  }

  // Answers a seal, whoever has made it. Any number of times; true when the FIFO can be let go.
  template <typename Shadow>
  bool Settle(Shadow& shadow) {
    DatagramRoute now = route.load(std::memory_order_relaxed);
    if (now == DatagramRoute::kKernel) return true;
    if (now == DatagramRoute::kFlushing) return PumpResidue(shadow);
    if (now == DatagramRoute::kFifo) {
      if (!fifo.ProducerSealed() && !fifo.ConsumerSealed()) return false;
      fifo.SealProducer();
      if (fifo.DecideInOrder()) route.store(DatagramRoute::kLeft, std::memory_order_release);
    }
    // Before the decision is looked at: a receiver that asks after all decides, then seals.
    const bool receiver_reads = !fifo.ConsumerSealed();
    if (fifo.board().residue.load(std::memory_order_acquire) == Residue::kWanted) {
      // Perhaps the receiver has not come to its seals yet.
      residue_begin = fifo.SealConsumer();
      residue_end = IndexOf(fifo.fifo.header->producer.load(std::memory_order_acquire));
      if (residue_end - residue_begin > fifo.fifo.capacity_bytes) residue_begin = residue_end;
      route.store(DatagramRoute::kFlushing, std::memory_order_release);
      return PumpResidue(shadow);
    }
    if (route.load(std::memory_order_relaxed) == DatagramRoute::kLeft && receiver_reads) {
      DatagramView view;
      uint64_t at;
      if (fifo.Position(&at) && fifo.LookAt(at, &view) != LookResult::kEnded) return false;
    }
    return Finish();
  }

 private:
  Sending AfterTheFifo() const {
    return route.load(std::memory_order_relaxed) == DatagramRoute::kFlushing ? Sending::kWait
                                                                             : Sending::kByKernel;
  }
  bool Finish() {
    route.store(DatagramRoute::kKernel, std::memory_order_release);
    return true;
  }
  template <typename Shadow>
  bool PumpResidue(Shadow& shadow) {
    DatagramView view;
    // Under another name than it was sent nothing is sent again: lost, as a network loses.
    if (residue_begin != residue_end && !shadow.HasItsName()) residue_begin = residue_end;
    // The receiver may close its socket after all: no old datagram for the port's next owner.
    while (residue_begin != residue_end && fifo.LookAt(residue_begin, &view) == LookResult::kHere &&
           RecordBytes(view.length) <= residue_end - residue_begin && fifo.BeginFlush()) {
      iovec pieces[2];
      const size_t count = fifo.Payload(view, pieces);
      // One that was killed has decided nothing.
      const bool is_there = shadow.IsReceiverThere();
      const ssize_t result = is_there ? SendOne(shadow, pieces, count) : 0;
      const bool is_full = result == -EAGAIN || result == -EWOULDBLOCK;
      if (is_there && !is_full) fifo.Flushed(residue_begin = view.After());
      fifo.EndPut();
      if (!is_there) break;
      if (is_full) return false;
    }
    // After the last of them: the receiver keeps its socket, and with it the port, until then.
    Residue wanted = Residue::kWanted;
    fifo.board().residue.compare_exchange_strong(wanted, Residue::kFlushed,
                                                 std::memory_order_acq_rel);
    Finish();
    shadow.Wake();
    return true;
  }
  // An error that has come in for the socket is told to whoever sends next, and that datagram is
  // not sent. It is the program's, so it waits for the program.
  template <typename Shadow>
  ssize_t SendOne(Shadow& shadow, const iovec* pieces, size_t count) {
    ssize_t result = shadow.SendRecord(pieces, count);
    if (result == -ECONNREFUSED || result == -EHOSTUNREACH || result == -ENETUNREACH) {
      pending_error = static_cast<int>(-result);
      result = shadow.SendRecord(pieces, count);
    }
    return result;
  }
};

}  // namespace xenloop
