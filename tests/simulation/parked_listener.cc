// See parked_world.h: what comes to the listener beside lives. The kernel's own connections, in
// which order the program accepts both (channel/parked_turn.h), and who sleeps where no life wakes
// him: in the kernel's accept, for which a life is taken back, or unseen, from where the agent's
// own connection wakes him, which the program must not see.
#include <algorithm>

#include "tests/simulation/parked_world.h"

namespace xenloop::simulation {
namespace {
constexpr uint32_t kOften = 2;  // so many lives seldom come one upon the other here
}  // namespace

// Without giving others their chance: what the kernel's accept does is one step with the last look
// (LOOK_APART of tests/model/park_order.pml, a known flaw).
bool ParkedWorld::LivesWait() const {
  const uint64_t hints = board_.hints.load();
  for (int p = 0; p < kPairs; ++p) {
    if ((hints >> p & 1) != 0 && server_[p] && board_.words[p].Load().Waiting()) return true;
  }
  return false;
}

void ParkedWorld::ConnectByKernel(Comes what) {
  // Of two that one program makes at once none is the first.
  if (what == Comes::kOwn && claiming_) return;
  if (kernel_.size() >= 4) return;
  ++coverage_->ordinary;
  kernel_.push_back({what, what == Comes::kOwn ? ++orders_ : 0, 0});
  Record("'s kernel has a connection, of the client's the", 0, kServer, kernel_.back().order);
}

// What a connect() asks before it begins a life.
bool ParkedWorld::MayBegin() const {
  const bool own_waits = std::any_of(kernel_.begin(), kernel_.end(),
                                     [](const InKernel& c) { return c.what == Comes::kOwn; });
  return board_.accept_waiting.load() == 0 && (!own_waits || mutant_ == ParkedMutant::kNotAsked);
}

// Behind the hint. True: there is no such connection, and the program makes an ordinary one.
bool ParkedWorld::TakesBack(int p, Connection* connection) {
  if (board_.accept_waiting.load() == 0 || mutant_ == ParkedMutant::kNoTakeBack) return false;
  if (!client_[p].Withdraw()) {
    if (mutant_ != ParkedMutant::kTakeBackUnseen) return false;
    client_[p].Close(connection->life);
  }
  TakeHintBack(board_, p);
  if (connection->accepted && !connection->excused) Fail("took back what was accepted");
  ++coverage_->taken_back;
  Record("takes back, life", p, kClient, connection->life);
  connection->taken_back = connection->excused = true;
  pairs_[p]->connection[kClient] = -1;
  CloseDescriptors(p, kClient, true, false);
  return true;
}

void ParkedWorld::InOrder(uint64_t order, bool excused) {
  if (liar_ || excused) return;
  if (order < last_order_) Fail("accepted after a connection that is younger");
  last_order_ = order;
}

// The next life, unless it is the kernel's turn.
AcceptedInTurn ParkedWorld::AcceptNext(bool* turn) {
  *turn = false;
  if (!AnyWaiting(board_, server_)) {
    if (mutant_ != ParkedMutant::kFenceLeft) queue_.fenced = false;
    return {};
  }
  if (mutant_ == ParkedMutant::kNoFence && !kernel_.empty()) {
    *turn = true;
    return {};
  }
  const bool was_fenced = queue_.fenced;
  *turn = IsKernelsTurn(
      &queue_, [&] { return mutant_ != ParkedMutant::kNoTurn && !kernel_.empty(); }, kOften);
  if (queue_.fenced && !was_fenced) ++coverage_->fences;
  if (*turn) return {};
  const AcceptedInTurn accepted = AcceptInTurn(&queue_, 0);
  // So many may pass until it is asked for, and those that the fence lets through.
  if (accepted.result != LifeAccept::kNothing && !kernel_.empty() &&
      ++kernel_.front().passed > kOften + kPairs && !liar_)
    Fail("the kernel's queue does not get its turn");
  return accepted;
}

void ParkedWorld::Accept() {
  if (accepting_ || SleepsOn()) return;
  if (busy_ && !quiet_ && board_.hints.load() != 3) return;
  accepting_ = true;
  int hinted = -1;
  AsProcess(kServer, 0, kPairs - 1, [&] {
    bool turn = false;
    const AcceptedInTurn accepted = AcceptNext(&turn);
    if (accepted.result == LifeAccept::kNothing) return AcceptFromKernel(turn);
    const int p = accepted.slot;
    Pair& pair = *pairs_[p];
    const uint64_t life = server_[p].life();
    Record("accepts, life", p, kServer, life);
    if (accepted.result == LifeAccept::kDead) ++coverage_->accepted_dead;
    Connection* connection = Find(p, life);
    if (connection == nullptr) {
      if (Believed(p)) Fail("accepted what nobody has connected");
      connections_.emplace_back();
      connection = &connections_.back();
      connection->pair = p;
      connection->serial = pair.serial;
      connection->life = life;
    }
    if (connection->accepted && Believed(p)) Fail("accepted twice");
    if (connection->taken_back && Believed(p)) Fail("accepted what was taken back");
    InOrder(connection->order, connection->excused);
    if (!pair.agent_fd[kServer]) Fail("accepted what the agent has closed");
    connection->accepted = true;
    pair.connection[kServer] =
        static_cast<int>(std::find_if(connections_.begin(), connections_.end(),
                                      [&](const Connection& c) { return &c == connection; }) -
                         connections_.begin());
    pair.program_fd[kServer] = true;
    pair.known_consumer[kServer] = 0;
    hinted = p;
  });
  if (mutant_ == ParkedMutant::kHintLast && hinted >= 0) {
    Interrupt();
    board_.hints.fetch_and(~(1ull << hinted));
  }
  accepting_ = false;
}

void ParkedWorld::AcceptFromKernel(bool turn) {
  if (kernel_.empty() || (!turn && LivesWait())) return;
  const InKernel first = kernel_.front();
  kernel_.pop_front();
  Record("accepts the kernel's connection", 0, kServer, first.order);
  if (first.what == Comes::kOwn) return InOrder(first.order, false);
  if (first.what == Comes::kOthers) return;
  if (expected_ == 0) Fail("the program is given a connection of its agent's");
  --expected_;
  ++coverage_->phantoms;
}

void ParkedWorld::GoToSleep() {
  if (accepting_ || asleep_ != Asleep::kNot) return;
  if (random_.OneIn(3)) {
    if (!LivesWait() && kernel_.empty()) asleep_ = Asleep::kUnseen;
    return;
  }
  accepting_ = true;
  AsProcess(kServer, 0, kPairs - 1, [&] {
    board_.accept_waiting.store(1);
    Interrupt();
    const bool stays =
        kernel_.empty() && (mutant_ == ParkedMutant::kNoSecondLook || !AnyWaiting(board_, server_));
    if (!stays || !kernel_.empty()) return board_.accept_waiting.store(0);
    ++coverage_->asleep;
    asleep_ = Asleep::kInAccept;
  });
  accepting_ = false;
}

// True: this thread does nothing else.
bool ParkedWorld::SleepsOn() {
  if (asleep_ == Asleep::kNot) return false;
  if (kernel_.empty()) return true;
  const bool in_accept = asleep_ == Asleep::kInAccept;
  asleep_ = Asleep::kNot;
  board_.accept_waiting.store(0);
  if (in_accept) AcceptFromKernel(true);  // else it goes to accept from here
  return in_accept;
}

// The server's agent: what has waited for some looks ends the queue, and whoever sleeps is woken.
void ParkedWorld::WatchQueue() {
  uint64_t waiting = 0;
  for (int p = 0; p < kPairs; ++p) {
    const LifeWord word = board_.words[p].Load();
    if (server_[p] && word.Waiting()) waiting = waiting * 31 + word.Life() + 1;
  }
  if (waiting == 0 || waiting != seen_waiting_) looks_ = 0;
  seen_waiting_ = waiting;
  if (waiting == 0 || looks_++ != 2) return;
  HintAll(board_);
  for (int p = 0; p < kPairs; ++p) {
    AsProcess(kServer, p, p, [&] {
      if (pairs_[p]->connection[kServer] < 0) FallBack(p, kServer);
    });
  }
  ++coverage_->kicks;
  if (mutant_ == ParkedMutant::kNoKick) return;
  if (mutant_ != ParkedMutant::kKickSeen) ++expected_;
  kernel_.push_back({Comes::kKick, 0, 0});
}

// The process, or its listener, is gone, and with it who slept there.
void ParkedWorld::ListenerGone() {
  kernel_.clear();
  expected_ = 0;
  asleep_ = Asleep::kNot;
  board_.accept_waiting.store(0);
  queue_.fenced = false;
}

// Nobody is in the middle of a step.
void ParkedWorld::CheckAsleep() {
  if (asleep_ != Asleep::kInAccept || liar_) return;
  for (int p = 0; p < kPairs; ++p) {
    const LifeWord word = board_.words[p].Load();
    if (!server_[p] || !word.Waiting() || word.State() != LifeState::kLive) continue;
    const Connection* const connection = Find(p, word.Life());
    if (connection != nullptr && !connection->excused)
      Fail("a life waits for who sleeps in the kernel's accept");
  }
}

}  // namespace xenloop::simulation
