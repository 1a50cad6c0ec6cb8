// See parked_world.h: what agents do, what may end a pair, the liar, and what must be true at the
// end.
#include "tests/simulation/parked_world.h"

namespace xenloop::simulation {

const char* NameOf(ParkedMutant mutant) {
  static constexpr const char* kNames[] = {"none",
                                           "tcp-of-the-living",
                                           "forget-residue",
                                           "no-life-check",
                                           "no-look-after-send",
                                           "park-at-first-close",
                                           "end-by-the-word-alone",
                                           "idle-close-first",
                                           "close-what-waits",
                                           "hint-last",
                                           "no-death-check",
                                           "kernel-first",
                                           "unsealed-reset",
                                           "half-close-lost",
                                           "not-asked",
                                           "no-turn",
                                           "no-fence",
                                           "fence-left",
                                           "no-take-back",
                                           "take-back-unseen",
                                           "no-second-look",
                                           "no-kick",
                                           "kick-seen"};
  static_assert(sizeof kNames / sizeof *kNames == static_cast<size_t>(ParkedMutant::kCount));
  return kNames[static_cast<size_t>(mutant)];
}

// A step of the process of end `e` that holds that end's locks of the pairs first to last. It may
// die inside; so may it by something that happens meanwhile.
void ParkedWorld::AsProcess(int e, int first, int last, const std::function<void()>& act) {
  for (int p = first; p <= last; ++p) {
    if (pairs_[p]->locked[e] || (first == last && !Living(p, e))) return;
  }
  const bool was_mortal = may_die_;
  const int was_acting = acting_;
  const uint64_t deaths = deaths_[e];
  may_die_ = !quiet_ && random_.OneIn(100);
  acting_ = e;
  for (int p = first; p <= last; ++p) pairs_[p]->locked[e] = true;
  bool died = false;
  try {
    act();
  } catch (const Died&) {
    died = true;
  }
  may_die_ = was_mortal;
  acting_ = was_acting;
  for (int p = first; p <= last; ++p) pairs_[p]->locked[e] = false;
  if (died && deaths_[e] == deaths) {
    ++coverage_->killed_inside;
    Kill(e);
  }
  for (int p = first; p <= last && e == kServer; ++p) {
    if (pairs_[p]->dead[kServer]) server_[p] = End{};
  }
}

// ---- agents ----

// Under the end's locks.
void ParkedWorld::FallBack(int p, int e) {
  Pair& pair = *pairs_[p];
  if (pair.fallen[e]) return;
  if (mutant_ == ParkedMutant::kTcpOfTheLiving) {
    pair.memory[0].fifo.Seal();
    pair.memory[1].fifo.Seal();
  } else {
    At(p, e).End();
  }
  const Fifo& out = pair.memory[e].fifo;
  const uint64_t c = IndexOf(out.header->consumer.load());
  const uint64_t published = IndexOf(out.header->producer.load());
  pair.fallen[e] = true;
  // What the word has said TCP has to say as well, behind the residue.
  if (pair.connection[e] >= 0 && Of(p, e).finished[e] && mutant_ != ParkedMutant::kHalfCloseLost)
    pair.finish_wanted[e] = true;
  pair.residue[e] = c;
  pair.residue_end[e] = published - c <= out.capacity_bytes ? published : c;
  if (mutant_ == ParkedMutant::kForgetResidue) pair.residue_end[e] = c;
  if (pair.residue[e] < pair.residue_end[e]) ++coverage_->residues;
  Record("falls back, owes", p, e, pair.residue_end[e] - pair.residue[e]);
  Pump(p, e);
  At(p, e).End();
}
void ParkedWorld::Pump(int p, int e) {
  Pair& pair = *pairs_[p];
  const Fifo& out = pair.memory[e].fifo;
  while (pair.fallen[e] && pair.residue[e] < pair.residue_end[e]) {
    if (board_.words[p].Load().State() != LifeState::kDead && Believed(p))
      Fail("TCP carries bytes of a living pair");
    const iovec iov{out.data + (pair.residue[e] & (out.capacity_bytes - 1)), 1};
    const ssize_t sent = pair.tcp[e].Send(&iov, 1);
    if (sent == -EAGAIN) return;
    if (sent < 0) pair.residue[e] = pair.residue_end[e];
    if (sent > 0) ++pair.residue[e];
    if (sent > 0) ++coverage_->tcp_bytes;
  }
  if (pair.fallen[e] && pair.finish_wanted[e]) pair.tcp[e].Finish();
}
void ParkedWorld::Serve(int p, int e) {
  AsProcess(e, p, p, [&] {
    Pair& pair = *pairs_[p];
    if (pair.dead[1 - e] && e == kServer) HintAll(board_);
    if (!pair.agent_fd[e] || (!pair.dead[1 - e] && !At(p, e).Ended())) return;
    At(p, e).End();
    FallBack(p, e);
    Pump(p, e);
    if (pair.residue[e] < pair.residue_end[e]) return;
    if (!At(p, e).MayLetGo() && mutant_ != ParkedMutant::kCloseWhatWaits) return;
    CloseDescriptors(p, e, false, true);
  });
}
// A fresh connection of the kernel's in the place of one that both ends have left.
void ParkedWorld::Renew(int p) {
  if (pairs_[p] != nullptr) {
    const Pair& pair = *pairs_[p];
    for (int e = 0; e < 2; ++e) {
      if (pair.locked[e] || (!pair.kernel_closed[e] && !pair.dead[e])) return;
    }
  }
  pairs_[p] = std::make_unique<Pair>();
  pairs_[p]->serial = ++serials_;
  LifeWord word = board_.words[p].Load();
  board_.words[p].Change(word, LifeWord{});
  const Fifo& there = pairs_[p]->memory[kClient].fifo;
  const Fifo& back = pairs_[p]->memory[kServer].fifo;
  const SteppedWord stepped(this, &board_.words[p]);
  client_[p] = End(Role::kClient, stepped, there, back);
  server_[p] = End(Role::kServer, stepped, back, there);
}

// ---- what ends a pair ----

void ParkedWorld::Intrude(int p) {
  const auto e = static_cast<int>(random_.Below(2));
  FifoHeader* const header = pairs_[p]->memory[e].fifo.header;
  switch (random_.Below(4)) {
    case 0:
      Record("'s producer is sealed", p, e);
      pairs_[p]->sealed[e] = true;
      header->producer.fetch_or(1);
      return;
    case 1:
      Record("'s consumer is sealed", p, e);
      header->consumer.fetch_or(1);
      return;
    case 2:
      Record("leaves", p, e);
      return AsProcess(e, p, p, [&] { FallBack(p, e); });
    default:
      Record("forks", p, e);
      return AsProcess(e, p, p, [&] { At(p, e).MarkLast(); });
  }
}
void ParkedWorld::EndIdle(int p, int e) {
  AsProcess(e, p, p, [&] {
    if (mutant_ == ParkedMutant::kIdleCloseFirst && pairs_[p]->connection[e] < 0 &&
        board_.words[p].Load().State() == LifeState::kParked)
      CloseDescriptors(p, e, false, true);
    if (At(p, e).EndIdle()) ++coverage_->idle_closes;
  });
}
void ParkedWorld::CloseListener() {
  AsProcess(kServer, 0, kPairs - 1, [&] {
    ++coverage_->listeners_closed;
    const auto close = [&] {
      for (int p = 0; p < kPairs; ++p) pairs_[p]->listener_closed |= !pairs_[p]->dead[kServer];
    };
    if (mutant_ == ParkedMutant::kKernelFirst) {
      close();
      Interrupt();
    }
    for (int p = 0; p < kPairs; ++p) {
      if (pairs_[p]->dead[kServer] || !server_[p]) continue;
      Record("closes the listener", p, kServer);
      // Not accepted: the kernel resets it.
      if (server_[p].EndOfListener()) pairs_[p]->linger_zero = true;
      for (Connection& connection : connections_) {
        if (connection.pair == p && connection.serial == pairs_[p]->serial && !connection.accepted)
          connection.excused = true;
      }
    }
    close();
    ListenerGone();
  });
}
void ParkedWorld::Kill(int e) {
  Record("'s process is killed", 0, e);
  ++coverage_->killed;
  ++deaths_[e];
  if (e == kServer) ListenerGone();
  // What the next process of the client connects is younger.
  for (InKernel& connection : kernel_) {
    if (e == kClient && connection.what == Comes::kOwn) connection.what = Comes::kOthers;
  }
  for (int p = 0; p < kPairs; ++p) {
    Pair& pair = *pairs_[p];
    if (pair.dead[e]) continue;
    pair.dead[e] = true;
    for (Connection& connection : connections_) {
      if (connection.pair == p && connection.serial == pair.serial) connection.excused = true;
    }
    pair.connection[e] = -1;
    CloseDescriptors(p, e, true, true);
    if (e == kServer && !pair.locked[e]) server_[p] = End{};
  }
}
// The other end of pair 0, whichever that is, writes what it likes.
void ParkedWorld::Lie() {
  if (!liar_) return;
  ++coverage_->hostile_words;
  LifeWord word = board_.words[0].Load();
  const uint64_t life = random_.OneIn(3) ? random_.Next() : word.Life() + random_.Below(3) - 1;
  switch (random_.Below(5)) {
    case 0:
      board_.words[0].Change(word, LifeWord{random_.Next()});
      return;
    case 1:
      board_.hints.store(random_.Next() | 2);  // what an honest client has set is not his to clear
      return;
    case 2: {
      FifoHeader* const header = pairs_[0]->memory[random_.Below(2)].fifo.header;
      (random_.OneIn(2) ? header->producer : header->consumer)
          .store(random_.OneIn(2) ? random_.Next() : random_.Below(9000));
      return;
    }
    default:
      board_.words[0].Change(word, LifeWord{life << LifeWord::kLifeShift | random_.Below(256)});
  }
}

// ---- at the end ----

void ParkedWorld::DrainAll() {
  for (int round = 0; round < 150; ++round) {
    Accept();
    WatchQueue();
    for (int p = 0; p < kPairs; ++p) {
      Deliver(p);
      for (int e = 0; e < 2; ++e) {
        Serve(p, e);
        if (IsOpen(p, e)) Receive(p, e);
        if (IsOpen(p, e)) Receive(p, e);
      }
    }
  }
}
void ParkedWorld::CheckOpen() {
  for (const Connection& c : connections_) {
    const int p = c.pair;
    const Pair& pair = *pairs_[p];
    if (!Believed(p) || c.serial != pair.serial) continue;
    if (!c.accepted && !c.excused) Fail("a connection that nobody accepts");
    for (int e = 0; e < 2; ++e) {
      if (!IsOpen(p, e) || &Of(p, e) != &c || c.ended[e] || (e == kServer && !c.accepted)) continue;
      const bool over = c.finished[1 - e] || pair.dead[1 - e] || (e == kClient && pair.linger_zero);
      if (over) Fail("somebody waits for an end of the stream that does not come");
      if (c.got[e] != c.sent[1 - e]) Fail("bytes that never come");
    }
    for (int e = 0; e < 2; ++e) {
      if (!IsOpen(p, e) || &Of(p, e) != &c || !c.closed[1 - e] || pair.dead[1 - e]) continue;
      if (c.got[1 - e] < c.sent[e] && !pair.tcp[e].reset()) Fail("no RST for what nobody reads");
    }
  }
}
void ParkedWorld::CheckClosed() {
  for (int p = 0; p < kPairs; ++p) {
    const Pair& pair = *pairs_[p];
    if (!Believed(p)) continue;
    const LifeState state = board_.words[p].Load().State();
    const bool both =
        !pair.dead[0] && !pair.dead[1] && !pair.kernel_closed[0] && !pair.kernel_closed[1];
    if (both && state == LifeState::kParked) continue;
    if (!pair.kernel_closed[0] || !pair.kernel_closed[1]) Fail("a descriptor stays open for ever");
  }
}
void ParkedWorld::Settle() {
  quiet_ = true;
  CheckAsleep();
  DrainAll();
  CheckOpen();
  for (int p = 0; p < kPairs; ++p) {
    Close(p, kClient);
    Close(p, kServer);
  }
  DrainAll();
  for (int p = 0; p < kPairs; ++p) Close(p, kServer);
  DrainAll();
  CheckClosed();
}

}  // namespace xenloop::simulation
