// See parked_world.h: what programs and the kernel do.
#include "tests/simulation/parked_world.h"

#include <algorithm>
#include <cstring>

namespace xenloop::simulation {
namespace {

uint8_t Pattern(int connection, int e, uint64_t at) {
  return static_cast<uint8_t>(
      (at * 7 + static_cast<uint64_t>(connection) * 31 + static_cast<uint64_t>(e) * 131) % 251);
}

}  // namespace

SharedLifeWord* SteppedWord::operator->() const {
  world_->Interrupt();
  return word_;
}

ParkedWorld::Memory::Memory(uint64_t capacity_bytes)
    : bytes(static_cast<uint8_t*>(std::aligned_alloc(64, FifoMemoryBytes(capacity_bytes))),
            &std::free) {
  memset(bytes.get(), 0, FifoMemoryBytes(capacity_bytes));
  fifo = Fifo::Initialise(bytes.get(), capacity_bytes);
}

ParkedWorld::ParkedWorld(uint64_t seed, ParkedMutant mutant, ParkedCoverage* coverage)
    : random_(seed), mutant_(mutant), coverage_(coverage) {
  queue_.boards[0].board = &board_;
  busy_ = random_.OneIn(4);
  liar_ = mutant == ParkedMutant::kNone && random_.OneIn(5);
  for (int p = 0; p < kPairs; ++p) Renew(p);
}

std::string ParkedWorld::LastSteps() const {
  std::string text;
  for (const std::string& note : notes_) text += note;
  return text;
}
void ParkedWorld::Record(const char* what, int p, int e, uint64_t value) {
  notes_.push_back(std::string(static_cast<size_t>(2 + 2 * depth_), ' ') + "pair " +
                   std::to_string(p) + (e == kClient ? " client " : " server ") + what + " " +
                   std::to_string(value) + "\n");
  if (notes_.size() > 150) notes_.pop_front();
}

// Before each look at a life word: others act, or the process dies.
void ParkedWorld::Interrupt() {
  if (quiet_ || depth_ >= 2 || !random_.OneIn(8)) return;
  if (may_die_ && random_.OneIn(4)) throw Died{};
  const int acting = acting_;
  const uint64_t deaths = acting < 0 ? 0 : deaths_[acting];
  ++depth_;
  ++coverage_->interruptions;
  for (uint32_t n = 1 + random_.Below(3); n > 0; --n) Act();
  --depth_;
  if (acting >= 0 && deaths_[acting] != deaths) throw Died{};
}
void ParkedWorld::Step() { Act(); }

void ParkedWorld::Act() {
  const auto p = static_cast<int>(random_.Below(kPairs));
  const auto e = static_cast<int>(random_.Below(2));
  switch (random_.Below(36)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Connect();
    case 4:
    case 5:
    case 6:
    case 32:
      return Accept();
    case 7:
    case 8:
    case 9:
      return Deliver(p);
    case 10:
    case 11:
    case 12:
      return Serve(p, e);
    case 13:
      return Renew(p);
    case 14:
    case 15:
    case 16:
      return Close(p, e);
    case 17:
    case 18:
      return ShutDown(p, e);
    case 19:
      return random_.OneIn(6) ? Intrude(p) : Lie();
    case 20:
      return random_.OneIn(8) ? EndIdle(p, e) : Lie();
    case 21:
      if (random_.OneIn(20)) return CloseListener();
      if (random_.OneIn(20)) return Kill(e);
      return;
    case 33:
      if (random_.OneIn(2))
        return ConnectByKernel(!busy_ && random_.OneIn(3) ? Comes::kOwn : Comes::kOthers);
      return;
    case 34:
      if (!busy_ && random_.OneIn(6)) return GoToSleep();
      return;
    case 35:
      return WatchQueue();
    case 22:  // a thread that has looked its descriptor up some time ago
      if (!connections_.empty() && IsOpen(p, e)) {
        const auto back = random_.Below(3);
        const auto newest = static_cast<int>(connections_.size()) - 1;
        return Send(p, e, std::max(0, newest - static_cast<int>(back)));
      }
      return;
    default:
      if (!IsOpen(p, e)) return;
      if (random_.OneIn(3)) return Send(p, e, pairs_[p]->connection[e]);
      return Receive(p, e);
  }
}

// ---- connect and accept ----

void ParkedWorld::Connect() {
  if (claiming_) return;
  if (!MayBegin()) return ConnectByKernel(Comes::kOwn);
  int p = 0;
  while (p < kPairs && (!Living(p, kClient) || pairs_[p]->locked[kClient] ||
                        pairs_[p]->connection[kClient] >= 0 || client_[p].Over()))
    ++p;
  if (p == kPairs) return;
  claiming_ = true;
  AsProcess(kClient, p, p, [&] {
    Pair& pair = *pairs_[p];
    const bool gone = pair.dead[kServer] || pair.listener_closed;
    if (mutant_ == ParkedMutant::kUnsealedReset) {
      for (Memory& memory : pair.memory) {
        memory.fifo.header->producer.fetch_and(~1ull);
        memory.fifo.header->consumer.fetch_and(~1ull);
      }
    }
    const uint64_t life = ++lives_;
    if (!client_[p].Claim(life)) {
      ++coverage_->lost_claims;
      return;
    }
    Interrupt();
    if (!client_[p].Queue(mutant_ != ParkedMutant::kNoDeathCheck && pair.dead[kServer])) {
      ++coverage_->lost_claims;
      return;
    }
    Record("connects, life", p, kClient, life);
    if (gone && Believed(p)) Fail("connected to what was gone before");
    Connection connection;
    connection.pair = p;
    connection.serial = pair.serial;
    connection.life = life;
    connection.order = ++orders_;
    // They went while we were connecting, which TCP's own connect may meet as well.
    connection.excused = pair.dead[kServer] || pair.listener_closed;
    pair.connection[kClient] = static_cast<int>(connections_.size());
    connections_.push_back(connection);
    pair.program_fd[kClient] = true;
    pair.known_consumer[kClient] = 0;
    ++coverage_->lives;
    Connection* const mine = &connections_.back();
    Hint(board_, p);
    Interrupt();
    TakesBack(p, mine);
  });
  claiming_ = false;
}

ParkedWorld::Connection* ParkedWorld::Find(int p, uint64_t life) {
  for (auto i = connections_.rbegin(); i != connections_.rend(); ++i) {
    if (i->pair == p && i->serial == pairs_[p]->serial && i->life == life) return &*i;
  }
  return nullptr;
}

// ---- a life ----

// `connection`: what the thread has found in its table, perhaps some time ago.
void ParkedWorld::Send(int p, int e, int connection) {
  AsProcess(e, p, p, [&] {
    Pair& pair = *pairs_[p];
    Connection& mine = connections_[static_cast<size_t>(connection)];
    if (mine.pair != p || mine.serial != pair.serial) return;
    const bool stale = pair.connection[e] != connection;
    uint8_t bytes[16];
    const size_t n = 1 + random_.Below(sizeof bytes);
    for (size_t i = 0; i < n; ++i) bytes[i] = Pattern(connection, e, mine.sent[e] + i);
    const iovec iov{bytes, n};
    if (stale) {
      ++coverage_->stale_threads;
      if (At(p, e).Open(mine.life)) Fail("a former life is taken for the present one");
      if (mutant_ != ParkedMutant::kNoLifeCheck) return;
    } else if (mine.finished[e]) {
      return;  // EPIPE
    }
    if (!pair.fallen[e] && !stale && !At(p, e).MaySend(mine.life)) FallBack(p, e);
    Interrupt();
    if (pair.fallen[e]) {
      if (pair.residue[e] < pair.residue_end[e]) return;  // EAGAIN
      const ssize_t sent = pair.tcp[e].Send(&iov, 1);
      if (sent > 0) mine.sent[e] += static_cast<uint64_t>(sent);
      if (sent > 0) coverage_->tcp_bytes += static_cast<uint64_t>(sent);
      return;
    }
    const bool sealed = pair.sealed[e];
    IovCursor source(&iov, 1);
    const FifoResult result = pair.memory[e].fifo.Produce(source, pair.known_consumer[e], 0);
    if (sealed && result.bytes > 0 && Believed(p)) Fail("a seal has been taken away");
    mine.sent[e] += result.bytes;
    coverage_->fifo_bytes += result.bytes;
    Record("sends by FIFO", p, e, result.bytes);
    const bool in_time =
        mutant_ == ParkedMutant::kNoLookAfterSend || stale || At(p, e).SentInTime(mine.life);
    if (result.state != FifoState::kOpen || !in_time) FallBack(p, e);
  });
}

void ParkedWorld::Take(int p, int e, const uint8_t* bytes, size_t n) {
  Connection& mine = Of(p, e);
  const int connection = pairs_[p]->connection[e];
  for (size_t i = 0; i < n && Believed(p); ++i) {
    if (mine.ended[e]) Fail("a byte after the end");
    if (bytes[i] != Pattern(connection, 1 - e, mine.got[e]))
      Fail("a byte of another life or place");
    if (++mine.got[e] > mine.sent[1 - e]) Fail("a byte that nobody has sent");
  }
}
void ParkedWorld::MeetEnd(int p, int e, bool reset) {
  Connection& mine = Of(p, e);
  if (mine.ended[e] || !Believed(p)) return;
  mine.ended[e] = true;
  Record(reset ? "is reset" : "is at the end", p, e, mine.got[e]);
  if (reset) {
    ++coverage_->resets;
    const bool unread = mine.closed[1 - e] && mine.got[1 - e] < mine.sent[e];
    if (!unread && !mine.excused && !pairs_[p]->dead[1 - e]) Fail("a RST that TCP would not have");
    return;
  }
  ++coverage_->ends;
  if (!mine.finished[1 - e] && !mine.closed[1 - e] && !pairs_[p]->dead[1 - e])
    Fail("an end of the stream that nobody has made");
  if (mine.got[e] != mine.sent[1 - e]) Fail("an end of the stream before its last byte");
}
void ParkedWorld::Receive(int p, int e) {
  AsProcess(e, p, p, [&] {
    if (pairs_[p]->connection[e] < 0) return;
    Pair& pair = *pairs_[p];
    const uint64_t life = Of(p, e).life;
    if (pair.fallen[e]) return ReceiveByTcp(p, e);
    uint8_t bytes[24];
    const size_t limit = 1 + random_.Below(sizeof bytes);
    const iovec iov{bytes, limit};
    IovCursor destination(&iov, 1);
    const FifoResult result = pair.memory[1 - e].fifo.Consume(&destination, limit, false);
    Take(p, e, bytes, result.bytes);
    if (result.bytes > 0) return;
    bool end = At(p, e).AtEnd(life);
    if (mutant_ == ParkedMutant::kEndByTheWordAlone) {
      end = board_.words[p].Load().Has(
          LifeWord::Finished(e == kClient ? Role::kServer : Role::kClient));
    }
    if (end) return MeetEnd(p, e, false);
    if (result.state != FifoState::kOpen || At(p, e).Ended()) FallBack(p, e);
  });
}
void ParkedWorld::ReceiveByTcp(int p, int e) {
  Pair& pair = *pairs_[p];
  const Fifo& fifo = pair.memory[1 - e].fifo;
  if (At(p, e).AtEnd(Of(p, e).life)) return MeetEnd(p, e, false);
  uint8_t bytes[24];
  const iovec iov{bytes, 1 + random_.Below(sizeof bytes)};
  const ssize_t n = pair.tcp[1 - e].Receive(&iov, 1, 0);
  if (n > 0) {
    pair.by_tcp[e] += static_cast<uint64_t>(n);
    return Take(p, e, bytes, static_cast<size_t>(n));
  }
  if (n == -ECONNRESET) return MeetEnd(p, e, true);
  if (n != 0) return;
  // Its sender was killed in its flush, or before: the rest lies where it has put it.
  const uint64_t produced = IndexOf(fifo.header->producer.load());
  const uint64_t at = IndexOf(fifo.header->consumer.load()) + pair.by_tcp[e];
  if (at >= produced || produced - at > fifo.capacity_bytes) return MeetEnd(p, e, false);
  ++coverage_->dead_residues;
  ++pair.by_tcp[e];
  Take(p, e, fifo.data + (at & (fifo.capacity_bytes - 1)), 1);
}

void ParkedWorld::ShutDown(int p, int e) {
  AsProcess(e, p, p, [&] {
    if (pairs_[p]->connection[e] < 0 || Of(p, e).finished[e]) return;
    Record("shuts down", p, e);
    Of(p, e).finished[e] = true;
    if (!pairs_[p]->fallen[e] && At(p, e).Finish(Of(p, e).life)) return;
    FallBack(p, e);
    pairs_[p]->finish_wanted[e] = true;
    Pump(p, e);
  });
}
void ParkedWorld::Close(int p, int e) {
  AsProcess(e, p, p, [&] {
    if (pairs_[p]->connection[e] < 0) return;
    Pair& pair = *pairs_[p];
    Connection& mine = Of(p, e);
    mine.finished[e] = true;
    mine.closed[e] = true;
    const LifeClose result = At(p, e).Close(mine.life);
    Record(result == LifeClose::kReal     ? "closes really"
           : result == LifeClose::kParked ? "parks"
                                          : "closes",
           p, e, mine.life);
    if (result == LifeClose::kParked) ++coverage_->parked;
    if (result == LifeClose::kReal) {
      ++coverage_->really_closed;
      FallBack(p, e);
    } else if (mutant_ == ParkedMutant::kParkAtFirstClose) {
      LifeWord word = board_.words[p].Load();
      board_.words[p].Change(word, LifeWord::Of(word.Life(), LifeState::kParked));
    }
    pair.connection[e] = -1;
    CloseDescriptors(p, e, true, false);
  });
}

// ---- the kernel ----

void ParkedWorld::CloseDescriptors(int p, int e, bool program, bool agent) {
  Pair& pair = *pairs_[p];
  if (program) pair.program_fd[e] = false;
  if (agent) pair.agent_fd[e] = false;
  if (!pair.program_fd[e] && !pair.agent_fd[e] && !pair.kernel_closed[e]) KernelClose(p, e);
}
void ParkedWorld::KernelClose(int p, int e) {
  Pair& pair = *pairs_[p];
  pair.kernel_closed[e] = true;
  Record("is closed by the kernel", p, e);
  if (board_.words[p].Load().State() != LifeState::kDead && !pair.dead[e] && Believed(p))
    Fail("FIN or RST of a pair that can be used again");
  TcpPipe& in = pair.tcp[1 - e];
  const bool unread = in.delivered() > in.read();
  in.LoseReceiver();
  if (unread || (e == kServer && pair.linger_zero)) {
    pair.tcp[0].Reset();
    pair.tcp[1].Reset();
  } else {
    pair.tcp[e].Finish();
  }
}
void ParkedWorld::Deliver(int p) {
  if (pairs_[p] == nullptr) return;
  for (int d = 0; d < 2; ++d) {
    if (pairs_[p]->tcp[d].Deliver(quiet_ ? 1000 : random_.Below(30))) continue;
    pairs_[p]->tcp[0].Reset();
    pairs_[p]->tcp[1].Reset();
  }
}

}  // namespace xenloop::simulation
