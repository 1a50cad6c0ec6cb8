// The FIFOs of several senders as the one queue that the kernel would have: in which order their
// datagrams come, and which find it full. Plain data of the receiving socket, under its receive
// lock; routes are datagram_receiver.h's matter.
//
// Nothing runs at the receiver when a datagram is sent. But between two receives nothing leaves the
// queue, so it is enough to look before each: what has come since the last look is admitted in the
// order of the stamps, and what finds the queue full then would have found it full in the kernel.
// It is passed over where it lies, when its turn comes.
#pragma once

#include <errno.h>
#include <sys/types.h>

#include "channel/base/each_bit.h"
#include "channel/datagram_slot.h"

namespace xenloop {

class DatagramQueue {
 public:
  static constexpr int kMostSlots = 16;
  static constexpr ssize_t kAgain = -ERESTART;  // the slot has ended: look for another

  // A joined FIFO; its slot, or -1 if there is none. It waits until the kernel has been read dry.
  int Attach(const DatagramFifo& fifo) {
    for (int i = 0; i < kMostSlots; ++i) {
      Slot& slot = slots_[i];
      if (slot.state != State::kNone) continue;
      slot = Slot{};
      slot.fifo = fifo;
      slot.released = fifo.board().released.load(std::memory_order_relaxed);
      if (!fifo.Position(&slot.taken)) return -1;
      slot.admitted = slot.taken;
      fifo.board().limit_bytes.store(limit_bytes_, std::memory_order_relaxed);
      fifo.board().asleep.store(asleep_, std::memory_order_seq_cst);
      in_use_ |= 1u << i;
      slot.state = State::kFresh;
      return i;
    }
    return -1;
  }
  // At the join, nothing is in the kernel's queue: what its sender has sent before has been read.
  // (What it sends by the kernel until it hears of the join, its first record tells of.)
  void StartAtOnce(int i) {
    slots_[i].state = State::kStarted;
    slots_[i].fifo.board().started.store(1, std::memory_order_release);
  }
  void Detach(int i) {
    Forget(i);
    slots_[i].state = State::kNone;
    in_use_ &= ~(1u << i);
  }
  // The receiver's SO_RCVBUF.
  void SetLimit(uint32_t bytes) {
    limit_bytes_ = bytes;
    ForEach([bytes](Slot& slot) {
      slot.fifo.board().limit_bytes.store(bytes, std::memory_order_relaxed);
    });
  }

  // So many threads sleep at the socket, or are about to: all senders are told. Then comes the last
  // look.
  void Sleepers(int count, bool for_edges = false) {
    const uint32_t how = count <= 0 ? kNobodyAsleep : count == 1 ? kOneAsleep : kSeveralAsleep;
    asleep_ = ((asleep_ & ~(kOneSleep - 1)) + kOneSleep) | how | (for_edges ? kForEdges : 0);
    ForEach([this](Slot& slot) { slot.fifo.GoToSleep(asleep_); });
  }

  // ---- ways out; each slot is to be detached when HasEnded says so ----

  // The socket lives on and is read by the kernel only: whoever has sent sends it again. It must
  // not be closed before all slots have ended. A sender that has gone on by the kernel already
  // would send what it has left behind what is newer: that is taken from its FIFO as before, unless
  // nobody is there to do so (`whatever_order`). True: nothing is left to be taken.
  bool Return(bool whatever_order) {
    for (const int i : EachBit{in_use_}) {
      const Slot& slot = slots_[i];
      if (slot.state == State::kNone || slot.state == State::kSealed) continue;
      if (!slot.fifo.Decide(Residue::kWanted)) {
        if (!whatever_order) continue;
        if (slot.reclaimed) {  // its sender may have sent some of it already
          slot.fifo.DecideForgotten();
          Forget(i);
          continue;
        }
        slot.fifo.board().residue.store(Residue::kWanted, std::memory_order_release);
      }
      slot.fifo.SealBoth();
      Forget(i);
      slots_[i].returned = true;
    }
    return !Any();
  }
  // The socket is closed.
  void Close() {
    for (const int i : EachBit{in_use_}) {
      if (slots_[i].state == State::kNone) continue;
      slots_[i].fifo.DecideForgotten();
      Forget(i);
    }
  }
  // The sender is dead: what has been sent stays to be read.
  void End(int i) {
    slots_[i].fifo.Decide(Residue::kLeft);
    slots_[i].fifo.SealProducer();
  }
  // The sender lives, and goes on by the kernel: what has been sent stays to be read, as the kernel
  // keeps what has come before a connect; what is in doubt is asked back (IsOwed).
  void EndInOrder(int i) {
    const Slot& slot = slots_[i];
    if (slot.state == State::kNone || slot.state == State::kSealed) return;
    slot.fifo.SealProducer();
    if (slot.fifo.DecideInOrder()) return;
    slot.fifo.SealConsumer();
    Forget(i);
  }
  // What the sender was to send by the kernel does not come, since it is dead or stopped: it is
  // taken from the FIFO after all, behind what the kernel has.
  void Reclaim(int i) {
    Slot& slot = slots_[i];
    if (slot.state == State::kNone || slot.returned || slot.reclaimed || !slot.IsTakenBack())
      return;
    uint64_t at = 0;
    if (!slot.fifo.Reclaim(&at)) return;
    Forget(i);
    slot.fifo.SealProducer();
    slot.taken = slot.admitted = at;
    slot.any_stamp = false;
    slot.reclaimed = true;
    Drain(slot);
  }
  void ReclaimAll() {
    for (const int i : EachBit{in_use_}) Reclaim(i);
  }
  // Something that was sent by a FIFO is on its way into the kernel's queue.
  bool IsOwed() const {
    for (const int i : EachBit{in_use_}) {
      if (slots_[i].IsTakenBack() &&
          slots_[i].fifo.board().residue.load(std::memory_order_acquire) == Residue::kWanted)
        return true;
    }
    return false;
  }

  bool HasEnded(int i) const {
    const Slot& slot = slots_[i];
    DatagramView view;
    if (slot.state == State::kNone) return true;
    if (slot.IsTakenBack())
      return slot.fifo.board().residue.load(std::memory_order_acquire) != Residue::kWanted;
    return slot.fifo.LookAt(slot.taken, &view) == LookResult::kEnded;
  }

  // ---- before a receive ----

  void Admit() {
    for (const int i : EachBit{in_use_}) {
      Slot& slot = slots_[i];
      if (slot.state != State::kSealed && slot.IsTakenBack()) Forget(i);
      if (slot.state != State::kFresh) continue;
      DatagramView view;
      const LookResult look = slot.fifo.LookAt(slot.taken, &view);
      if (look == LookResult::kEmpty || look == LookResult::kEnded) continue;
      Drain(slot);
    }
    uint32_t known = 0;
    DatagramView heads[kMostSlots];
    while (order_end_ - order_begin_ < kMostAdmitted) {
      const int next = Earliest(&known, heads);
      // What stands behind a drain may have been sent before. (But what is left does not wait for
      // it: its sender's newer ones may be in the kernel.)
      if (next < 0 || (Draining() != 0 && !AnyLeft())) return;
      known &= ~(1u << next);
      AdmitOne(next, heads[next]);
    }
  }

  // Slots that have records and wait for the kernel to be read dry.
  uint32_t Draining() const {
    uint32_t mask = 0;
    for (const int i : EachBit{in_use_}) {
      if (slots_[i].state == State::kDraining) mask |= 1u << i;
    }
    return mask;
  }
  void KernelIsDry(uint32_t draining) {
    for (const int i : EachBit{draining}) {
      if (slots_[i].state == State::kDraining) Start(slots_[i]);
    }
    Admit();
  }
  // What strangers send all the time must not keep a sender waiting: after as many as the kernel's
  // queue can hold, its own have been among them.
  void KernelGave(uint32_t draining) {
    for (const int i : EachBit{draining}) {
      Slot& slot = slots_[i];
      if (slot.state == State::kDraining && --slot.to_drain == 0) Start(slot);
    }
  }

  // ---- what is there ----

  bool AnyAdmitted() const { return order_begin_ != order_end_; }
  // Anything at all: the program may be told that it can read. The first that is not admitted yet
  // will be, since then nothing else is there.
  bool Any() const {
    return AnySlot([](const Slot&) { return true; });
  }
  // Something that a sender has left in its FIFO: whatever it sends now goes by the kernel, and is
  // newer.
  bool AnyLeft() const {
    return AnySlot([](const Slot& slot) {
      return slot.state == State::kStarted && slot.fifo.ProducerSealed();
    });
  }
  uint64_t dropped() const { return dropped_; }

  // ---- taking ----

  // The first of those admitted (there is one): its length, or kAgain.
  ssize_t TakeFirst(IovCursor* destination, bool peek, int* from) {
    const Entry entry = order_[order_begin_ % kMostAdmitted];
    const int i = entry.slot;
    Slot& slot = slots_[i];
    DatagramView view;
    if (!StillThere(entry, &view)) return GiveUp(i);
    IovCursor attempt = destination != nullptr ? *destination : IovCursor(nullptr, 0);
    if (slot.TakeOut(view, destination != nullptr ? &attempt : nullptr, peek) != LookResult::kHere)
      return GiveUp(i);
    if (destination != nullptr) *destination = attempt;
    *from = i;
    if (!peek) {
      slot.taken = view.After();
      Uncharge(slot, slot.fifo.Charge(view.length));
      ++order_begin_;
      PassDropped();
    }
    return static_cast<ssize_t>(view.length);
  }

  // The stamps and lengths in the FIFOs are all that is left to go by.
  void Recover() {
    order_begin_ = order_end_ = 0;
    queued_bytes_ = 0;
    ForEach([](Slot& slot) {
      slot.queued_bytes = 0;
      slot.any_stamp = false;
      slot.released = slot.fifo.board().released.load(std::memory_order_relaxed);
      if (slot.state != State::kSealed && !slot.reclaimed) slot.fifo.Position(&slot.taken);
      slot.admitted = slot.taken;
    });
  }

 private:
  using Slot = DatagramSlot;
  using State = DatagramSlot::State;
  // More than the kernel's queue holds unless SO_RCVBUF is raised; what is behind waits in its
  // FIFO.
  static constexpr uint32_t kMostAdmitted = 1024;
  enum class Fate : uint8_t { kDeliver, kDrop, kNobodys };
  struct Entry {
    uint8_t slot;
    Fate fate;
    uint16_t length;
  };

  template <typename Visit>
  void ForEach(Visit visit) {
    for (const int i : EachBit{in_use_}) {
      if (slots_[i].state != State::kNone) visit(slots_[i]);
    }
  }
  template <typename Predicate>
  bool AnySlot(Predicate counts) const {
    for (const int i : EachBit{in_use_}) {
      const Slot& slot = slots_[i];
      DatagramView view;
      if (slot.state == State::kNone || slot.IsTakenBack() || !counts(slot)) continue;
      if (slot.fifo.LookAt(slot.taken, &view) == LookResult::kHere) return true;
    }
    return false;
  }
  void Drain(Slot& slot) const {
    slot.state = State::kDraining;
    slot.to_drain = limit_bytes_ / DatagramCharge(0, false) + 2;
  }
  static void Start(Slot& slot) {
    slot.state = State::kStarted;
    slot.drained_at = slot.admitted;
    slot.fifo.board().drained.store(slot.admitted + 1, std::memory_order_release);
    slot.fifo.board().started.store(1, std::memory_order_release);
  }
  // A record that has been admitted must still be what it was.
  bool StillThere(const Entry& entry, DatagramView* view) const {
    const Slot& slot = slots_[entry.slot];
    return slot.fifo.LookAt(slot.taken, view) == LookResult::kHere && view->length == entry.length;
  }

  // The slot whose first record not admitted has the earliest stamp; -1: there is none. A slot
  // that was empty is looked at again after the others' records have been seen: what was sent
  // before any of these is there by then.
  int Earliest(uint32_t* known, DatagramView* heads) {
    bool found;
    do {
      found = false;
      for (const int i : EachBit{in_use_}) {
        Slot& slot = slots_[i];
        if (slot.state != State::kStarted || (*known & 1u << i) != 0) continue;
        const LookResult look = slot.fifo.LookAt(slot.admitted, &heads[i]);
        if (look == LookResult::kHere && heads[i].after_kernel &&
            slot.drained_at != slot.admitted) {
          Drain(slot);
        } else if (look == LookResult::kHere && RunsOn(slot, heads[i].stamp)) {
          *known |= 1u << i;
          found = true;
        } else if (look == LookResult::kHere || look == LookResult::kCorrupt) {
          GiveUp(i);
        }
      }
    } while (found);
    int best = -1;
    for (const int i : EachBit{*known}) {
      if (best < 0 || IsLater(heads[best].stamp, heads[i].stamp)) best = i;
    }
    return best;
  }
  static bool RunsOn(const Slot& slot, uint64_t stamp) {
    return !slot.any_stamp || IsLater(stamp, slot.last_stamp);
  }
  void AdmitOne(int i, const DatagramView& view) {
    Slot& slot = slots_[i];
    slot.last_stamp = view.stamp;
    slot.any_stamp = true;
    slot.admitted = view.After();
    const uint32_t charge = slot.fifo.Charge(view.length);
    const bool fits = FitsQueue(queued_bytes_, charge, limit_bytes_);
    if (fits) {
      queued_bytes_ += charge;
      slot.queued_bytes += charge;
    } else {
      ++dropped_;
    }
    order_[order_end_++ % kMostAdmitted] =
        Entry{static_cast<uint8_t>(i), fits ? Fate::kDeliver : Fate::kDrop,
              static_cast<uint16_t>(view.length)};
  }
  void Uncharge(Slot& slot, uint64_t bytes) {
    slot.queued_bytes -= bytes;
    queued_bytes_ -= bytes;
  }
  // So that what stands first is always something to read.
  void PassDropped() {
    for (; order_begin_ != order_end_; ++order_begin_) {
      const Entry entry = order_[order_begin_ % kMostAdmitted];
      if (entry.fate == Fate::kDeliver) return;
      if (entry.fate == Fate::kNobodys) continue;
      Slot& slot = slots_[entry.slot];
      DatagramView view;
      if (!StillThere(entry, &view) ||
          slot.TakeOut(view, nullptr, /*peek=*/false) != LookResult::kHere) {
        GiveUp(entry.slot);  // comes back here
        return;
      }
      slot.taken = view.After();
    }
  }
  // A sender that has broken the rules, or whose FIFO has been sealed under our hands.
  ssize_t GiveUp(int i) {
    if (!slots_[i].fifo.ConsumerSealed()) slots_[i].fifo.DecideForgotten();
    Forget(i);
    return kAgain;
  }
  // Nothing of it is to be delivered any more.
  void Forget(int i) {
    slots_[i].state = State::kSealed;
    slots_[i].reclaimed = false;
    Uncharge(slots_[i], slots_[i].queued_bytes);
    for (uint32_t at = order_begin_; at != order_end_; ++at) {
      Entry& entry = order_[at % kMostAdmitted];
      if (entry.fate != Fate::kNobodys && entry.slot == i) entry.fate = Fate::kNobodys;
    }
    PassDropped();
  }

  Slot slots_[kMostSlots];
  uint32_t in_use_ = 0;  // those that are not kNone
  Entry order_[kMostAdmitted] = {};
  uint32_t order_begin_ = 0;
  uint32_t order_end_ = 0;
  uint64_t queued_bytes_ = 0;
  uint64_t dropped_ = 0;
  uint32_t limit_bytes_ = 212992;
  uint32_t asleep_ = 0;
};

}  // namespace xenloop
