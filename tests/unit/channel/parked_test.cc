// Lives of a parked pair: claim, queue, accept, end of a stream, close in either order, what ends
// all lives, what a peer that keeps no rule can do; and two threads with a third that seals.
#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "tests/unit/channel/parked_fixture.h"

namespace xenloop {
namespace {

TEST(ParkedEnd, OneLifeAfterTheOther) {
  PlainPair pair;
  for (uint64_t life = 1; life <= 3; ++life) {
    ASSERT_TRUE(pair.Connect(life));
    pair.there().Put("ask");
    EXPECT_TRUE(pair.client.SentInTime(life));
    ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
    EXPECT_EQ(pair.there().Take(10), "ask");
    EXPECT_FALSE(pair.server[0].AtEnd(life));
    EXPECT_EQ(pair.client.Close(life), LifeClose::kClosed);
    EXPECT_TRUE(pair.server[0].AtEnd(life));
    EXPECT_FALSE(pair.client.Claim(life + 1));  // not yet
    EXPECT_EQ(pair.server[0].Close(life), LifeClose::kParked);
  }
  EXPECT_EQ(pair.Word(), LifeWord::Of(3, LifeState::kParked));
}
// A thread of the server sleeps where no life would wake it.
TEST(ParkedEnd, ALifeThatIsTakenBackLeavesThePairAsItWas) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_TRUE(pair.client.Withdraw());
  EXPECT_EQ(pair.Word(), LifeWord::Of(1, LifeState::kParked));
  EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
  EXPECT_FALSE(pair.client.Open(1));
  ASSERT_TRUE(pair.Connect(2));
  EXPECT_EQ(pair.Accept(), LifeAccept::kLive);
  EXPECT_FALSE(pair.client.Withdraw());  // accepted: it has begun
  EXPECT_TRUE(pair.client.Open(2));
}
TEST(ParkedEnd, ALifeThatHasEndedIsNotTakenBack) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.server[0].End();
  EXPECT_FALSE(pair.client.Withdraw());
  EXPECT_EQ(pair.Accept(), LifeAccept::kDead);
}
TEST(ParkedBoard, IsFullWithAsManyAsMayWait) {
  PlainPair pair;
  pair.board().most_waiting = 2;
  EXPECT_FALSE(IsFull(pair.board()));
  Hint(pair.board(), 5);
  EXPECT_FALSE(IsFull(pair.board()));
  Hint(pair.board(), 63);
  EXPECT_TRUE(IsFull(pair.board()));
  TakeHintBack(pair.board(), 5);
  EXPECT_FALSE(IsFull(pair.board()));
  pair.board().most_waiting = 0;
  EXPECT_TRUE(IsFull(pair.board()));
}
TEST(ParkedBoard, WhatIsBehindTheFenceWaits) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(7));
  EXPECT_EQ(AcceptFirst(pair.board(), pair.server, 6).result, LifeAccept::kNothing);
  const AcceptedLife life = AcceptFirst(pair.board(), pair.server, 7);
  EXPECT_EQ(life.result, LifeAccept::kLive);
  EXPECT_EQ(life.slot, 0);
}
TEST(ParkedEnd, APairIsSetUpInALifeThatIsOpen) {
  PlainPair pair;
  pair.Write(LifeWord::Of(7, LifeState::kLive));
  pair.client =
      ParkedEnd(Role::kClient, &pair.word(), pair.there().fifo, pair.back().fifo, /*life=*/7);
  pair.server[0] =
      ParkedEnd(Role::kServer, &pair.word(), pair.back().fifo, pair.there().fifo, /*life=*/7);
  pair.there().Put("x");
  pair.there().Take(1);
  EXPECT_FALSE(pair.client.Claim(8));
  EXPECT_EQ(pair.server[0].Close(7), LifeClose::kClosed);
  EXPECT_EQ(pair.client.Close(7), LifeClose::kParked);
  ASSERT_TRUE(pair.Connect(8));
  EXPECT_EQ(pair.Accept(), LifeAccept::kLive);
}
TEST(ParkedEnd, TheServerMayCloseFirst) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  EXPECT_EQ(pair.server[0].Close(1), LifeClose::kClosed);
  EXPECT_TRUE(pair.client.AtEnd(1));
  EXPECT_EQ(pair.client.Close(1), LifeClose::kParked);
}
TEST(ParkedEnd, AConnectionThatIsClosedBeforeItIsAcceptedIsAcceptedStill) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.there().Put("x");
  EXPECT_EQ(pair.client.Close(1), LifeClose::kClosed);
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  EXPECT_FALSE(pair.server[0].AtEnd(1));
  EXPECT_EQ(pair.there().Take(1), "x");
  EXPECT_TRUE(pair.server[0].AtEnd(1));
  EXPECT_EQ(pair.server[0].Close(1), LifeClose::kParked);
}
TEST(ParkedEnd, HalfCloseEndsOneDirection) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  EXPECT_TRUE(pair.client.Finish(1));
  EXPECT_TRUE(pair.client.SendFinished(1));
  EXPECT_TRUE(pair.server[0].AtEnd(1));
  EXPECT_TRUE(pair.server[0].MaySend(1));
  EXPECT_FALSE(pair.client.AtEnd(1));
}
TEST(ParkedEnd, WhatIsUnreadMakesTheCloseReal) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  pair.back().Put("x");
  EXPECT_EQ(pair.client.Close(1), LifeClose::kReal);
  EXPECT_EQ(pair.Word().State(), LifeState::kDead);
  EXPECT_TRUE(pair.server[0].Ended());
  EXPECT_TRUE(pair.back().fifo.Sealed());
}
TEST(ParkedEnd, WhatTheOtherHasNotReadMakesTheSecondCloseReal) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  EXPECT_EQ(pair.client.Close(1), LifeClose::kClosed);
  pair.back().Put("x");
  EXPECT_FALSE(pair.server[0].SentInTime(1));
  EXPECT_EQ(pair.server[0].Close(1), LifeClose::kReal);
}
TEST(ParkedEnd, AThreadOfAFormerLifeIsToldSo) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  pair.client.Close(1);
  pair.server[0].Close(1);
  ASSERT_TRUE(pair.Connect(2));
  EXPECT_FALSE(pair.client.MaySend(1));
  EXPECT_FALSE(pair.client.Finish(1));
  EXPECT_TRUE(pair.client.MaySend(2));
}
TEST(ParkedEnd, TheResetKeepsASeal) {
  PlainPair pair;
  pair.there().Put("x");
  pair.there().Take(1);
  pair.there().header()->producer.fetch_or(1);
  EXPECT_FALSE(pair.client.Claim(1));
  EXPECT_TRUE(pair.there().fifo.Sealed());
  EXPECT_EQ(pair.Word().State(), LifeState::kDead);
}
TEST(ParkedEnd, TheResetBeginsAtZero) {
  PlainPair pair;
  pair.Ask();
  ASSERT_TRUE(pair.Connect(1));
  EXPECT_EQ(pair.there().header()->producer.load(), 0u);
  EXPECT_EQ(pair.there().header()->consumer.load(), 0u);
}
TEST(ParkedEnd, ADeadServerIsNotConnectedTo) {
  PlainPair pair;
  ASSERT_TRUE(pair.client.Claim(1));
  EXPECT_FALSE(pair.client.Queue(/*peer_dead=*/true));
  EXPECT_FALSE(pair.client.Claim(2));
  EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
}
TEST(ParkedEnd, TheIdleCloseTakesNoneThatIsInUse) {
  PlainPair pair;
  ASSERT_TRUE(pair.client.Claim(1));
  EXPECT_FALSE(pair.server[0].EndIdle());
  ASSERT_TRUE(pair.client.Queue(false));
  EXPECT_FALSE(pair.client.EndIdle());
  Hint(pair.board(), 0);
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  pair.client.Close(1);
  pair.server[0].Close(1);
  EXPECT_TRUE(pair.server[0].EndIdle());
  EXPECT_FALSE(pair.Connect(2));
}
TEST(ParkedEnd, AnEndBeforeTheAcceptIsAcceptedAndIsTcps) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.client.End();
  EXPECT_TRUE(pair.server[0].Ended());
  pair.server[0].End();
  EXPECT_FALSE(pair.server[0].MayLetGo());
  EXPECT_EQ(pair.Accept(), LifeAccept::kDead);
  EXPECT_TRUE(pair.server[0].MayLetGo());
  EXPECT_FALSE(pair.server[0].MaySend(1));
  EXPECT_EQ(pair.server[0].Close(1), LifeClose::kReal);
}
TEST(ParkedEnd, AForkMakesALifeTheLast) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  pair.server[0].MarkLast();
  EXPECT_TRUE(pair.client.MaySend(1));
  EXPECT_EQ(pair.client.Close(1), LifeClose::kReal);
  PlainPair parked;
  parked.server[0].MarkLast();
  EXPECT_FALSE(parked.Connect(1));
}
TEST(ParkedEnd, AListenerThatClosesEndsWhatItHasNotAccepted) {
  PlainPair waiting;
  ASSERT_TRUE(waiting.Connect(1));
  EXPECT_TRUE(waiting.server[0].EndOfListener());
  EXPECT_TRUE(waiting.server[0].MayLetGo());
  EXPECT_EQ(waiting.Accept(), LifeAccept::kNothing);
  EXPECT_FALSE(waiting.client.MaySend(1));

  PlainPair open;
  ASSERT_TRUE(open.Connect(1));
  ASSERT_EQ(open.Accept(), LifeAccept::kLive);
  EXPECT_FALSE(open.server[0].EndOfListener());
  EXPECT_TRUE(open.client.MaySend(1));
  EXPECT_EQ(open.server[0].Close(1), LifeClose::kReal);  // not parked any more

  PlainPair parked;
  EXPECT_FALSE(parked.server[0].EndOfListener());
  EXPECT_FALSE(parked.Connect(1));

  PlainPair ended;
  ASSERT_TRUE(ended.Connect(1));
  ended.server[0].End();
  EXPECT_TRUE(ended.server[0].EndOfListener());
  EXPECT_TRUE(ended.server[0].MayLetGo());
}

TEST(ParkedQueue, FirstQueuedFirstAccepted) {
  auto board = std::make_unique<ParkedBoard>();
  ParkedEnd server[kMostParked];
  ParkedEnd client[3];
  PlainFifo fifos[6] = {PlainFifo(4096), PlainFifo(4096), PlainFifo(4096),
                        PlainFifo(4096), PlainFifo(4096), PlainFifo(4096)};
  const int slots[3] = {40, 3, 63};
  for (int i = 0; i < 3; ++i) {
    SharedLifeWord* const word = &board->words[slots[i]];
    client[i] = ParkedEnd(Role::kClient, word, fifos[i].fifo, fifos[3 + i].fifo);
    server[slots[i]] = ParkedEnd(Role::kServer, word, fifos[3 + i].fifo, fifos[i].fifo);
    ASSERT_TRUE(client[i].Claim(static_cast<uint64_t>(i) + 1) && client[i].Queue(false));
    Hint(*board, slots[i]);
  }
  for (const int slot : slots) {
    EXPECT_TRUE(AnyWaiting(*board, server));
    EXPECT_EQ(AcceptFirst(*board, server).slot, slot);
  }
  EXPECT_FALSE(AnyWaiting(*board, server));
}
TEST(ParkedQueue, HintsForNothingCostALook) {
  PlainPair pair;
  HintAll(pair.board());
  EXPECT_FALSE(AnyWaiting(pair.board(), pair.server));
  EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
  EXPECT_EQ(pair.board().hints.load(), 0u);
  ASSERT_TRUE(pair.Connect(1));
  EXPECT_EQ(pair.Accept(), LifeAccept::kLive);
}

TEST(HostileLifeWord, QueuesWhatIsOpen) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
  pair.Write(LifeWord::Of(2, LifeState::kLive, LifeWord::kWaiting));
  HintAll(pair.board());
  EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
  EXPECT_TRUE(pair.server[0].Over());
  EXPECT_FALSE(pair.server[0].MaySend(1));
}
TEST(HostileLifeWord, QueuesAFormerLifeOrOneThatTheServerHasClosed) {
  for (const LifeWord word :
       {LifeWord::Of(1, LifeState::kLive, LifeWord::kWaiting),
        LifeWord::Of(0, LifeState::kLive, LifeWord::kWaiting),
        LifeWord::Of(9, LifeState::kLive, LifeWord::kWaiting | LifeWord::Closed(Role::kServer)),
        LifeWord::Of(9, LifeState::kParked, LifeWord::kWaiting)}) {
    PlainPair pair;
    ASSERT_TRUE(pair.Connect(1));
    ASSERT_EQ(pair.Accept(), LifeAccept::kLive);
    pair.client.Close(1);
    pair.server[0].Close(1);
    pair.Write(word);
    HintAll(pair.board());
    EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
    EXPECT_TRUE(pair.server[0].Over());
  }
}
TEST(HostileLifeWord, QueuesAnEndedPairAgain) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.server[0].End();
  ASSERT_EQ(pair.Accept(), LifeAccept::kDead);
  for (uint64_t life = 2; life < 5; ++life) {
    pair.Write(LifeWord::Of(life, LifeState::kLive, LifeWord::kWaiting));
    HintAll(pair.board());
    EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
  }
  EXPECT_TRUE(pair.server[0].MayLetGo());
}
TEST(HostileLifeWord, ParksWhatTheClientHasOpenAndWhatItHasSeenEnd) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.Write(LifeWord::Of(1, LifeState::kParked));
  EXPECT_FALSE(pair.client.Claim(2));
  EXPECT_FALSE(pair.client.MaySend(1));
  EXPECT_EQ(pair.client.Close(1), LifeClose::kReal);
  pair.Write(LifeWord::Of(1, LifeState::kParked));
  EXPECT_FALSE(pair.client.Claim(2));
}
TEST(HostileLifeWord, AnyFlagOrNumberOnAParkedOneEndsIt) {
  for (int bit = 2; bit < 64; ++bit) {
    PlainPair pair;
    pair.Write(LifeWord{1ull << bit});
    EXPECT_FALSE(pair.client.Claim(5)) << bit;
    EXPECT_TRUE(pair.client.Over()) << bit;
  }
}
TEST(HostileLifeWord, MemoryOutOfReachIsDeadAndWaitsForNobody) {
  PlainPair pair;
  ASSERT_TRUE(pair.Connect(1));
  pair.Write(LifeWord{LifeWord::kOutOfReach});
  EXPECT_TRUE(pair.server[0].Ended());
  EXPECT_FALSE(AnyWaiting(pair.board(), pair.server));
  EXPECT_EQ(pair.Accept(), LifeAccept::kNothing);
  EXPECT_FALSE(pair.client.MaySend(1));
  EXPECT_EQ(pair.client.Close(1), LifeClose::kReal);
}
TEST(HostileLifeWord, AWordThatNeverStandsStillIsNotWaitedFor) {
  PlainPair pair;
  std::atomic<bool> stop{false};
  std::thread peer([&] {
    for (uint64_t n = 0; !stop; ++n)
      pair.Write(LifeWord::Of(n % 3, LifeState::kLive, n % 2 * LifeWord::kWaiting));
  });
  for (int i = 0; i < 1000; ++i) {
    HintAll(pair.board());
    const LifeAccept result = pair.Accept();
    if (result != LifeAccept::kNothing) pair.server[0].Close(pair.server[0].life());
  }
  stop = true;
  peer.join();
}

// Two threads live as many lives as the pair gives; with `seal`, a third ends it at some moment.
void LiveTogether(uint64_t lives, int seal_after_spins) {
  PlainPair pair;
  std::atomic<bool> over{false};
  std::thread server([&] {
    while (!over) {
      if (AcceptFirst(pair.board(), pair.server).result != LifeAccept::kLive) {
        sys::Yield();
        continue;
      }
      const uint64_t life = pair.server[0].life();
      std::string text;
      while (!pair.server[0].AtEnd(life) && !pair.server[0].Ended()) text += pair.there().Take(64);
      if (pair.server[0].AtEnd(life)) {
        EXPECT_EQ(text, "life " + std::to_string(life));
      }
      if (pair.server[0].Close(life) == LifeClose::kReal) return;
    }
  });
  std::thread third([&] {
    if (seal_after_spins < 0) return;
    for (int i = 0; i < seal_after_spins; ++i) sys::Pause();
    pair.there().fifo.Seal();
  });
  uint64_t life = 0;
  while (life < lives && !pair.client.Over()) {
    if (!pair.client.Claim(life + 1)) {
      sys::Yield();
      continue;
    }
    if (!pair.client.Queue(false)) break;
    Hint(pair.board(), 0);
    ++life;
    pair.there().known_consumer = 0;
    pair.there().Put("life " + std::to_string(life));
    if (pair.client.Close(life) == LifeClose::kReal) break;
  }
  while (pair.Word().State() == LifeState::kLive && !pair.there().fifo.Sealed()) sys::Yield();
  over = true;
  server.join();
  third.join();
  if (seal_after_spins < 0) {
    EXPECT_EQ(life, lives);
  }
}
TEST(ParkedEnd, TwoThreadsLiveManyLives) { LiveTogether(1000, -1); }
TEST(ParkedEnd, AThirdSealsAtAnyMoment) {
  for (int i = 0; i < 40; ++i) LiveTogether(20, i * 20);
}

}  // namespace
}  // namespace xenloop
