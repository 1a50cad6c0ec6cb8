// See world.h: what the agents of both ends do: offer, join, serve, let go. Mirrors
// preload/agent/agent_stream.cc.
#include "tests/simulation/world.h"

namespace xenloop::simulation {
namespace {

uint32_t AgentTid(int e) { return static_cast<uint32_t>(200 + e); }

}  // namespace

bool World::Established() const {
  return !reset_ && !pipes_[0].finished() && !pipes_[1].finished();
}
bool World::MayAttach(const End& end) const {
  return end.Alive() && end.passing == Passing::kNo && !end.attached && !end.send_lock_held &&
         !end.receive_lock_held && end.send.route.load() == SendRoute::kTcp &&
         end.receive.route.load() == ReceiveRoute::kTcp;
}

void World::Attach(int e, SharedFifo mine, SharedFifo theirs) {
  End& end = At(e);
  end.mine = std::move(mine);
  end.theirs = std::move(theirs);
  end.attached = true;
  end.cut_off = false;
  end.seen_edge = 0;
  LockScope send(end.send.lock, AgentTid(e));
  LockScope receive(end.receive.lock, AgentTid(e));
  end.receive.BecomeAware(end.theirs->fifo);
  end.send.Offer(end.mine->fifo);
  Record("attached, capacity", e, static_cast<int64_t>(end.send.fifo.capacity_bytes));
}

void World::Offer(int e) {
  if (moving_ != Moving::kNo) return;
  if (offer_.stage != offer_.kNone || At(e).attached || !At(e).Alive() || IsPassing() ||
      !Established())
    return;
  const uint64_t capacity = random_.OneIn(50) ? 65536 : uint64_t{64} << random_.Below(5);
  offer_.stage = offer_.kOffered;
  offer_.from = e;
  offer_.offered = std::make_shared<FifoMemory>(capacity);
}

void World::Join(int e) {
  if (offer_.stage != offer_.kOffered) return;
  if (!MayAttach(At(e)) || !Established() || moving_ != Moving::kNo) {
    offer_.stage = offer_.kNone;  // refused
    return;
  }
  offer_.joined = std::make_shared<FifoMemory>(uint64_t{64} << random_.Below(5));
  offer_.stage = offer_.kJoined;
  Attach(e, offer_.joined, offer_.offered);
}

// The JOIN reaches the end that made the offer.
void World::Complete() {
  const int e = offer_.from;
  if (offer_.stage != offer_.kJoined || At(e).send_lock_held || At(e).receive_lock_held) return;
  offer_.stage = offer_.kNone;
  if (MayAttach(At(e))) {
    Attach(e, offer_.offered, offer_.joined);
  } else if (At(e).crashed) {
    if (At(1 - e).attached && !At(1 - e).send_lock_held)
      At(1 - e).mine->fifo.Seal();  // its channel has gone
  } else {
    offer_.offered->fifo.Seal();
    offer_.joined->fifo.Seal();
  }
  offer_.offered = offer_.joined = nullptr;
}

void World::Service(int e) {
  End& end = At(e);
  if (!end.attached || end.crashed || end.send_lock_held || end.receive_lock_held) return;
  VectorShadow shadow(*this, e);
  bool send_done = false;
  bool receive_done = false;
  end.send_lock_held = true;
  {
    LockScope scope(end.send.lock, AgentTid(e));
    const SendRoute route = end.send.route.load();
    if ((route == SendRoute::kOffered || route == SendRoute::kFifo) && end.mine->fifo.Sealed()) {
      end.send.BeginFlush(shadow);
    }
    if (end.send.PumpResidue(shadow) != 0) ++coverage_->pending_residues;
    send_done = end.send.route.load() == SendRoute::kTcp;
  }
  end.send_lock_held = false;
  AskPosition(e);
  end.receive_lock_held = true;
  {
    LockScope scope(end.receive.lock, AgentTid(e));
    if (end.receive.route.load() != ReceiveRoute::kTcp &&
        (end.closed || end.theirs->fifo.Sealed())) {
      end.receive.EndFifo(shadow);
    }
    if (end.closed) end.receive.DropResidue();
    receive_done = end.receive.route.load() == ReceiveRoute::kTcp &&
                   (mutant_ == Mutant::kForgetResidue || end.receive.ResidueHasCome(shadow));
  }
  end.receive_lock_held = false;
  if (!send_done || !receive_done) {
    if (end.leaving && !end.kept && end.mine->fifo.Sealed() && end.theirs->fifo.Sealed())
      KeepOwed(e);
    return;
  }
  Record("detached", e);
  end.attached = end.leaving = end.kept = false;
  end.send.fifo = Fifo{};
  end.receive.fifo = Fifo{};
  end.mine = end.theirs = nullptr;
  if (end.lingering) {
    end.lingering = false;
    KernelClose(e, false);
  }
}

// The shadow socket of an attached side has something to say: an end without a seal is a death.
void World::ShadowEvent(int e) {
  End& end = At(e);
  if (!end.attached || end.crashed || end.send_lock_held || end.receive_lock_held) return;
  WakeOwnSleepersOf(e);
  if ((In(e).FinDelivered() || In(e).reset()) && !end.theirs->fifo.Sealed()) {
    Record("peer died", e);
    end.mine->fifo.Seal();
  }
  if (end.mine->fifo.Sealed()) Service(e);
}

void World::FallBack(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.receive_lock_held) return;
  Record("fall back", e);
  VectorShadow shadow(*this, e);
  end.send_lock_held = true;
  if (end.send.route.load() != SendRoute::kTcp) {
    LockScope scope(end.send.lock, AgentTid(e) + 10);
    end.send.BeginFlush(shadow);
    end.send.PumpResidue(shadow);
  }
  end.send_lock_held = false;
  end.receive_lock_held = true;
  if (end.receive.route.load() != ReceiveRoute::kTcp) {
    LockScope scope(end.receive.lock, AgentTid(e) + 10);
    end.receive.EndFifo(shadow);
  }
  end.receive_lock_held = false;
}

// The reader of a full FIFO does not move: the sender's end goes back to TCP with that direction
// alone (preload/agent/agent_watch.cc). The other one follows some time or other, by a fallback.
void World::ReaderStandsStill(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.send.route.load() != SendRoute::kFifo ||
      end.mine->fifo.HasRoom()) {
    return;
  }
  Record("the reader stands still", e);
  ++coverage_->bypasses;
  VectorShadow shadow(*this, e);
  end.send_lock_held = true;
  {
    LockScope scope(end.send.lock, AgentTid(e) + 10);
    end.send.BeginFlush(shadow);
    end.send.PumpResidue(shadow);
  }
  end.send_lock_held = false;
}

// Nobody takes what the FIFO holds, as far as this end can see: it leaves both, and first the one
// that it reads, if nothing is in there (preload/agent/agent_unread.cc).
void World::LiesUnread(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.receive_lock_held ||
      end.send.route.load() != SendRoute::kFifo || end.mine->fifo.AvailableBytes() == 0) {
    return;
  }
  Record("lies unread", e);
  ++coverage_->unread;
  VectorShadow shadow(*this, e);
  if (end.receive.route.load() != ReceiveRoute::kTcp && end.theirs->fifo.AvailableBytes() == 0) {
    end.receive_lock_held = true;
    {
      LockScope scope(end.receive.lock, AgentTid(e) + 10);
      end.receive.EndFifo(shadow);
    }
    end.receive_lock_held = false;
  }
  if (end.send_lock_held || !end.Alive()) return;
  end.send_lock_held = true;
  {
    LockScope scope(end.send.lock, AgentTid(e) + 10);
    end.send.BeginFlush(shadow);
    end.send.PumpResidue(shadow);
  }
  end.send_lock_held = false;
}

// Whoever maps a header may end the FIFO, even half-way.
void World::SealOneWord(int e) {
  End& end = At(e);
  if (!end.attached) return;
  const SharedFifo& memory = random_.OneIn(2) ? end.mine : end.theirs;
  std::atomic<uint64_t>& word =
      random_.OneIn(2) ? memory->fifo.header->producer : memory->fifo.header->consumer;
  Record("seals one word", e);
  word.fetch_or(1);
}

// A thread dies with the send lock held, after TCP has taken a part of the residue.
void World::DieInFlush(int e) {
  End& end = At(e);
  if (!end.attached || end.crashed || end.send_lock_held) return;
  const SendRoute route = end.send.route.load();
  if (route != SendRoute::kFifo && route != SendRoute::kFlushing) return;
  VectorShadow shadow(*this, e);
  end.send_lock_held = true;
  dying_ = e;
  try {
    LockScope scope(end.send.lock, AgentTid(e) + 20);
    end.send.BeginFlush(shadow);
    end.send.PumpResidue(shadow);
    dying_ = -1;
  } catch (const ThreadDied&) {
    Record("a thread dies in a flush", e);
    ++coverage_->dead_threads;
    end.send.lock.Acquire(kDeadThread);
    if (mutant_ == Mutant::kRecoverNothing) end.send.residue_in_doubt = 0;
  }
  end.send_lock_held = false;
}

}  // namespace xenloop::simulation
