// Both ends of a pair with a kernel beneath them: the order at a switch there and back, several
// senders as one queue, what is left when an end goes.
#include "tests/unit/channel/datagram_routes.h"

namespace xenloop {
namespace {

TEST_F(DatagramRoutes, TheKernelIsReadDryBeforeTheFirstRecord) {
  kernel.queue = {"k1", "k2"};
  Pair& pair = Join();
  SendBy(pair, "f1");
  SendBy(pair, "f2");
  EXPECT_TRUE(receiver.Readable());
  EXPECT_EQ(All(), "k1 k2 f1 f2 ");
  EXPECT_FALSE(receiver.Readable());
  EXPECT_EQ(pair.memory.fifo.board().started.load(), 1u);
}

TEST_F(DatagramRoutes, StrangersCannotKeepTheFirstRecordBack) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  int from_kernel = 0;
  for (;; ++from_kernel) {
    kernel.queue.push_back("k");
    ASSERT_LT(from_kernel, 1000);
    if (Next() == "f1") break;
  }
  EXPECT_GE(from_kernel, 256);  // as many as a queue holds may have been its sender's
}

TEST_F(DatagramRoutes, RecordsCannotKeepStrangersBack) {
  Pair& pair = Join();
  SendBy(pair, "f");
  EXPECT_EQ(Next(), "f");
  kernel.queue.push_back("k");
  int taken = 0;
  do {
    SendBy(pair, "f");
    ASSERT_LT(++taken, 100);
  } while (Next() != "k");
  SendBy(pair, "f");
  EXPECT_EQ(Next(), "f");
}

// Another thread, which slept in the kernel, takes the datagram that was looked at.
TEST_F(DatagramRoutes, WhatAnotherThreadTakesIsNotTakenTwice) {
  JoinAndBegin();
  struct Contended : PlainKernel {
    ssize_t Take(IovCursor* destination) {
      if (!queue.empty() && queue.front() == "theirs") queue.pop_front();
      return PlainKernel::Take(destination);
    }
  } contended;
  contended.queue = {"theirs", "ours"};
  std::string text(10, '?');
  const iovec iov{text.data(), text.size()};
  IovCursor destination(&iov, 1);
  int from = 0;
  EXPECT_EQ(receiver.Receive(contended, &destination, false, &from), 4);
  EXPECT_EQ(text.substr(0, 4), "ours");
  contended.queue = {"theirs"};
  EXPECT_EQ(receiver.Receive(contended, nullptr, false, &from), -EAGAIN);
}

TEST_F(DatagramRoutes, WhatIsLeftAtOnceStaysInTheFifoWhereTheKernelWasDryAtTheJoin) {
  dry_at_join = true;
  Pair& pair = Join();
  SendBy(pair, "f1");
  pair.sender.Leave(kernel);
  EXPECT_TRUE(kernel.queue.empty());
  SendBy(pair, "k2");
  EXPECT_EQ(All(), "f1 k2 ");
}

TEST_F(DatagramRoutes, WhatALeavingSenderHasSentComesBeforeItsNewerDatagrams) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "f2");
  SendBy(pair, "f3");
  pair.sender.Leave(kernel);
  SendBy(pair, "k4");
  EXPECT_EQ(kernel.queue.size(), 1u);
  EXPECT_EQ(pair.sender.route.load(), DatagramRoute::kLeft);
  EXPECT_EQ(All(), "f2 f3 k4 ");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  EXPECT_TRUE(pair.sender.Settle(kernel));
  EXPECT_EQ(pair.sender.route.load(), DatagramRoute::kKernel);
}

// The sender publishes, leaves and sends by the kernel while the receiver is between its look at
// the FIFOs and its look at the kernel.
TEST_F(DatagramRoutes, ANewerDatagramOfTheKernelIsNotTakenFirst) {
  Pair& pair = JoinAndBegin();
  struct Interrupted : PlainKernel {
    DatagramRoutes* test;
    Pair* pair;
    bool done = false;
    ssize_t Peek(IovCursor* destination) {
      if (!done) {
        done = true;
        test->SendBy(*pair, "f2");
        pair->sender.Leave(test->kernel);
        test->SendBy(*pair, "k3");
      }
      return test->kernel.Peek(destination);
    }
    ssize_t Take(IovCursor* destination) const { return test->kernel.Take(destination); }
  } interrupted;
  interrupted.test = this;
  interrupted.pair = &pair;
  std::string text(10, '?');
  const iovec iov{text.data(), text.size()};
  IovCursor destination(&iov, 1);
  int from = kFromKernel;
  EXPECT_EQ(receiver.Receive(interrupted, &destination, false, &from), 2);
  EXPECT_EQ(text.substr(0, 2), "f2");
  EXPECT_EQ(from, pair.slot);
  EXPECT_EQ(All(), "k3 ");
}

TEST_F(DatagramRoutes, AReturningReceiverGetsTheResidueByTheKernelBeforeNewerOnes) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "f2");
  SendBy(pair, "");
  EXPECT_TRUE(receiver.queue.Return(false));
  EXPECT_FALSE(receiver.queue.HasEnded(pair.slot));  // the socket must stay
  SendBy(pair, "k3");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"f2", "", "k3"}));
}

TEST_F(DatagramRoutes, WhatWasLeftIsNotAskedForAgainUnlessItsOrderIsNoMatter) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "f2");
  SendBy(pair, "f3");
  pair.sender.Leave(kernel);
  SendBy(pair, "k4");
  EXPECT_FALSE(receiver.queue.Return(false));
  EXPECT_EQ(Next(), "f2");
  EXPECT_TRUE(receiver.queue.Return(true));
  SendBy(pair, "k5");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"k4", "f3", "k5"}));
}

TEST_F(DatagramRoutes, WhatWasSentUnderAnotherNameIsNotSentAgain) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "f2");
  kernel.has_its_name = false;
  EXPECT_TRUE(receiver.queue.Return(false));
  SendBy(pair, "k3");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  EXPECT_EQ(kernel.queue, std::deque<std::string>{"k3"});
}

// Between the decision and the seals: whoever finds the decision makes the seals.
TEST_F(DatagramRoutes, ASenderNeedNotWaitForTheSealsOfAReturningReceiver) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  EXPECT_TRUE(pair.memory.fifo.Decide(Residue::kWanted));
  pair.sender.Leave(kernel);
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"f1"}));
  EXPECT_EQ(pair.memory.Take(), "none");
}

TEST_F(DatagramRoutes, AResidueThatTheKernelDoesNotTakeHoldsNewerOnesBack) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  SendBy(pair, "f2");
  EXPECT_TRUE(receiver.queue.Return(false));
  kernel.errors = {EAGAIN};
  SendBy(pair, "k3");
  EXPECT_EQ(waits, 1);
  EXPECT_TRUE(kernel.queue.empty());
  SendBy(pair, "k3");
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"f1", "f2", "k3"}));
}

TEST_F(DatagramRoutes, AnErrorThatAFlushMeetsIsKeptForTheProgram) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  EXPECT_TRUE(receiver.queue.Return(false));
  kernel.errors = {ECONNREFUSED};
  EXPECT_TRUE(pair.sender.Settle(kernel));
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"f1"}));
  EXPECT_EQ(pair.sender.pending_error, ECONNREFUSED);
}

TEST_F(DatagramRoutes, TheNextOwnerOfThePortSeesNoOldDatagram) {
  Pair& pair = Join();
  SendBy(pair, "old1");
  EXPECT_EQ(Next(), "old1");
  SendBy(pair, "old2");
  receiver.queue.Close();
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  kernel.queue.clear();  // of the closed socket; from here on it is the next owner's
  SendBy(pair, "new");
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"new"}));
}

TEST_F(DatagramRoutes, AReceiverThatClosesWhileItsResidueIsOwedEndsTheFlush) {
  Pair& pair = Join();
  SendBy(pair, "old1");
  SendBy(pair, "old2");
  EXPECT_TRUE(receiver.queue.Return(false));
  kernel.errors = {EAGAIN};
  EXPECT_FALSE(pair.sender.Settle(kernel));
  receiver.queue.Close();
  kernel.queue.clear();
  SendBy(pair, "new");
  EXPECT_EQ(kernel.queue, (std::deque<std::string>{"new"}));
}

TEST_F(DatagramRoutes, ADeadSendersDatagramsStayReadable) {
  Pair& pair = Join();
  SendBy(pair, "f1");
  SendBy(pair, "f2");
  receiver.queue.End(pair.slot);  // what the agent does when the talk ends
  EXPECT_EQ(All(), "f1 f2 ");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
}

TEST_F(DatagramRoutes, AcceleratedSendersAreReceivedInTheOrderInWhichTheySent) {
  Pair& a = Join();
  Pair& b = Join();
  Pair& c = Join();
  SendBy(c, "c1");
  SendBy(a, "a2");
  SendBy(b, "b3");
  SendBy(a, "a4");
  EXPECT_EQ(Next(), "c1");
  SendBy(c, "c5");
  SendBy(b, "b6");
  EXPECT_EQ(All(), "a2 b3 a4 c5 b6 ");
}

TEST_F(DatagramRoutes, AllSendersTogetherFillOneQueue) {
  Pair& a = Join();
  Pair& b = Join();
  EXPECT_EQ(Next(), "none");
  for (int i = 0; i < 300; ++i) {
    SendBy(a, "a" + std::to_string(i));
    SendBy(b, "b" + std::to_string(i));
  }
  for (int i = 0; i < 128; ++i) {
    EXPECT_EQ(Next(), "a" + std::to_string(i));
    EXPECT_EQ(Next(), "b" + std::to_string(i));
  }
  EXPECT_EQ(Next(), "none");
  EXPECT_FALSE(receiver.Readable());
  EXPECT_EQ(a.sender.dropped + b.sender.dropped + receiver.queue.dropped(), 600u - 256u);
  // And the next ones find room.
  SendBy(b, "again");
  EXPECT_EQ(Next(), "again");
}

TEST_F(DatagramRoutes, APeekShowsWhatTheNextReceiveGets) {
  Pair& pair = JoinAndBegin();
  kernel.queue.push_back("stranger");
  EXPECT_EQ(ReceiveFrom(receiver, kernel, /*peek=*/true), "stranger");
  SendBy(pair, "f2");
  EXPECT_EQ(Next(), "stranger");
  EXPECT_EQ(ReceiveFrom(receiver, kernel, /*peek=*/true), "f2");
  for (int i = 0; i < 40; ++i) {
    kernel.queue.push_back("stranger");
    EXPECT_EQ(ReceiveFrom(receiver, kernel, /*peek=*/true), "f2");
  }
  EXPECT_EQ(Next(), "f2");
}

TEST_F(DatagramRoutes, ATruncatedDatagramSaysItsLengthAndIsGone) {
  Pair& pair = Join();
  SendBy(pair, "abcdef");
  SendBy(pair, "next");
  ssize_t length = 0;
  int from = kFromKernel;
  EXPECT_EQ(ReceiveFrom(receiver, kernel, false, 2, &length, &from), "ab");
  EXPECT_EQ(length, 6);
  EXPECT_EQ(from, pair.slot);
  EXPECT_EQ(Next(), "next");
}

TEST_F(DatagramRoutes, ASenderThatBreaksTheRulesLosesItsOwnDatagramsOnly) {
  Pair& bad = Join();
  Pair& good = Join();
  SendBy(bad, "b1");
  SendBy(good, "g1");
  EXPECT_EQ(Next(), "b1");
  SendBy(bad, "b2");
  SendBy(good, "g2");
  SendBy(bad, "b3");
  EXPECT_EQ(Next(), "g1");
  // The next record of the bad one grows after it has been admitted.
  DatagramView view;
  ASSERT_EQ(bad.memory.Look(&view), LookResult::kHere);
  reinterpret_cast<DatagramRecord*>(bad.memory.fifo.fifo.data + view.at)->length = 12;
  EXPECT_EQ(All(), "g2 ");
  EXPECT_TRUE(receiver.queue.HasEnded(bad.slot));
  SendBy(bad, "by kernel");
  EXPECT_EQ(All(), "by kernel ");
  // The room that its datagrams took is free again.
  for (int i = 0; i < 256; ++i) SendBy(good, "g");
  EXPECT_EQ(good.sender.dropped, 0u);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(Next(), "g");
}

TEST_F(DatagramRoutes, AStampThatRunsBackwardsEndsTheFifo) {
  Pair& pair = JoinAndBegin();
  pair.sender.account.last_stamp = 0;
  clock = 0;
  SendBy(pair, "f2");
  EXPECT_EQ(Next(), "none");
  EXPECT_TRUE(receiver.queue.HasEnded(pair.slot));
  SendBy(pair, "k3");
  EXPECT_EQ(All(), "k3 ");
}

TEST_F(DatagramRoutes, ALockTakenFromADeadThreadLosesNothing) {
  Pair& a = Join();
  Pair& b = Join();
  for (int i = 0; i < 10; ++i) {
    SendBy(a, "a");
    SendBy(b, "b");
  }
  EXPECT_EQ(Next(), "a");
  receiver.Recover();
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(Next(), "b");
    EXPECT_EQ(Next(), "a");
  }
  EXPECT_EQ(All(), "b ");
}

TEST_F(DatagramRoutes, SlotsAreFewAndComeBack) {
  for (int i = 0; i < DatagramQueue::kMostSlots; ++i) EXPECT_EQ(Join().slot, i);
  PlainDatagrams surplus;
  EXPECT_EQ(receiver.queue.Attach(surplus.fifo), -1);
  pairs[3]->sender.Leave(kernel);
  EXPECT_TRUE(receiver.queue.HasEnded(3));
  receiver.queue.Detach(3);
  EXPECT_EQ(receiver.queue.Attach(surplus.fifo), 3);
}

TEST_F(DatagramRoutes, AReceiverWithAFullListLeavesTheRestInTheFifo) {
  receiver.queue.SetLimit(1 << 30);
  Pair& pair = Join();
  SendBy(pair, "first");
  EXPECT_EQ(Next(), "first");
  int sent = 0;
  while (pair.sender.route.load() == DatagramRoute::kFifo) SendBy(pair, std::to_string(sent++));
  EXPECT_GT(sent, 2000);
  for (int i = 0; i < sent; ++i) ASSERT_EQ(Next(), std::to_string(i));
  EXPECT_EQ(Next(), "none");
  EXPECT_EQ(pair.sender.dropped, 0u);
}

}  // namespace
}  // namespace xenloop
