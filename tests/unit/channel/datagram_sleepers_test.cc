// Receivers that sleep in the kernel beside FIFOs, and what wakes them.
#include "tests/unit/channel/datagram_routes.h"

namespace xenloop {
namespace {

TEST_F(DatagramRoutes, TheFirstDatagramWakesASleeperByTheKernel) {
  Pair& pair = JoinAndBegin();
  receiver.queue.Sleepers(1);
  EXPECT_FALSE(receiver.Readable());
  for (const char* text : {"1", "2", "3"}) SendBy(pair, text);
  EXPECT_EQ(kernel.queue.size(), 1u);
  receiver.queue.Sleepers(0);
  SendBy(pair, "4");
  EXPECT_EQ(All(), "1 2 3 4 ");
  receiver.queue.Sleepers(1);  // another sleep
  SendBy(pair, "5");
  EXPECT_EQ(kernel.queue.size(), 1u);
  EXPECT_EQ(All(), "5 ");
}

TEST_F(DatagramRoutes, EachOfSeveralSleepersIsWoken) {
  Pair& pair = JoinAndBegin();
  receiver.queue.Sleepers(2);
  for (const char* text : {"1", "2", "3"}) SendBy(pair, text);
  EXPECT_EQ(kernel.queue.size(), 3u);
  EXPECT_EQ(All(), "1 2 3 ");
}

TEST_F(DatagramRoutes, OneThatTheKernelDidNotTakeWakesNobody) {
  Pair& pair = JoinAndBegin();
  receiver.queue.Sleepers(1);
  const iovec iov{const_cast<char*>("x"), 1};
  EXPECT_EQ(pair.sender.Send(kernel, IovCursor(&iov, 1), ++clock), Sending::kRing);
  pair.sender.Rang(false);
  SendBy(pair, "1");
  EXPECT_EQ(kernel.queue.size(), 1u);
}

// Who is about to sleep looks once more.
TEST_F(DatagramRoutes, WhoHasSomethingToReadDoesNotSleep) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "1");
  receiver.queue.Sleepers(1);
  EXPECT_TRUE(receiver.Readable());
  SendBy(pair, "2");
  EXPECT_TRUE(kernel.queue.empty());
  EXPECT_EQ(All(), "1 2 ");
}

// But for one who has been told of that edge.
TEST_F(DatagramRoutes, WhoWaitsForAnEdgeIsWokenByTheKernelInOrder) {
  Pair& pair = JoinAndBegin();
  SendBy(pair, "1");
  receiver.queue.Sleepers(1, /*for_edges=*/true);
  SendBy(pair, "2");
  EXPECT_EQ(kernel.queue.size(), 1u);
  EXPECT_EQ(pair.sender.route.load(), DatagramRoute::kLeft);
  EXPECT_EQ(All(), "1 2 ");
}

TEST_F(DatagramRoutes, ASenderThatStopsInTheMiddleDoesNotHoldASleeper) {
  Pair& pair = JoinAndBegin();
  pair.memory.fifo.board().putting.store(1);
  receiver.queue.Sleepers(1);
  EXPECT_TRUE(pair.memory.fifo.ProducerSealed());
  SendBy(pair, "1");
  EXPECT_EQ(kernel.queue.size(), 1u);
  EXPECT_EQ(All(), "1 ");
}

}  // namespace
}  // namespace xenloop
