// See world.h: threads that sleep on a word of a FIFO, as preload/side/wait.cc has them sleep, and
// ends that are killed while they wake one. A wake-up is three steps: the index is published, the
// request is taken away, the sleeper is woken; a death between any two must not leave him asleep.
#include "tests/simulation/world.h"

namespace xenloop::simulation {
namespace {

World* world = nullptr;

}  // namespace

void World::HearFutexes() { world = this; }

void World::Wake(const volatile void* word) {
  if (killable_ >= 0) Interrupt(killable_, true);
  bool robs = false;
  for (const End& end : ends_)
    robs = robs || end.reader.asleep == word || end.writer.asleep == word;
  if (killable_ >= 0 && !quiet_ && random_.OneIn(robs ? 6 : 60)) {
    auto* const request = static_cast<std::atomic<uint32_t>*>(
        const_cast<void*>(static_cast<const volatile void*>(word)));
    if (random_.OneIn(4)) request->fetch_or(kFutexSleeper);  // a step earlier: it still stands
    Record("is killed in a wake-up", killable_);
    ++coverage_->killed_wakers;
    if (robs) ++coverage_->robbed_sleepers;
    throw EndDied();
  }
  for (End& end : ends_) {
    for (Sleeper* sleeper : {&end.reader, &end.writer}) {
      if (sleeper->asleep == word) sleeper->asleep = nullptr;
    }
  }
}

// Asked for at the first time, and asleep at the second, if nothing has changed in between.
void World::MaySleep(int e, Sleeper* sleeper, std::atomic<uint32_t>& word) {
  if (sleeper->armed == &word && word.load() == sleeper->value) {
    Record("sleeps", e);
    ++coverage_->sleeps;
    sleeper->asleep = &word;
    sleeper->armed = nullptr;
    return;
  }
  sleeper->armed = &word;
  sleeper->value = ArmFutex(word);
}

// The end has been killed in the middle of a send or a receive.
void World::DieInCall(int e, uint64_t published) {
  End& end = At(e);
  killable_ = -1;
  end.sent += published;
  end.in_flight = 0;
  end.send_lock_held = end.receive_lock_held = false;
  Crash(e);
}

// As ShadowEvent of preload/agent/agent_service.cc, which hears edges of the shadow socket.
void World::WakeOwnSleepersOf(int e) {
  End& end = At(e);
  const uint64_t edge =
      1 + In(e).delivered() * 4 + (In(e).FinDelivered() ? 2 : 0) + (In(e).reset() ? 1 : 0);
  if (std::exchange(end.seen_edge, edge) == edge) return;
  const auto wake = [this](const Fifo& fifo, std::atomic<uint32_t>& word) {
    if (mutant_ == Mutant::kWakeOnlyWhoAsks && (word.load() & kFutexSleeper) == 0) return;
    WakeOwnSleepers(fifo, word);
  };
  wake(end.theirs->fifo, end.theirs->fifo.header->consumer_waiting);
  wake(end.mine->fifo, end.mine->fifo.header->producer_waiting);
}

// When all is quiet.
void World::CheckSleepers() {
  for (int e = 0; e < 2; ++e) {
    const End& end = At(e);
    if (!end.Alive() || end.writer.asleep == nullptr) continue;
    if (end.send.route.load() != SendRoute::kFifo)
      Fail("a writer sleeps for a FIFO that is no more");
    if (end.send.fifo.FreeBytes() >= end.send.fifo.WakeThresholdBytes())
      Fail("a writer sleeps although there is room");
  }
}

}  // namespace xenloop::simulation

int xenloop::sys::FutexWakeAll(const volatile void* word, bool) {
  if (xenloop::simulation::world != nullptr) xenloop::simulation::world->Wake(word);
  return 0;
}
