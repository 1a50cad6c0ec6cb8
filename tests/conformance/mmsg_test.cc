// recvmmsg and sendmmsg: several messages a call, and what the count and the lengths say when data
// runs out in the middle.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kMessages = 4;
constexpr size_t kPieceBytes = 50;  // two pieces a message

class MmsgTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    for (int i = 0; i < kMessages; ++i) {
      pieces_[2 * i] = {bytes_ + 100 * i, kPieceBytes};
      pieces_[2 * i + 1] = {bytes_ + 100 * i + kPieceBytes, kPieceBytes};
      messages_[i] = mmsghdr{};
      messages_[i].msg_hdr.msg_iov = &pieces_[2 * i];
      messages_[i].msg_hdr.msg_iovlen = 2;
      messages_[i].msg_len = 4711;
    }
  }

  char bytes_[100 * kMessages] = {};
  iovec pieces_[2 * kMessages];
  mmsghdr messages_[kMessages];
};
INSTANTIATE_TEST_SUITE_P(, MmsgTest, AllVariants(), VariantName);

TEST_P(MmsgTest, SendsAll) {
  pair().sent.Fill(bytes_, sizeof(bytes_));
  EXPECT_EQ(Call(sendmmsg(fd(), messages_, kMessages, 0)), Done(kMessages));
  for (const mmsghdr& message : messages_) EXPECT_EQ(message.msg_len, 100u);
  peer().Receive(sizeof(bytes_));
}

TEST_P(MmsgTest, SendsNothingOfNoMessages) {
  EXPECT_EQ(Call(sendmmsg(fd(), messages_, 0, 0)), Done(0));
  EXPECT_EQ(messages_[0].msg_len, 4711u);
  pair().ExpectBothWaysWork();
}

TEST_P(MmsgTest, SendThatFailsAtOnce) {
  const size_t filled = FillUp(fd(), &pair().sent);
  EXPECT_EQ(Call(sendmmsg(fd(), messages_, kMessages, MSG_DONTWAIT)), Failed(EAGAIN));
  Mark();
  peer().Receive(filled);
}

TEST_P(MmsgTest, SendAfterShutdown) {
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  EXPECT_EQ(Call(sendmmsg(fd(), messages_, kMessages, MSG_NOSIGNAL)), Failed(EPIPE));
}

TEST_P(MmsgTest, ReceivesAll) {
  peer().Send(400);
  ASSERT_TRUE(WaitForBytes(fd(), 400));
  EXPECT_EQ(Call(recvmmsg(fd(), messages_, kMessages, 0, nullptr)), Done(kMessages));
  for (const mmsghdr& message : messages_) {
    EXPECT_EQ(message.msg_len, 100u);
    EXPECT_EQ(message.msg_hdr.msg_flags, 0);
  }
  EXPECT_TRUE(pair().received.Take(bytes_, 400));
}

TEST_P(MmsgTest, ReceivesWhatIsThereWithDontWait) {
  peer().Send(250);
  ASSERT_TRUE(WaitForBytes(fd(), 250));
  EXPECT_EQ(Call(recvmmsg(fd(), messages_, kMessages, MSG_DONTWAIT, nullptr)), Done(3));
  EXPECT_EQ(messages_[0].msg_len, 100u);
  EXPECT_EQ(messages_[1].msg_len, 100u);
  EXPECT_EQ(messages_[2].msg_len, 50u);
  EXPECT_TRUE(pair().received.Take(bytes_, 250));
  Mark();
  EXPECT_EQ(Call(recvmmsg(fd(), messages_, kMessages, MSG_DONTWAIT, nullptr)), Failed(EAGAIN));
}

TEST_P(MmsgTest, WaitForOneWaitsForTheFirstOnly) {
  auto call = InThread(
      [this] { return Call(recvmmsg(fd(), messages_, kMessages, MSG_WAITFORONE, nullptr)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(70);
  EXPECT_EQ(call.get(), Done(1));
  EXPECT_EQ(messages_[0].msg_len, 70u);
  EXPECT_TRUE(pair().received.Take(bytes_, 70));
}

TEST_P(MmsgTest, BlocksForTheNextMessageAndSeesTheEnd) {
  auto call = InThread([this] { return Call(recvmmsg(fd(), messages_, kMessages, 0, nullptr)); });
  peer().Send(100);
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Shutdown(SHUT_WR);
  // At the end of the stream every remaining message is an empty one.
  EXPECT_EQ(call.get(), Done(kMessages));
  EXPECT_EQ(messages_[0].msg_len, 100u);
  EXPECT_EQ(messages_[1].msg_len, 0u);
  EXPECT_EQ(messages_[3].msg_len, 0u);
  EXPECT_TRUE(pair().received.Take(bytes_, 100));
}

TEST_P(MmsgTest, TimeOutIsLookedAtAfterEachMessage) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  timespec limit{0, 0};
  EXPECT_EQ(Call(recvmmsg(fd(), messages_, kMessages, 0, &limit)), Done(1));
  EXPECT_EQ(messages_[0].msg_len, 100u);
  EXPECT_TRUE(pair().received.Take(bytes_, 100));
}

}  // namespace
}  // namespace conformance
