// See world.h: what must hold after every step, and what must have arrived when all is quiet.
#include "tests/simulation/world.h"

namespace xenloop::simulation {

void World::CheckFifo(const SharedFifo& memory) {
  if (memory == nullptr) return;
  const Fifo& fifo = memory->fifo;
  const uint64_t consumer = IndexOf(fifo.header->consumer.load());
  const uint64_t producer = IndexOf(fifo.header->producer.load());
  if (consumer > producer) Fail("the consumer index has passed the producer index");
  if (producer - consumer > fifo.capacity_bytes) Fail("more bytes in the FIFO than it holds");
  if (fifo.AvailableBytes() + fifo.FreeBytes() != fifo.window_bytes)
    Fail("room and contents do not add up");
}

// What poll would say is what a try would find.
void World::CheckReadiness(int e) {
  End& end = At(e);
  if (!end.Alive() || e == frozen_ || end.passing == Passing::kTaken) return;
  VectorShadow shadow(*this, e);
  bool ready = false;
  {
    LockScope scope(end.receive.lock, 300);
    if (mutant_ != Mutant::kReadinessWithoutAdvance) end.receive.Advance(shadow);
    ready =
        end.receive.route.load() == ReceiveRoute::kFifo && end.receive.fifo.AvailableBytes() > 0;
    ready = ready || shadow.Readable();
  }
  uint8_t byte = 0;
  const iovec iov{&byte, 1};
  IovCursor destination(&iov, 1);
  ssize_t found =
      end.receive.TryReceive(shadow, &destination, 1, MSG_PEEK, /*look=*/true, Self{301, 0});
  if (found == kStreamUsesTcp) {
    found = shadow.TryReceive(&iov, 1, MSG_PEEK);
    const bool ended = found <= 0 && found != -EAGAIN;
    const DeadResidue residue = ended ? FindsDeadResidue(e) : DeadResidue::kNone;
    if (residue == DeadResidue::kLost) return BreakInDoubt(e);
    if (residue == DeadResidue::kRead) {
      found =
          end.receive.TryReceive(shadow, &destination, 1, MSG_PEEK, /*look=*/true, Self{301, 0});
    }
  }
  if (found > 0) {
    Arrived(e, {byte}, 1, true, false);
  } else if (found != -EAGAIN) {
    EndOfStream(e, found);
  }
  if (ready && found == -EAGAIN) Fail("said to be readable, but a receive would wait");
  if (!ready && found != -EAGAIN)
    Fail("not said to be readable, but a receive finds " + std::to_string(found));
}

void World::Check() {
  for (int e = 0; e < 2; ++e) {
    const End& end = At(e);
    if (end.received > At(1 - e).sent) Fail("received more than was sent");
    CheckFifo(end.mine);
    CheckFifo(end.at_death);
  }
  if (random_.OneIn(4)) {
    const bool was_quiet = quiet_;
    quiet_ = true;  // no other party between the question and the try
    CheckReadiness(static_cast<int>(random_.Below(2)));
    quiet_ = was_quiet;
  }
}

void World::Settle() {
  quiet_ = true;
  if (frozen_ >= 0) Resume();
  for (int e = 0; moving_ != Moving::kNo && e < 2; ++e) LetGo(e);
  uint64_t last = 0;
  for (int idle = 0, turn = 0; idle < 4; ++turn) {
    if (turn > 1000000) Fail("does not come to rest");
    Complete();
    for (int e = 0; e < 2; ++e) {
      End& end = At(e);
      if (!end.crashed) LeaveKernel(e);
      if (!Out(e).Deliver(UINT64_MAX)) ResetConnection();
      ShadowEvent(e);
      Service(e);
      if (end.Alive() && end.closing_write) Shutdown(e);
      if (end.passing != Passing::kNo) PassOn(e);
      if (end.Alive() && end.send.route.load() == SendRoute::kFlushing) {
        VectorShadow shadow(*this, e);
        LockScope scope(end.send.lock, 302);
        end.send.PumpResidue(shadow);
      }
      // Whoever sleeps must be woken by somebody else.
      for (int i = 0; i < 4 && end.reader.asleep == nullptr; ++i) AppReceive(e, 0);
    }
    Check();
    uint64_t now = 0;
    for (int e = 0; e < 2; ++e) {
      now += At(e).received + At(e).saw_end + Out(e).written() + Out(e).delivered() +
             At(e).attached + static_cast<uint64_t>(At(e).send.route.load()) +
             static_cast<uint64_t>(At(e).receive.route.load());
    }
    idle = now == last ? idle + 1 : 0;
    last = now;
  }
  CheckSleepers();
  for (int e = 0; e < 2; ++e) {
    const End& end = At(e);
    const End& peer = At(1 - e);
    if (!end.Alive()) continue;
    if (end.received != peer.sent && !MayMissBytes(e)) {
      Fail("all is quiet, but only " + std::to_string(end.received) + " of " +
           std::to_string(peer.sent) + " bytes have arrived");
    }
    if ((In(e).finished() || reset_) && !end.saw_end && !reset_)
      Fail("the end of the stream has not been seen");
  }
}

}  // namespace xenloop::simulation
