// The flags of recv: PEEK, WAITALL, DONTWAIT, TRUNC, ERRQUEUE, alone and together, and across a
// change of the route.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class ReceiveFlagsTest : public PairTest {
 protected:
  Outcome Recv(size_t length, int flags) { return Call(recv(fd(), buffer_, length, flags)); }

  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, ReceiveFlagsTest, AllVariants(), VariantName);

TEST_P(ReceiveFlagsTest, PeekLeavesTheBytes) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  for (const size_t length : {1, 10, 100, 50, 1000}) {
    const auto expected = static_cast<ssize_t>(std::min<size_t>(length, 100));
    EXPECT_EQ(Recv(length, MSG_PEEK), Done(expected));
    EXPECT_TRUE(pair().received.Matches(buffer_, expected));
  }
  pair().Receive(100);
  EXPECT_TRUE(StaysUnreadable(fd()));
}

TEST_P(ReceiveFlagsTest, PeekSeesMoreAsMoreArrives) {
  peer().Send(4);
  ASSERT_TRUE(WaitForBytes(fd(), 4));
  EXPECT_EQ(Recv(100, MSG_PEEK), Done(4));
  peer().Send(4);
  ASSERT_TRUE(WaitForBytes(fd(), 8));
  EXPECT_EQ(Recv(100, MSG_PEEK), Done(8));
  EXPECT_TRUE(pair().received.Matches(buffer_, 8));
  EXPECT_EQ(Recv(3, 0), Done(3));
  EXPECT_TRUE(pair().received.Take(buffer_, 3));
  EXPECT_EQ(Recv(100, MSG_PEEK), Done(5));
  EXPECT_TRUE(pair().received.Matches(buffer_, 5));
  pair().Receive(5);
}

TEST_P(ReceiveFlagsTest, PeekBlocksForTheFirstByte) {
  auto call = InThread([this] { return Recv(100, MSG_PEEK); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(6);
  EXPECT_EQ(call.get(), Done(6));
  EXPECT_TRUE(pair().received.Matches(buffer_, 6));
  pair().Receive(6);
}

TEST_P(ReceiveFlagsTest, PeekAcrossAChangeOfRoute) {
  peer().Send(100);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(WaitForBytes(fd(), 100));
    EXPECT_EQ(Recv(1000, MSG_PEEK), Done(100));
    EXPECT_TRUE(pair().received.Matches(buffer_, 100));
    Mark();
  }
  pair().Receive(100);
}

TEST_P(ReceiveFlagsTest, PeekSpansBytesOfTwoRoutes) {
  peer().Send(100);
  MarkAtPeer();
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 200));
  EXPECT_EQ(Recv(1000, MSG_PEEK), Done(200));
  EXPECT_TRUE(pair().received.Matches(buffer_, 200));
  MarkAtPeer();
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 300));
  EXPECT_EQ(Recv(1000, MSG_PEEK), Done(300));
  EXPECT_TRUE(pair().received.Matches(buffer_, 300));
  EXPECT_EQ(Recv(1000, 0), Done(300));
  EXPECT_TRUE(pair().received.Take(buffer_, 300));
}

TEST_P(ReceiveFlagsTest, SeenBytesStayVisibleAcrossAChangeOfRoute) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  Mark();
  EXPECT_EQ(Recv(1000, MSG_DONTWAIT | MSG_PEEK), Done(100));
  MarkAtPeer();
  EXPECT_EQ(Recv(1000, MSG_DONTWAIT), Done(100));
  EXPECT_TRUE(pair().received.Take(buffer_, 100));
}

TEST_P(ReceiveFlagsTest, PeekWithNothingThere) {
  EXPECT_EQ(Recv(10, MSG_PEEK | MSG_DONTWAIT), Failed(EAGAIN));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(Recv(10, MSG_PEEK), Done(0));
}

TEST_P(ReceiveFlagsTest, WaitAllWaitsForAll) {
  auto call = InThread([this] { return Recv(30, MSG_WAITALL); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_TRUE(StillBlocked(call));
  MarkAtPeer();
  peer().Send(15);
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(5);
  EXPECT_EQ(call.get(), Done(30));
  EXPECT_TRUE(pair().received.Take(buffer_, 30));
}

TEST_P(ReceiveFlagsTest, WaitAllForMoreThanFitsAnywhere) {
  constexpr size_t kBytes = 9 * 1000 * 1000;
  std::vector<char> buffer(kBytes);
  peer().StartSend(kBytes, {100000, 8});
  EXPECT_EQ(Call(recv(fd(), buffer.data(), kBytes, MSG_WAITALL)), Done(kBytes));
  EXPECT_TRUE(pair().received.Take(buffer.data(), kBytes));
  peer().ExpectMoved(kBytes);
}

TEST_P(ReceiveFlagsTest, WaitAllEndsAtTheEndOfStream) {
  auto call = InThread([this] { return Recv(30, MSG_WAITALL); });
  peer().Send(10);
  EXPECT_TRUE(StillBlocked(call));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  EXPECT_EQ(Recv(30, MSG_WAITALL), Done(0));
}

TEST_P(ReceiveFlagsTest, WaitAllDoesNotWaitWithDontWait) {
  EXPECT_EQ(Recv(30, MSG_WAITALL | MSG_DONTWAIT), Failed(EAGAIN));
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Recv(30, MSG_WAITALL | MSG_DONTWAIT), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(ReceiveFlagsTest, WaitAllWithPeek) {
  auto call = InThread([this] { return Recv(30, MSG_WAITALL | MSG_PEEK); });
  peer().Send(20);
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(30));
  EXPECT_TRUE(pair().received.Matches(buffer_, 30));
  pair().Receive(30);
}

TEST_P(ReceiveFlagsTest, DontWaitOnABlockingSocket) {
  EXPECT_EQ(Recv(10, MSG_DONTWAIT), Failed(EAGAIN));
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Recv(4, MSG_DONTWAIT), Done(4));
  EXPECT_TRUE(pair().received.Take(buffer_, 4));
  EXPECT_EQ(Recv(10, MSG_DONTWAIT), Done(6));
  EXPECT_TRUE(pair().received.Take(buffer_, 6));
  EXPECT_EQ(Recv(10, MSG_DONTWAIT), Failed(EAGAIN));
  // The flag was that call's alone.
  auto call = InThread([this] { return Recv(10, 0); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(1);
  EXPECT_EQ(call.get(), Done(1));
  EXPECT_TRUE(pair().received.Take(buffer_, 1));
}

TEST_P(ReceiveFlagsTest, TruncDiscards) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  memset(buffer_, 0x5A, sizeof(buffer_));
  EXPECT_EQ(Recv(40, MSG_TRUNC), Done(40));
  EXPECT_EQ(buffer_[0], 0x5A);
  EXPECT_EQ(buffer_[39], 0x5A);
  pair().received.Advance(40);
  Mark();
  EXPECT_EQ(Call(recv(fd(), nullptr, 10, MSG_TRUNC)), Done(10));
  pair().received.Advance(10);
  pair().Receive(50);
}

TEST_P(ReceiveFlagsTest, TruncWithPeekCountsOnly) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  memset(buffer_, 0x5A, sizeof(buffer_));
  EXPECT_EQ(Recv(1000, MSG_TRUNC | MSG_PEEK), Done(100));
  EXPECT_EQ(buffer_[0], 0x5A);
  pair().Receive(100);
}

TEST_P(ReceiveFlagsTest, TruncWithWaitAll) {
  auto call = InThread([this] { return Recv(50, MSG_TRUNC | MSG_WAITALL); });
  peer().Send(30);
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(30);
  EXPECT_EQ(call.get(), Done(50));
  pair().received.Advance(50);
  pair().Receive(10);
}

TEST_P(ReceiveFlagsTest, ErrorQueueIsEmpty) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Recv(10, MSG_ERRQUEUE), Failed(EAGAIN));
  pair().Receive(10);
}

TEST_P(ReceiveFlagsTest, UrgentDataThatIsNotThere) {
  EXPECT_EQ(Recv(10, MSG_OOB), Failed(EINVAL));
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Recv(10, MSG_OOB), Failed(EINVAL));
  pair().Receive(10);
}

TEST_P(ReceiveFlagsTest, FlagsWithoutMeaningHere) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Recv(10, MSG_NOSIGNAL | MSG_CMSG_CLOEXEC), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

// Urgent bytes are not for a FIFO: whatever the route was, they arrive as TCP brings them.
TEST_P(ReceiveFlagsTest, UrgentByteApartFromTheStream) {
  peer().SendText("before");
  peer().SendText("!", MSG_OOB);
  peer().SendText("after");
  ASSERT_TRUE((Revents(fd(), POLLPRI, kSoonMs) & POLLPRI) != 0);
  char urgent = 0;
  EXPECT_EQ(Call(recv(fd(), &urgent, 1, MSG_OOB)), Done(1));
  EXPECT_EQ(urgent, '!');
  std::string text;
  while (text.size() < 11) {
    const ssize_t count = recv(fd(), buffer_, 20, 0);
    ASSERT_GT(count, 0);
    text.append(buffer_, count);
  }
  EXPECT_EQ(text, "beforeafter");
}

TEST_P(ReceiveFlagsTest, UrgentByteInLine) {
  const int on = 1;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
  peer().SendText("before");
  peer().SendText("!", MSG_OOB);
  peer().SendText("after");
  ASSERT_TRUE(WaitForBytes(fd(), 6));
  // A receive stops at the mark.
  EXPECT_EQ(Recv(100, 0), Done(6));
  EXPECT_EQ(Call(sockatmark(fd())), Done(1));
  std::string text;
  while (text.size() < 6) {
    const ssize_t count = recv(fd(), buffer_, 20, 0);
    ASSERT_GT(count, 0);
    text.append(buffer_, count);
  }
  EXPECT_EQ(text, "!after");
}

}  // namespace
}  // namespace conformance
