// Records before which the kernel has not been read dry: who sends them, and in which order, when
// an end goes elsewhere, dies or is stopped.
#include "tests/unit/channel/datagram_routes.h"

namespace xenloop {
namespace {

TEST_F(DatagramRoutes, WhatIsInDoubtGoesByTheKernelBeforeWhatIsNewer) {
  kernel.queue = {"k1"};
  Pair& pair = Join();
  SendBy(pair, "f2");
  SendBy(pair, "f3");
  pair.sender.Leave(kernel);
  EXPECT_EQ(pair.sender.route.load(), DatagramRoute::kKernel);
  EXPECT_FALSE(receiver.Readable());
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  SendBy(pair, "k4");
  EXPECT_EQ(All(), "k1 f2 f3 k4 ");
}

TEST_F(DatagramRoutes, WhatHasWokenASleeperComesBeforeWhatIsLeft) {
  Pair& pair = JoinAndBegin();
  receiver.queue.Sleepers(1);
  SendBy(pair, "k2");
  receiver.queue.Sleepers(0);
  SendBy(pair, "f3");
  pair.sender.Leave(kernel);
  SendBy(pair, "k4");
  EXPECT_EQ(All(), "k2 f3 k4 ");
}

TEST_F(DatagramRoutes, WhatAPeekHasShownIsInDoubtNoMore) {
  Pair& pair = JoinAndBegin();
  receiver.queue.Sleepers(1);
  SendBy(pair, "k2");
  SendBy(pair, "f3");
  EXPECT_EQ(Next(), "k2");
  EXPECT_EQ(ReceiveFrom(receiver, kernel, /*peek=*/true), "f3");
  kernel.queue.push_back("stranger");
  pair.sender.Leave(kernel);
  SendBy(pair, "k4");
  EXPECT_EQ(All(), "f3 stranger k4 ");
}

TEST_F(DatagramRoutes, WhatIsInDoubtIsAskedBackFromASenderThatLives) {
  kernel.queue = {"k1"};
  Pair& pair = Join();
  SendBy(pair, "f2");
  receiver.queue.EndInOrder(pair.slot);
  EXPECT_TRUE(receiver.queue.IsOwed());
  EXPECT_FALSE(receiver.queue.HasEnded(pair.slot));
  SendBy(pair, "k3");
  EXPECT_FALSE(receiver.queue.IsOwed());
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  EXPECT_EQ(All(), "k1 f2 k3 ");
}

TEST_F(DatagramRoutes, WhatADeadSenderWasToSendAgainIsTakenFromItsFifo) {
  kernel.queue = {"k1"};
  Pair& pair = Join();
  SendBy(pair, "f2");
  SendBy(pair, "f3");
  receiver.queue.EndInOrder(pair.slot);
  EXPECT_FALSE(receiver.Readable());
  receiver.queue.End(pair.slot);
  receiver.queue.Reclaim(pair.slot);
  EXPECT_FALSE(receiver.queue.IsOwed());
  EXPECT_FALSE(receiver.queue.HasEnded(pair.slot));
  EXPECT_EQ(All(), "k1 f2 f3 ");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
}

// It is stopped, and goes on later.
TEST_F(DatagramRoutes, WhatASenderHasSentAgainIsNotTakenOnceMore) {
  kernel.queue = {"k1"};
  Pair& pair = Join();
  const DatagramFifo& fifo = pair.memory.fifo;
  SendBy(pair, "f2");
  SendBy(pair, "f3");
  kernel.errors = {EAGAIN};
  pair.sender.Leave(kernel);
  ASSERT_EQ(pair.sender.route.load(), DatagramRoute::kFlushing);
  EXPECT_TRUE(fifo.BeginFlush());
  kernel.queue.push_back("f2");
  fifo.Flushed(pair.sender.residue_begin += RecordBytes(2));
  fifo.EndPut();
  receiver.queue.ReclaimAll();
  EXPECT_EQ(All(), "k1 f2 f3 ");
  SendBy(pair, "k4");
  EXPECT_EQ(pair.sender.route.load(), DatagramRoute::kKernel);
  EXPECT_EQ(All(), "k4 ");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
}

TEST_F(DatagramRoutes, WhatASenderIsSendingAgainAtThatMomentIsItsOwn) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  SendBy(pair, "f2");
  receiver.queue.EndInOrder(pair.slot);
  EXPECT_TRUE(pair.memory.fifo.BeginFlush());
  receiver.queue.ReclaimAll();
  EXPECT_EQ(All(), "f2 ");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
}

TEST_F(DatagramRoutes, WhatWasAskedBackForOthersIsNotReclaimed) {
  kernel.queue = {"k1"};
  Pair& pair = Join();
  SendBy(pair, "f2");
  receiver.queue.Return(/*whatever_order=*/true);
  receiver.queue.ReclaimAll();
  EXPECT_TRUE(receiver.queue.IsOwed());
  EXPECT_FALSE(receiver.Readable());
}

TEST_F(DatagramRoutes, WhatIsInDoubtGoesToNoNextOwnerOfThePort) {
  Pair& pair = Join();
  SendBy(pair, "old");
  kernel.receiver_is_there = false;  // it has been killed
  pair.sender.Leave(kernel);
  SendBy(pair, "new");
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"new"}));
}

TEST_F(DatagramRoutes, WhatCameByTheKernelBetweenJoinAndBeginningIsOlder) {
  dry_at_join = true;
  Pair& pair = Join();
  kernel.queue.push_back("k1");
  pair.sender.account.after_kernel = true;
  SendBy(pair, "f2");
  pair.sender.Leave(kernel);
  SendBy(pair, "k3");
  EXPECT_EQ(All(), "k1 f2 k3 ");
}

}  // namespace
}  // namespace xenloop
