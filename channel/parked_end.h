// One end of a parked connection: how a life is claimed, queued, accepted, finished and closed, and
// how all lives end. Knows the pair's FIFOs and no descriptor: who gets kReal or false closes, or
// goes on, by the kernel's connection (channel/PARKING.md tells how).
//
// The end's own memory says which life its program has open; the shared word never makes it believe
// more. A word that does not fit ends the pair. Every call comes with the life that its thread has
// found in the descriptor table, under the end's locks: a thread of a former life is told so.
#pragma once

#include "channel/fifo.h"
#include "channel/life.h"

namespace xenloop {

enum class LifeClose : uint8_t {
  kClosed,  // the other end has not closed yet
  kParked,  // both have
  kReal,    // it has become an ordinary connection, and is closed as one
};
enum class LifeAccept : uint8_t {
  kNothing,
  kLive,
  kDead,  // accepted, and already an ordinary connection: what was sent comes by TCP
};

// `WordPointer`: the simulation's lets others act before each look at the word.
template <typename WordPointer>
class BasicParkedEnd {
 public:
  BasicParkedEnd() = default;
  // `life`: the one that was open when the pair was set up, 0 for none.
  BasicParkedEnd(Role role, WordPointer word, const Fifo& out, const Fifo& in, uint64_t life = 0)
      : word_(word), out_(out), in_(in), life_(life), open_(life != 0), role_(role) {}

  explicit operator bool() const { return static_cast<bool>(word_); }
  LifeWord Word() const { return word_->Load(); }
  bool Open(uint64_t life) const { return open_ && life_ == life; }
  bool Over() const { return over_; }
  uint64_t life() const { return life_; }
  const Fifo& out() const { return out_; }
  const Fifo& in() const { return in_; }

  // ---- client: under both locks ----

  // Takes the pair for a life. False: another is to be taken, or an ordinary connection.
  bool Claim(uint64_t life) {
    if (over_ || open_ || life <= life_) return false;
    LifeWord word = LifeWord::Of(life_, LifeState::kParked);
    if (!word_->Change(word, LifeWord::Of(life, LifeState::kClaimed))) {
      // Its last life has not been closed by the server yet; or somebody has ended it, or lies.
      if (!MayStillPark(word)) End();
      return false;
    }
    life_ = life;
    // From here to Queue nobody else moves an index, but a seal may come: it stays.
    if (ResetIndex(out_.header->producer) && ResetIndex(out_.header->consumer) &&
        ResetIndex(in_.header->producer) && ResetIndex(in_.header->consumer))
      return true;
    End();
    return false;
  }
  // The life begins: connect() has succeeded. `peer_dead`: the server's process is known to have
  // ended (its robust lock), looked at after Claim. False: nobody has seen the life.
  bool Queue(bool peer_dead) {
    LifeWord word = LifeWord::Of(life_, LifeState::kClaimed);
    if (!over_ && !open_ && !peer_dead &&
        word_->Change(word, LifeWord::Of(life_, LifeState::kLive, LifeWord::kWaiting))) {
      open_ = true;
      return true;
    }
    End();
    return false;
  }

  // Takes the life back that Queue has just begun, before the program knows of it and a byte was
  // sent: a thread of the server sleeps where no life would wake it. The pair is as before. False:
  // the server has accepted it, or somebody has ended it; so it has begun.
  bool Withdraw() {
    LifeWord word = LifeWord::Of(life_, LifeState::kLive, LifeWord::kWaiting);
    if (over_ || !open_ || !word_->Change(word, LifeWord::Of(life_, LifeState::kParked)))
      return false;
    open_ = false;
    return true;
  }

  // ---- server: under both locks ----

  LifeAccept Accept() {
    LifeWord word = word_->Load();
    for (int i = 0; i < kMostLifeChanges; ++i) {
      if (!word.Waiting()) return LifeAccept::kNothing;
      if ((over_ && !owed_) || open_ || !MayBeAccepted(word)) break;
      // The client may finish or close meanwhile.
      if (!word_->Change(word, word.Without(LifeWord::kWaiting))) continue;
      life_ = word.Life();
      open_ = true;
      owed_ = false;
      return word.State() == LifeState::kLive && !over_ ? LifeAccept::kLive : LifeAccept::kDead;
    }
    owed_ = false;
    End();
    return LifeAccept::kNothing;
  }

  // ---- both: a life ----

  // Before a send, under the send lock. False: it goes by TCP, after End() and the residue.
  bool MaySend(uint64_t life) const {
    const LifeWord word = word_->Load();
    return Sound(life, word) && word.State() == LifeState::kLive &&
           !word.Has(LifeWord::Closed(Other(role_)));
  }
  bool SendFinished(uint64_t life) const {
    return Open(life) && word_->Load().Has(LifeWord::Finished(role_));
  }
  // After what was sent has been published. False: the other end has closed without it, and TCP has
  // a RST for that.
  bool SentInTime(uint64_t life) const { return MaySend(life); }

  // Nothing will come by the FIFO beyond what has been taken, and the stream ends there.
  bool AtEnd(uint64_t life) const {
    // The word before the index: what was sent before the end is there for who has seen the end.
    const LifeWord word = word_->Load();
    if (!Sound(life, word) || !word.Has(LifeWord::Finished(Other(role_)))) return false;
    return !Unread(in_);
  }

  // shutdown(SHUT_WR), under the send lock. False: it is the kernel's to tell.
  bool Finish(uint64_t life) {
    LifeWord word = word_->Load();
    for (int i = 0; i < kMostLifeChanges; ++i) {
      if (!Sound(life, word) || word.State() != LifeState::kLive) return false;
      if (word_->Change(word, word.With(LifeWord::Finished(role_)))) return true;
    }
    return false;
  }

  // close() by the last holder, under both locks. After kReal the caller owes TCP what a fallback
  // owes; after any result the program's life is over.
  LifeClose Close(uint64_t life) {
    LifeWord word = word_->Load();
    const LifeClose result = TryClose(life, word);
    if (result == LifeClose::kReal) End();
    open_ = false;
    return result;
  }

  // ---- both: the end of all lives ----

  // The word first: a byte of a pair that is not DEAD must not go by TCP. Idempotent.
  void End() {
    const LifeWord word = word_->End();
    // Once only: a peer that queues what has ended is not heard.
    if (!over_) owed_ = role_ == Role::kServer && !open_ && MayBeAccepted(word);
    over_ = true;
    out_.Seal();
    in_.Seal();
  }
  // Before a fork, or when an option is set that cannot be taken back: an open life goes on as the
  // last one.
  void MarkLast() {
    LifeWord word = word_->Load();
    for (int i = 0; i < kMostLifeChanges; ++i) {
      if (word.State() != LifeState::kLive || !open_) break;
      if (word_->Change(word, word.With(LifeWord::kLast))) return;
    }
    End();
  }
  // The idle close: a parked pair that nobody has claimed. False: it is in use.
  bool EndIdle() {
    LifeWord word = LifeWord::Of(life_, LifeState::kParked);
    if (over_ || open_ || !word_->Change(word, word.Dead())) return false;
    End();
    return true;
  }
  // Server, before the kernel closes the listener. True: a life waited to be accepted, and is to be
  // reset. One that is open goes on, and is not parked any more.
  bool EndOfListener() {
    LifeWord word = word_->Load();
    for (int i = 0; i < kMostLifeChanges; ++i) {
      if (!word.Waiting()) {
        MarkLast();
        word = word_->Load();
        if (!word.Waiting() || over_) {
          const bool waited = owed_;  // queued in between
          owed_ = false;
          return waited;
        }
      }
      if (word_->Change(word, word.Without(LifeWord::kWaiting).Dead())) {
        End();
        owed_ = false;
        return true;
      }
    }
    End();
    owed_ = false;
    return false;
  }
  // For the agent: the word is DEAD, or the FIFOs have been sealed, so there is something to do.
  bool Ended() const {
    return over_ || word_->Load().State() == LifeState::kDead || out_.Sealed() || in_.Sealed();
  }
  // The agent's descriptor may go: the residue has been sent, and nobody is still to accept it.
  bool MayLetGo() const { return over_ && !owed_; }

 private:
  bool Sound(uint64_t life, LifeWord word) const {
    return Open(life) && word.Life() == life && word.State() >= LifeState::kLive &&
           !(role_ == Role::kServer && word.Has(LifeWord::kWaiting));
  }
  bool MayStillPark(LifeWord word) const {
    return word.Life() == life_ && word.State() == LifeState::kLive &&
           word.Has(LifeWord::Closed(role_));
  }
  bool MayBeAccepted(LifeWord word) const {
    return word.Waiting() && word.Life() > life_ && word.State() >= LifeState::kLive &&
           !word.Has(LifeWord::Finished(role_) | LifeWord::Closed(role_));
  }
  static bool Unread(const Fifo& fifo) {
    // acquire: pairs with the publication.
    return IndexOf(fifo.header->producer.load(std::memory_order_seq_cst)) !=
           IndexOf(fifo.header->consumer.load(std::memory_order_seq_cst));
  }
  static bool ResetIndex(std::atomic<uint64_t>& index) {
    uint64_t word = index.load(std::memory_order_relaxed);
    for (int i = 0; i < kMostLifeChanges && !IsSealed(word); ++i) {
      // release, by way of seq_cst: before the queue. A store would take a seal away.
      if (index.compare_exchange_strong(word, 0, std::memory_order_seq_cst)) return true;
    }
    return false;
  }

  LifeClose TryClose(uint64_t life, LifeWord word) {
    const uint64_t peer_closed = LifeWord::Closed(Other(role_));
    for (int i = 0; i < kMostLifeChanges; ++i) {
      if (over_ || !Sound(life, word) || word.State() != LifeState::kLive ||
          word.Has(LifeWord::kLast) || out_.Sealed() || in_.Sealed() || Unread(in_))
        return LifeClose::kReal;
      if (word.Has(peer_closed)) {
        // Nobody moves an index any more.
        if (Unread(out_)) return LifeClose::kReal;
        if (word_->Change(word, LifeWord::Of(life, LifeState::kParked))) return LifeClose::kParked;
        continue;
      }
      if (!word_->Change(word, word.With(LifeWord::Finished(role_) | LifeWord::Closed(role_))))
        continue;
      // What was sent before its sender could see this. Of a later life it is not ours to judge.
      return !Unread(in_) || word_->Load().Life() != life ? LifeClose::kClosed : LifeClose::kReal;
    }
    return LifeClose::kReal;
  }

  WordPointer word_{};
  Fifo out_;
  Fifo in_;
  uint64_t life_ = 0;  // the last one that we know of
  bool open_ = false;  // our program has it
  bool over_ = false;  // for good, whatever the word says later
  bool owed_ = false;  // it waited when it ended: one accept still gets it
  Role role_ = Role::kClient;
};
using ParkedEnd = BasicParkedEnd<SharedLifeWord*>;

}  // namespace xenloop
