// The ends of a connection in order: half-close both ways, shutdown seen by blocked calls, close
// with data still on its way, close and dup2 under a blocked call.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kMany = 3 * 1000 * 1000;

class CloseTest : public PairTest {
 protected:
  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, CloseTest, AllVariants(), VariantName);

TEST_P(CloseTest, PeerSendsAndEndsWhileWeGoOn) {
  peer().Send(1000);
  MarkAtPeer();
  peer().Shutdown(SHUT_WR);
  pair().Receive(1000);
  pair().ReceiveEndOfStream();
  peer().StartReceive(kMany, {100000, 5});
  pair().Send(kMany, {100000, 5});
  peer().ExpectMoved(kMany);
  Mark();
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, WeEndWhileThePeerGoesOn) {
  pair().Send(1000);
  Mark();
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  peer().Receive(1000);
  peer().ReceiveEndOfStream();
  peer().StartSend(kMany, {100000, 5});
  pair().Receive(kMany, {100000, 5});
  peer().ExpectMoved(kMany);
  MarkAtPeer();
  peer().Shutdown(SHUT_WR);
  pair().ReceiveEndOfStream();
}

TEST_P(CloseTest, EndOfStreamComesAfterAllData) {
  peer().StartSend(kMany);
  peer().Start(Op::kShutdown, SHUT_WR);
  const Transferred all = ReceiveBytes(fd(), &pair().received, kToEnd, {70000, 5});
  EXPECT_EQ(all.bytes, kMany);
  EXPECT_EQ(all.error, 0);
  peer().ExpectMoved(kMany);
  EXPECT_EQ(peer().Wait().error, 0);
}

TEST_P(CloseTest, CloseLeavesDataOnItsWay) {
  const size_t filled = FillUp(fd(), &pair().sent);
  Mark();
  EXPECT_EQ(pair().Close(), 0);
  peer().Receive(filled, {100000, 3});
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, ShutdownLeavesDataOnItsWay) {
  const size_t filled = FillUp(fd(), &pair().sent);
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  Mark();
  peer().Receive(filled, {100000, 3});
  peer().ReceiveEndOfStream();
  peer().Send(10);
  pair().Receive(10);
}

TEST_P(CloseTest, LingeringCloseWithNothingOnItsWay) {
  const linger patient{1, 5};
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_LINGER, &patient, sizeof(patient)), 0);
  pair().Send(100);
  peer().Receive(100);
  const Stopwatch stopwatch;
  EXPECT_EQ(pair().Close(), 0);
  EXPECT_LT(stopwatch.ElapsedMs(), 3000);
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, ShutdownWakesABlockedReceive) {
  for (const int how : {SHUT_RD, SHUT_RDWR}) {
    auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
    EXPECT_TRUE(StillBlocked(call));
    Mark();
    EXPECT_TRUE(StillBlocked(call));
    ASSERT_EQ(shutdown(fd(), how), 0);
    EXPECT_EQ(call.get(), Done(0));
    if (how == SHUT_RD) {
      // The other way is still open; and on Linux what arrives later can still be read.
      pair().Send(10);
      peer().Receive(10);
      peer().Send(10);
      ASSERT_TRUE(WaitForBytes(fd(), 10));
      EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Done(10));
      EXPECT_TRUE(pair().received.Take(buffer_, 10));
      break;
    }
  }
}

TEST_P(CloseTest, ShutdownForReadingIsTheEndThoughThePeerHasNotRead) {
  pair().Send(10);
  ASSERT_EQ(shutdown(fd(), SHUT_RD), 0);
  char byte;
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(Call(recv(fd(), &byte, 1, i == 0 ? MSG_DONTWAIT : 0)), Done(0));
  pair().Send(10);
  peer().Receive(20);
  EXPECT_EQ(Call(recv(fd(), &byte, 1, 0)), Done(0));
  EXPECT_EQ(Revents(fd(), 0, 0), 0);
}

TEST_P(CloseTest, ShutdownOfBothWaysWakesEveryWaiter) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN | EPOLLRDHUP), Done(0));
  auto receiving = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  auto polling = InThread([this] { return Revents(fd(), POLLIN, -1); });
  auto waiting = InThread([&] { return set.Next(-1); });
  EXPECT_TRUE(StillBlocked(receiving));
  EXPECT_TRUE(StillBlocked(polling));
  EXPECT_TRUE(StillBlocked(waiting));
  ASSERT_EQ(shutdown(fd(), SHUT_RDWR), 0);
  EXPECT_EQ(receiving.get(), Done(0));
  EXPECT_NE(polling.get() & POLLIN, 0);
  EXPECT_NE(waiting.get() & EPOLLIN, 0u);
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, ShutdownWakesABlockedSend) {
  const size_t filled = FillUp(fd(), &pair().sent);
  auto call = InThread([this] {
    std::vector<char> bytes(1 << 20);
    Outcome outcome{};
    do {
      outcome = Call(send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    } while (outcome.value > 0);
    return outcome;
  });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  EXPECT_EQ(call.get(), Failed(EPIPE));
  peer().Receive(filled);
}

TEST_P(CloseTest, ShutdownTwiceAndWithNonsense) {
  EXPECT_EQ(Call(shutdown(fd(), 3)), Failed(EINVAL));
  EXPECT_EQ(Call(shutdown(fd(), -1)), Failed(EINVAL));
  EXPECT_EQ(Call(shutdown(fd(), SHUT_WR)), Done(0));
  EXPECT_EQ(Call(shutdown(fd(), SHUT_WR)), Done(0));
  peer().ReceiveEndOfStream();
  peer().Send(10);
  pair().Receive(10);
  peer().Shutdown(SHUT_WR);
  pair().ReceiveEndOfStream();
  // Both ends have closed: the connection is over. Which error this gives is a matter of timing.
  const Outcome again = Call(shutdown(fd(), SHUT_RDWR));
  EXPECT_TRUE(again == Failed(ENOTCONN) || again == Done(0));
}

TEST_P(CloseTest, ReadSideShutWithDataThere) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  Mark();
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  ASSERT_EQ(shutdown(fd(), SHUT_RD), 0);
  pair().Receive(100);
  pair().ReceiveEndOfStream();
  pair().Send(10);
  peer().Receive(10);
}

TEST_P(CloseTest, CloseUnderABlockedReceiveDoesNotWakeIt) {
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  EXPECT_EQ(pair().Close(), 0);
  EXPECT_TRUE(StillBlocked(call));
  // The connection lives while the call does.
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, NumberReusedUnderABlockedReceive) {
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(dup2(other->fd(), fd()), fd());
  EXPECT_TRUE(StillBlocked(call));
  // A new call on the number belongs to the other connection, the blocked one to the old.
  other->peer().Send(5);
  char other_bytes[5];
  EXPECT_EQ(Call(recv(fd(), other_bytes, 5, 0)), Done(5));
  EXPECT_TRUE(other->received.Take(other_bytes, 5));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  peer().ReceiveEndOfStream();
}

TEST_P(CloseTest, ClosedAndOpenedManyTimes) {
  for (int round = 0; round < 20; ++round) {
    const auto next = AnotherPair();
    ASSERT_NE(next, nullptr);
    next->ExpectBothWaysWork(100 + round);
    if (round % 2 == 0) next->peer().Close();
  }
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
