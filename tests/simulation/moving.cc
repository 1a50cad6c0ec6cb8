// See world.h: a guest that moves away from its peer, announced or not, as preload/'s agents and
// xenloopd see it. Announced: both agents let go, each in its time; what TCP does not take at once
// they keep privately; only then the guest freezes, and memory is cut off. Unannounced: the guest
// goes on with a copy of its own FIFO, while the peer still reads the old one until it lets go; the
// peer's FIFO is out of the guest's reach at once. Cut off is what a PVH guest sees: all ones.
#include "tests/simulation/world.h"

namespace xenloop::simulation {

SharedFifo FifoMemory::Copy() const {
  auto copy = std::make_shared<FifoMemory>(fifo.capacity_bytes);
  memcpy(copy->memory, memory, FifoMemoryBytes(fifo.capacity_bytes));
  return copy;
}
void FifoMemory::CutOff() { memset(memory, 0xff, FifoMemoryBytes(fifo.capacity_bytes)); }

bool World::HasLetGo(int e) const {
  const End& end = ends_[static_cast<size_t>(e)];
  return !end.attached || end.kept || end.crashed;
}

// The losses that nobody notices: a connection is passed on before all has come that the peer's
// FIFO owes, and then the peer is killed (D-9 of preload/README.md); or a peer is killed with bytes
// in its FIFO, and their reader has moved away from them, unannounced, or the peer has, and was
// killed before its agent knew. The FIN looks like any other.
bool World::MayMissBytes(int e) const {
  if (ends_[static_cast<size_t>(1 - e)].crashed && ends_[static_cast<size_t>(e)].passed_early)
    return true;
  return reset_ ||
         (ends_[static_cast<size_t>(1 - e)].crashed && (ends_[0].cut_off || ends_[1].cut_off));
}

void World::AbandonOffer() {
  if (offer_.stage == offer_.kJoined) {
    offer_.offered->fifo.Seal();
    offer_.joined->fifo.Seal();
  }
  offer_.stage = offer_.kNone;
  offer_.offered = offer_.joined = nullptr;
}

// As LeavePeer does it.
void World::LetGo(int e) {
  End& end = At(e);
  if (HasLetGo(e) || end.send_lock_held || end.receive_lock_held) return;
  Record("lets go", e);
  end.leaving = true;
  if (mutant_ == Mutant::kKeepUnsealed && end.Alive()) KeepOwed(e);
  FallBack(e);
  end.mine->fifo.Seal();
  end.theirs->fifo.Seal();
  Service(e);
}

// As KeepOwed of preload/agent/agent_service.cc.
void World::KeepOwed(int e) {
  End& end = At(e);
  Record("keeps what is owed", e);
  ++coverage_->kept;
  end.kept = true;
  PointTo(e, end.mine->Copy(), end.theirs->Copy());
}

void World::PointTo(int e, SharedFifo mine, SharedFifo theirs) {
  End& end = At(e);
  end.reader = end.writer = Sleeper{};  // the new memory lies where they sleep, and they are woken
  end.mine = std::move(mine);
  end.theirs = std::move(theirs);
  if (end.send.fifo) {
    end.send.fifo.header = end.mine->fifo.header;
    end.send.fifo.data = end.mine->fifo.data;
  }
  if (end.receive.fifo) {
    end.receive.fifo.header = end.theirs->fifo.header;
    end.receive.fifo.data = end.theirs->fifo.data;
  }
  if (end.send.witness)
    end.send.witness = end.theirs->fifo;  // a private copy lies at the same address
}

void World::MoveOn(int e) {
  switch (moving_) {
    case Moving::kNo:
      if (IsPassing()) return;
      if (random_.OneIn(2)) return Vanish(e);
      Record("is about to move", e);
      moving_ = Moving::kPreparing;
      return;
    case Moving::kPreparing:
      AbandonOffer();
      if (mutant_ != Mutant::kReadyTooEarly || random_.OneIn(2)) LetGo(e);
      if ((HasLetGo(0) && HasLetGo(1)) || mutant_ == Mutant::kReadyTooEarly) {
        Record("freezes, ready", e);
        ++coverage_->planned_moves;
        CutOffBoth();
        moving_ = Moving::kAway;
      }
      return;
    case Moving::kFrozen:
      return Resume();
    case Moving::kAway:
      if (HasLetGo(0) && HasLetGo(1)) {
        if (random_.OneIn(4)) moving_ = Moving::kNo;  // arrived beside each other
      } else {
        LetGo(e);  // the peer of a guest that has vanished, once it is told
      }
      return;
  }
}

// Whatever is shared is gone. A sound end holds nothing of it any more.
void World::CutOffBoth() {
  for (End& end : ends_) {
    if (!end.attached || end.kept) continue;
    end.mine->CutOff();
    end.theirs->CutOff();
  }
}

// Frozen without a word. The peer may be in the middle of anything.
void World::Vanish(int e) {
  End& end = At(e);
  if (!end.Alive() || !end.attached || end.kept || end.send_lock_held || end.receive_lock_held)
    return;
  AbandonOffer();
  if (!end.attached) return;
  Record("vanishes", e);
  moving_ = Moving::kFrozen;
  end.cut_off = true;
  frozen_ = e;
  auto unreachable = std::make_shared<FifoMemory>(end.theirs->fifo.capacity_bytes);
  unreachable->CutOff();
  PointTo(e, end.mine->Copy(), unreachable);
  if (mutant_ != Mutant::kTrustOldIndex) end.send.witness = unreachable->fifo;
}

// Elsewhere. Its programs may act before its agent does. What it has published it still has, but it
// knows how far the peer has read only if that was all: the library's own rule, see BeginFlush.
void World::Resume() {
  Record("resumes elsewhere", frozen_);
  frozen_ = -1;
  moving_ = Moving::kAway;
  ++coverage_->unplanned_moves;
}

// As preload/agent/agent_position.cc at both ends. No answer: nobody holds the other end any more,
// or the network is not back in time.
void World::AskPosition(int e) {
  End& end = At(e);
  End& peer = At(1 - e);
  if (end.send.route.load() != SendRoute::kAsking || end.send_lock_held || frozen_ == e ||
      (!quiet_ && !random_.OneIn(3)))
    return;
  VectorShadow shadow(*this, e);
  const uint64_t identity = end.mine->fifo.header->identity;
  if (peer.attached && peer.theirs->fifo.header->identity == identity &&
      mutant_ != Mutant::kAnswerUnsealed)
    FallBack(1 - e);
  const bool was_quiet = quiet_;
  quiet_ = true;
  end.send_lock_held = true;
  {
    LockScope scope(end.send.lock, 400 + static_cast<uint32_t>(e));
    if (peer.Alive() && mutant_ == Mutant::kAnswerUnsealed && peer.attached) {
      end.send.Settle(shadow, IndexOf(peer.theirs->fifo.header->consumer.load()));
    } else if (peer.Alive() && !peer.receive_lock_held && !random_.OneIn(8) &&
               peer.receive.last_identity == identity &&
               peer.receive.route.load() == ReceiveRoute::kTcp) {
      Record("is told how far the peer has read", e,
             static_cast<int64_t>(peer.receive.last_consumed));
      ++coverage_->moves_settled;
      end.send.Settle(shadow, peer.receive.last_consumed);
    } else if (was_quiet || !peer.Alive() || random_.OneIn(8)) {
      end.send.GiveUp(shadow);
    }
  }
  end.send_lock_held = false;
  quiet_ = was_quiet;
}

}  // namespace xenloop::simulation
