// The ends of a connection out of order: close with unread data, SO_LINGER 0, a peer that is
// killed. What was sent before is still delivered; then comes the error that TCP gives.

#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <initializer_list>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class ResetTest : public PairTest {
 protected:
  int TakeSocketError() {
    int error = -1;
    socklen_t length = sizeof(error);
    EXPECT_EQ(getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length), 0);
    return error;
  }

  // All `total` bytes, then ECONNRESET once, then the end of the stream.
  void ExpectDataThenReset(size_t total) {
    const Transferred all = ReceiveBytes(fd(), &pair().received, kToEnd);
    EXPECT_EQ(all.bytes, total);
    EXPECT_EQ(all.error, ECONNRESET) << strerrorname_np(all.error);
    pair().ReceiveEndOfStream();
    char byte = 0;
    EXPECT_EQ(Call(send(fd(), &byte, 1, MSG_NOSIGNAL)), Failed(EPIPE));
  }

  // Both directions are shut down by these, in turn: what comes after that is refused.
  void ExpectThatNothingMayCome(std::initializer_list<int> hows) {
    for (const int how : hows) ASSERT_EQ(shutdown(fd(), how), 0);
    peer().ReceiveEndOfStream();
    EXPECT_EQ(Revents(fd(), 0, 0) & POLLERR, 0);
    peer().Send(10);
    EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
    EXPECT_EQ(TakeSocketError(), ECONNRESET);
    EXPECT_EQ(peer().Do(Op::kPoll, 0, kSoonMs).result & POLLERR, POLLERR);
  }

  char buffer_[1000] = {};
};
INSTANTIATE_TEST_SUITE_P(, ResetTest, AllVariants(), VariantName);

TEST_P(ResetTest, CloseWithUnreadDataResets) {
  pair().Send(100);
  EXPECT_EQ(peer().Do(Op::kPoll, POLLIN, kSoonMs).result, POLLIN);
  peer().Close();
  ExpectDataThenReset(0);
}

TEST_P(ResetTest, CloseWithUnreadDataAfterItsOwn) {
  peer().Send(50);
  pair().Send(100);
  MarkAtPeer();
  EXPECT_EQ(peer().Do(Op::kPoll, POLLIN, kSoonMs).result, POLLIN);
  peer().Close();
  EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
  ExpectDataThenReset(50);
}

TEST_P(ResetTest, LingerZero) {
  peer().Reset();
  ExpectDataThenReset(0);
}

TEST_P(ResetTest, LingerZeroAfterData) {
  peer().Send(50);
  ASSERT_TRUE(WaitForBytes(fd(), 50));
  peer().Reset();
  EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
  ExpectDataThenReset(50);
}

TEST_P(ResetTest, WhatComesAfterAShutdownOfBothWays) {
  peer().Send(100);
  pair().Receive(100);
  Mark();
  ExpectThatNothingMayCome({SHUT_RDWR});
}

TEST_P(ResetTest, WhatComesAfterTwoShutdowns) {
  pair().ExpectBothWaysWork();
  ExpectThatNothingMayCome({SHUT_RD, SHUT_WR});
}

TEST_P(ResetTest, WhatComesAfterTwoShutdownsInTheOtherOrder) {
  pair().ExpectBothWaysWork();
  ExpectThatNothingMayCome({SHUT_WR, SHUT_RD});
}

TEST_P(ResetTest, UnreadBytesOutliveAShutdownOfBothWays) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  ASSERT_EQ(shutdown(fd(), SHUT_RDWR), 0);
  peer().ReceiveEndOfStream();
  pair().Receive(40);
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(Revents(fd(), 0, kNothingMs) & POLLERR, 0);
  int unread = 0;
  EXPECT_EQ(ioctl(fd(), FIONREAD, &unread), 0);
  EXPECT_GE(unread, 60);
  pair().Receive(60);
  EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Done(0));
  EXPECT_EQ(TakeSocketError(), 0);
}

TEST_P(ResetTest, UnreadBytesOutliveWhatComesAfterAShutdownOfBothWays) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  ASSERT_EQ(shutdown(fd(), SHUT_RDWR), 0);
  peer().ReceiveEndOfStream();
  peer().Send(10);
  EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
  pair().Receive(100);
  EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Failed(ECONNRESET));
}

TEST_P(ResetTest, UnreadBytesBehindAShutdownAreAResetWhenClosed) {
  for (const int how : {SHUT_RDWR, SHUT_WR}) {
    const auto pair = AnotherPair();
    ASSERT_NE(pair, nullptr);
    pair->peer().Send(100);
    ASSERT_TRUE(WaitForBytes(pair->fd(), 100));
    ASSERT_EQ(shutdown(pair->fd(), how), 0);
    pair->peer().ReceiveEndOfStream();
    EXPECT_EQ(pair->peer().Do(Op::kPoll, 0, 0).result & POLLERR, 0);
    pair->Close();
    EXPECT_EQ(pair->peer().Do(Op::kPoll, 0, kSoonMs).result & POLLERR, POLLERR);
  }
}

TEST_P(ResetTest, BlockedReceiveIsWoken) {
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  EXPECT_TRUE(StillBlocked(call));
  peer().Reset();
  EXPECT_EQ(call.get(), Failed(ECONNRESET));
  EXPECT_EQ(TakeSocketError(), 0);
}

TEST_P(ResetTest, ErrorIsTakenOnce) {
  peer().Reset();
  EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
  EXPECT_EQ(TakeSocketError(), ECONNRESET);
  EXPECT_EQ(TakeSocketError(), 0);
  pair().ReceiveEndOfStream();
}

TEST_P(ResetTest, ResetWithOurDataOnItsWay) {
  FillUp(fd(), &pair().sent);
  Mark();
  peer().Reset();
  ExpectDataThenReset(0);
}

TEST_P(ResetTest, OurOwnResetIsSeenByThePeer) {
  pair().Send(50);
  EXPECT_EQ(peer().Do(Op::kPoll, POLLIN, kSoonMs).result, POLLIN);
  const linger now{1, 0};
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
  Mark();
  ASSERT_EQ(pair().Close(), 0);
  peer().StartReceive(kToEnd);
  const Reply reply = peer().Wait();
  // A marked point may have left bytes that were no longer the kernel's to keep.
  if (CurrentMode() != Mode::kSwitching) {
    EXPECT_EQ(reply.result, 50);
  }
  EXPECT_EQ(reply.error, ECONNRESET);
}

TEST_P(ResetTest, GetpeernameAfterReset) {
  peer().Reset();
  EXPECT_EQ(Revents(fd(), 0, kSoonMs) & POLLERR, POLLERR);
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  EXPECT_EQ(Call(getpeername(fd(), reinterpret_cast<sockaddr*>(&address), &length)),
            Failed(ENOTCONN));
  EXPECT_EQ(Call(getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &length)), Done(0));
}

class KilledPeerTest : public ResetTest {};
INSTANTIATE_TEST_SUITE_P(, KilledPeerTest, ProcessVariants(), VariantName);

TEST_P(KilledPeerTest, IdlePeerGivesTheEndOfStream) {
  peer().Kill();
  pair().ReceiveEndOfStream();
}

TEST_P(KilledPeerTest, WhatWasSentIsDelivered) {
  peer().Send(100000, {5000, 5});
  peer().Kill();
  Mark();
  pair().Receive(100000, {3000, 0});
  pair().ReceiveEndOfStream();
}

TEST_P(KilledPeerTest, BlockedReceiveIsWoken) {
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Kill();
  EXPECT_EQ(call.get(), Done(0));
}

TEST_P(KilledPeerTest, InTheMiddleOfAFloodThatIsRead) {
  Peer::FloodedBytes();
  peer().Start(Op::kFlood, 0, 20000);
  pair().Receive(2 * 1000 * 1000, {50000, 5});
  peer().Kill();
  const uint64_t taken = Peer::FloodedBytes();
  const Transferred rest = ReceiveBytes(fd(), &pair().received, kToEnd, {50000, 0});
  EXPECT_EQ(rest.error, 0) << strerrorname_np(rest.error);
  EXPECT_GE(pair().received.offset(), taken) << "bytes that send() had taken are lost";
}

TEST_P(KilledPeerTest, InTheMiddleOfAFloodThatIsHeldBack) {
  Peer::FloodedBytes();
  peer().Start(Op::kFlood, 0, 20000);
  EXPECT_TRUE(peer().StillBlocked());
  Mark();
  EXPECT_TRUE(peer().StillBlocked());
  peer().Kill();
  const uint64_t taken = Peer::FloodedBytes();
  EXPECT_GT(taken, 0u);
  const Transferred rest = ReceiveBytes(fd(), &pair().received, kToEnd, {50000, 0});
  EXPECT_EQ(rest.error, 0) << strerrorname_np(rest.error);
  EXPECT_GE(pair().received.offset(), taken) << "bytes that send() had taken are lost";
}

TEST_P(KilledPeerTest, WithUnreadDataGivesAReset) {
  peer().Send(50);
  pair().Send(100);
  EXPECT_EQ(peer().Do(Op::kPoll, POLLIN, kSoonMs).result, POLLIN);
  peer().Kill();
  ExpectDataThenReset(50);
}

TEST_P(KilledPeerTest, SenderThatIsHeldBackGetsAnError) {
  FillUp(fd(), &pair().sent);
  auto call = InThread([this] {
    Outcome outcome{};
    do {
      outcome = Call(send(fd(), buffer_, sizeof(buffer_), MSG_NOSIGNAL));
    } while (outcome.value > 0);
    return outcome;
  });
  EXPECT_TRUE(StillBlocked(call));
  peer().Kill();
  EXPECT_EQ(call.get(), Failed(ECONNRESET));
}

}  // namespace
}  // namespace conformance
