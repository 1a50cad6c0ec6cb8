// A FIFO of datagrams, from one sending socket to one receiving socket: how a record is published
// whole or not at all, looked at and taken, and how either end is sealed. Decides nothing about
// routes and nothing about several senders (datagram_sender.h, datagram_receiver.h).
//
// The other end is not trusted: a word is loaded once, checked, then used. What it may write into
// its own memory costs its own datagrams.
#pragma once

#include "channel/datagram_record.h"

namespace xenloop {

enum class PutResult : uint8_t {
  kSent,
  kDropped,  // the receiver's queue is full: the kernel would have dropped it, too
  kFull,     // the queue has room, the FIFO has none
  kSealed,   // not sent
  kCorrupt,  // the other end wrote nonsense; not sent
};

// A producer's private account of one FIFO.
struct PutAccount {
  uint64_t charged = 0;       // to be compared with the board's `released`
  uint64_t last_stamp = 0;    // of what it has sent
  uint32_t rung = 0;          // the sleep that has been ended by the kernel; the board's word
  bool after_kernel = false;  // something has gone by the kernel since the last record
};

enum class LookResult : uint8_t {
  kHere,
  kEmpty,
  kEnded,   // empty, and nothing will come: the producer's word is sealed
  kSealed,  // the consumer's word is sealed: what is there is not ours any more
  kCorrupt,
};

struct DatagramView {
  uint64_t at = 0;  // its index in the FIFO
  uint32_t length = 0;
  uint64_t stamp = 0;
  bool after_kernel = false;

  uint64_t After() const { return at + RecordBytes(length); }
};

struct DatagramFifo {
  Fifo fifo;
  bool ipv6 = false;

  explicit operator bool() const { return static_cast<bool>(fifo); }
  DatagramBoard& board() const {
    return *reinterpret_cast<DatagramBoard*>(reinterpret_cast<uint8_t*>(fifo.header) +
                                             kDatagramBoardOffset);
  }
  uint32_t Charge(uint32_t length) const { return DatagramCharge(length, ipv6); }

  // ---- either end ----

  // Nothing more is sent by this FIFO; what is there stays the consumer's to take. Idempotent.
  void SealProducer() const {
    // acq_rel: pairs with the CAS in Put; what was published is there for who sees the seal.
    fifo.header->producer.fetch_or(1, std::memory_order_acq_rel);
  }
  // Nothing more is taken. Returns where the consumer stood.
  uint64_t SealConsumer() const {
    return IndexOf(fifo.header->consumer.fetch_or(1, std::memory_order_acq_rel));
  }
  void SealBoth() const {
    SealConsumer();
    SealProducer();
  }
  // True: it has been undecided, or was decided so.
  bool Decide(Residue residue) const {
    Residue before = Residue::kUndecided;
    // acq_rel: before the seals of who decides first, so that whoever finds a seal finds this.
    return board().residue.compare_exchange_strong(before, residue, std::memory_order_acq_rel) ||
           before == residue;
  }
  // A record is there before which the kernel has to be read dry: while it is not, nobody can tell
  // what the kernel brings before it and behind it, so it cannot be left where it is.
  bool InDoubt() const {
    const uint64_t doubtful = board().doubtful.load(std::memory_order_acquire);
    return doubtful > board().drained.load(std::memory_order_acquire) &&
           doubtful > IndexOf(fifo.header->consumer.load(std::memory_order_acquire));
  }
  // Of one that was sealed while its sender lives. True: what it holds is left where it is.
  bool DecideInOrder() const {
    return !(InDoubt() && Decide(Residue::kWanted)) && Decide(Residue::kLeft);
  }
  // The receiving socket is gone when this returns, or its sender has been stopped for long.
  void DecideForgotten() const {
    // seq_cst: Dekker with BeginFlush.
    if (board().residue.exchange(Residue::kForgotten, std::memory_order_seq_cst) ==
        Residue::kWanted)
      AwaitProducer();
    SealBoth();
  }
  bool ProducerSealed() const {
    return IsSealed(fifo.header->producer.load(std::memory_order_acquire));
  }
  bool ConsumerSealed() const {
    return IsSealed(fifo.header->consumer.load(std::memory_order_acquire));
  }

  // ---- sleep: a sender must not leave a record to one who does not look any more ----

  // Producer. kPut: Put, then EndPut. kRing: somebody sleeps who is to be woken by the kernel.
  // kLeave: likewise, but what the kernel brings would be read before what the FIFO holds.
  enum class Begun : uint8_t { kPut, kRing, kLeave };
  Begun BeginPut(PutAccount& account) const {
    // seq_cst, both: Dekker with GoToSleep.
    board().putting.store(1, std::memory_order_seq_cst);
    const uint32_t asleep = board().asleep.load(std::memory_order_seq_cst);
    const uint32_t sleepers = asleep & kSleepers;
    if (sleepers == kNobodyAsleep || (sleepers == kOneAsleep && asleep == account.rung))
      return Begun::kPut;
    const bool empty = IsEmpty();
    // Who has not slept yet finds what is there.
    if (!empty && (asleep & kForEdges) == 0) return Begun::kPut;
    account.rung = asleep;
    EndPut();
    return empty ? Begun::kRing : Begun::kLeave;
  }
  void EndPut() const { board().putting.store(0, std::memory_order_release); }
  bool IsEmpty() const {
    return IndexOf(fifo.header->producer.load(std::memory_order_relaxed)) ==
           IndexOf(fifo.header->consumer.load(std::memory_order_acquire));
  }
  // Consumer, before its last look at the FIFO. A producer that is stopped in the middle finds its
  // FIFO sealed, and goes on by the kernel.
  void GoToSleep(uint32_t asleep) const {
    board().asleep.store(asleep, std::memory_order_seq_cst);
    // (Where it is sealed nothing is published any more, though it may be flushed.)
    if ((asleep & kSleepers) != kNobodyAsleep && !ProducerSealed() && !AwaitProducer())
      SealProducer();
  }
  bool AwaitProducer() const {
    constexpr int kTurns = 1000;
    for (int i = 0; i < kTurns; ++i) {
      if (board().putting.load(std::memory_order_seq_cst) == 0) return true;
      if (i < 100) {
        sys::Pause();
      } else {
        sys::Yield();
      }
    }
    return false;
  }
  // Consumer, of what a dead or stopped producer was to send by the kernel: from where on it has
  // not done so, and will not. What it may be sending at this moment is its own.
  bool Reclaim(uint64_t* at) const {
    // seq_cst: Dekker with BeginFlush.
    Residue wanted = Residue::kWanted;
    if (!board().residue.compare_exchange_strong(wanted, Residue::kLeft, std::memory_order_seq_cst))
      return false;
    const bool between_two = AwaitProducer();
    *at = IndexOf(fifo.header->consumer.load(std::memory_order_acquire));
    DatagramView view;
    if (!between_two && LookAt(*at, &view) == LookResult::kHere) *at = view.After();
    return true;
  }
  // Producer: what comes before `at` has been sent by the kernel (Reclaim). Before EndPut.
  void Flushed(uint64_t at) const {
    fifo.header->consumer.store(at << 1 | 1, std::memory_order_release);
  }
  // Producer, before each record that it sends by the kernel; then EndPut. False: it is not to.
  bool BeginFlush() const {
    board().putting.store(1, std::memory_order_seq_cst);
    if (board().residue.load(std::memory_order_seq_cst) == Residue::kWanted) return true;
    EndPut();
    return false;
  }

  // ---- producer (one at a time: under the send lock) ----

  PutResult Put(IovCursor source, uint64_t stamp, PutAccount& account) const {
    if (source.remaining() > kMostDatagramBytes) return PutResult::kFull;
    const auto length = static_cast<uint32_t>(source.remaining());
    // relaxed: only we move it; a seal by others is found by the CAS.
    uint64_t word = fifo.header->producer.load(std::memory_order_relaxed);
    // acquire: pairs with the CAS in Take; its reads are done before we overwrite.
    const uint64_t consumer = fifo.header->consumer.load(std::memory_order_acquire);
    if (IsSealed(word) || IsSealed(consumer)) return PutResult::kSealed;
    const uint64_t p = IndexOf(word);
    const uint64_t in_flight = p - IndexOf(consumer);
    if (in_flight > fifo.capacity_bytes || in_flight % kRecordAlignment != 0)
      return PutResult::kCorrupt;

    // After the consumer's index: what it has passed is released by then.
    const uint64_t released = board().released.load(std::memory_order_acquire);
    const uint32_t charge = Charge(length);
    if (in_flight == 0) account.charged = released;
    const uint64_t queued = IsLater(released, account.charged) ? 0 : account.charged - released;
    if (!FitsQueue(queued, charge, board().limit_bytes.load(std::memory_order_relaxed)))
      return PutResult::kDropped;
    if (RecordBytes(length) > fifo.capacity_bytes - in_flight) return PutResult::kFull;

    if (!IsLater(stamp, account.last_stamp)) stamp = account.last_stamp + 1;
    const DatagramRecord record{length, account.after_kernel ? kAfterKernel : 0, stamp};
    memcpy(fifo.data + (p & (fifo.capacity_bytes - 1)), &record, sizeof record);
    const uint64_t offset = (p + sizeof record) & (fifo.capacity_bytes - 1);
    const size_t first =
        length < fifo.capacity_bytes - offset ? length : fifo.capacity_bytes - offset;
    source.CopyOut(fifo.data + offset, first);
    if (length > first) source.CopyOut(fifo.data, length - first);
    if (account.after_kernel) board().doubtful.store(p + 1, std::memory_order_release);
    // seq_cst: the record before the index, and the index before our look at consumer_waiting
    // (Dekker with ArmFutex).
    if (!fifo.header->producer.compare_exchange_strong(word, (p + RecordBytes(length)) << 1,
                                                       std::memory_order_seq_cst))
      return PutResult::kSealed;
    account.charged += charge;
    account.last_stamp = stamp;
    account.after_kernel = false;
    return PutResult::kSent;
  }

  // ---- consumer (one at a time: under the receive lock) ----

  // Where the next datagram to be taken begins; sealed: false.
  bool Position(uint64_t* at) const {
    const uint64_t word = fifo.header->consumer.load(std::memory_order_acquire);
    *at = IndexOf(word);
    return !IsSealed(word);
  }
  // The record at an index between the consumer's and the producer's.
  LookResult LookAt(uint64_t at, DatagramView* view) const {
    // acquire: pairs with the CAS in Put.
    const uint64_t producer = fifo.header->producer.load(std::memory_order_acquire);
    const uint64_t available = IndexOf(producer) - at;
    if (available == 0) return IsSealed(producer) ? LookResult::kEnded : LookResult::kEmpty;
    if (available > fifo.capacity_bytes || available % kRecordAlignment != 0 ||
        at % kRecordAlignment != 0)
      return LookResult::kCorrupt;
    const auto* const words =
        reinterpret_cast<const volatile uint64_t*>(fifo.data + (at & (fifo.capacity_bytes - 1)));
    const uint64_t copy[2] = {words[0], words[1]};
    DatagramRecord record;
    memcpy(&record, copy, sizeof record);
    if (record.length > kMostDatagramBytes || (record.flags & ~kAfterKernel) != 0 ||
        RecordBytes(record.length) > available)
      return LookResult::kCorrupt;
    *view = DatagramView{at, record.length, record.stamp, record.flags != 0};
    return LookResult::kHere;
  }
  // The payload of a record that LookAt has found, in two pieces at the most; returns how many.
  size_t Payload(const DatagramView& view, iovec (&pieces)[2]) const {
    const uint64_t offset = (view.at + sizeof(DatagramRecord)) & (fifo.capacity_bytes - 1);
    const size_t first =
        view.length < fifo.capacity_bytes - offset ? view.length : fifo.capacity_bytes - offset;
    pieces[0] = {fifo.data + offset, first};
    pieces[1] = {fifo.data, view.length - first};
    return view.length > first ? 2 : 1;
  }
  // Copies as much of the record at the consumer's index as there is room for (null: nothing) and,
  // unless it is a peek, passes it. kHere, kSealed or kCorrupt: then what was copied is not to be
  // believed. `released` is the caller's copy of the board's word.
  LookResult Take(const DatagramView& view, IovCursor* destination, bool peek,
                  uint64_t& released) const {
    CopyOut(view, destination);
    uint64_t word = view.at << 1;
    const uint64_t next = peek ? word : view.After() << 1;
    // Before the index: a producer that sees the new index must see this, too.
    if (!peek) board().released.store(released + Charge(view.length), std::memory_order_release);
    // seq_cst: our reads are done before the producer may overwrite; fails if sealed.
    if (!fifo.header->consumer.compare_exchange_strong(word, next, std::memory_order_seq_cst))
      return IsSealed(word) ? LookResult::kSealed : LookResult::kCorrupt;
    if (!peek) released += Charge(view.length);
    return LookResult::kHere;
  }
  void CopyOut(const DatagramView& view, IovCursor* destination) const {
    if (destination == nullptr) return;
    iovec pieces[2];
    const size_t count = Payload(view, pieces);
    for (size_t i = 0; i < count; ++i) {
      const size_t n = pieces[i].iov_len < destination->remaining() ? pieces[i].iov_len
                                                                    : destination->remaining();
      destination->CopyIn(static_cast<const uint8_t*>(pieces[i].iov_base), n);
    }
  }
};

}  // namespace xenloop
