// SO_RCVTIMEO, SO_SNDTIMEO and SO_RCVLOWAT: which calls end at the time-out, with what, and not
// before; and what the low-water mark means for recv and for poll.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kTimeOutMs = 40;
constexpr double kAtLeastMs = kTimeOutMs - 1;  // clocks are rounded to ticks

class TimeoutTest : public PairTest {
 protected:
  void SetTimeOut(int option, int milliseconds) {
    const timeval limit{milliseconds / 1000, milliseconds % 1000 * 1000};
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, option, &limit, sizeof(limit)), 0);
  }
  void SetLowWater(int bytes) {
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)), 0);
  }

  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, TimeoutTest, AllVariants(), VariantName);

TEST_P(TimeoutTest, ReceiveEndsWithEagain) {
  SetTimeOut(SO_RCVTIMEO, kTimeOutMs);
  iovec piece = {buffer_, 10};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  for (int call = 0; call < 4; ++call) {
    const Stopwatch stopwatch;
    switch (call) {
      case 0:
        EXPECT_EQ(Call(recv(fd(), buffer_, 10, 0)), Failed(EAGAIN));
        break;
      case 1:
        EXPECT_EQ(Call(read(fd(), buffer_, 10)), Failed(EAGAIN));
        break;
      case 2:
        EXPECT_EQ(Call(readv(fd(), &piece, 1)), Failed(EAGAIN));
        break;
      case 3:
        EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Failed(EAGAIN));
        break;
    }
    EXPECT_GE(stopwatch.ElapsedMs(), kAtLeastMs);
    Mark();
  }
  pair().ExpectBothWaysWork();
}

TEST_P(TimeoutTest, ReceiveReturnsDataBeforeTheTimeOut) {
  SetTimeOut(SO_RCVTIMEO, kSoonMs);
  auto call = InThread([this] { return Call(recv(fd(), buffer_, 10, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(TimeoutTest, WaitAllReturnsWhatCameInTime) {
  SetTimeOut(SO_RCVTIMEO, kTimeOutMs);
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  const Stopwatch stopwatch;
  EXPECT_EQ(Call(recv(fd(), buffer_, 100, MSG_WAITALL)), Done(10));
  EXPECT_GE(stopwatch.ElapsedMs(), kAtLeastMs);
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(TimeoutTest, ZeroMeansForEver) {
  SetTimeOut(SO_RCVTIMEO, 1);
  SetTimeOut(SO_RCVTIMEO, 0);
  auto call = InThread([this] { return Call(recv(fd(), buffer_, 10, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(TimeoutTest, SendEndsWithEagainWhenNothingWasTaken) {
  const size_t filled = FillUp(fd(), &pair().sent);
  SetTimeOut(SO_SNDTIMEO, kTimeOutMs);
  std::vector<char> bytes(1 << 20);
  pair().sent.Fill(bytes.data(), bytes.size());
  // Full for MSG_DONTWAIT may leave room for a last piece: the first call may take some.
  size_t taken = 0;
  Outcome outcome{};
  double elapsed_ms = 0;
  while (taken + 1000 <= bytes.size()) {
    const Stopwatch stopwatch;
    outcome = Call(send(fd(), bytes.data() + taken, 1000, MSG_NOSIGNAL));
    elapsed_ms = stopwatch.ElapsedMs();
    if (outcome.value < 0) break;
    taken += outcome.value;
  }
  EXPECT_EQ(outcome, Failed(EAGAIN));
  EXPECT_GE(elapsed_ms, kAtLeastMs);
  pair().sent.Advance(taken);
  Mark();
  peer().Receive(filled + taken);
}

TEST_P(TimeoutTest, SendReturnsWhatWasTakenInTime) {
  SetTimeOut(SO_SNDTIMEO, kTimeOutMs);
  std::vector<char> bytes(64 << 20);
  pair().sent.Fill(bytes.data(), bytes.size());
  const Stopwatch stopwatch;
  const ssize_t taken = send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  EXPECT_GE(stopwatch.ElapsedMs(), kAtLeastMs);
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, static_cast<ssize_t>(bytes.size()));
  pair().sent.Advance(taken);
  peer().Receive(taken);
}

TEST_P(TimeoutTest, TimeOutsAreReadBack) {
  SetTimeOut(SO_RCVTIMEO, 2500);
  timeval limit{};
  socklen_t length = sizeof(limit);
  ASSERT_EQ(getsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, &length), 0);
  EXPECT_EQ(limit.tv_sec, 2);
  EXPECT_EQ(limit.tv_usec, 500000);
  ASSERT_EQ(getsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, &length), 0);
  EXPECT_EQ(limit.tv_sec, 0);
  const timeval wrong{0, 2000000};
  EXPECT_EQ(Call(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &wrong, sizeof(wrong))), Failed(EDOM));
}

TEST_P(TimeoutTest, TimeOutIsSharedByADuplicate) {
  const FileDescriptor copy(dup(fd()));
  SetTimeOut(SO_RCVTIMEO, kTimeOutMs);
  const Stopwatch stopwatch;
  EXPECT_EQ(Call(recv(copy.get(), buffer_, 10, 0)), Failed(EAGAIN));
  EXPECT_GE(stopwatch.ElapsedMs(), kAtLeastMs);
}

TEST_P(TimeoutTest, LowWaterMarkHoldsRecvBack) {
  SetLowWater(30);
  auto call = InThread([this] { return Call(recv(fd(), buffer_, 1000, 0)); });
  // Blocked before the first byte: the kernel does not wake a recv that has already taken some and
  // then gets fewer than the mark.
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(29);
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(3);
  EXPECT_EQ(call.get(), Done(32));
  EXPECT_TRUE(pair().received.Take(buffer_, 32));
}

TEST_P(TimeoutTest, LowWaterMarkAboveTheLengthIsTheLength) {
  SetLowWater(30);
  peer().Send(8);
  ASSERT_TRUE(WaitForBytes(fd(), 8));
  EXPECT_EQ(Call(recv(fd(), buffer_, 5, 0)), Done(5));
  EXPECT_TRUE(pair().received.Take(buffer_, 5));
  Mark();
  pair().Receive(3);
}

TEST_P(TimeoutTest, LowWaterMarkHoldsPollBack) {
  SetLowWater(30);
  peer().Send(29);
  ASSERT_TRUE(WaitForBytes(fd(), 29));
  EXPECT_TRUE(StaysUnreadable(fd()));
  Mark();
  peer().Send(1);
  EXPECT_TRUE(BecomesReadable(fd()));
  pair().Receive(1);
  EXPECT_TRUE(StaysUnreadable(fd()));
  // With one byte enough again, those already there count.
  SetLowWater(1);
  EXPECT_TRUE(BecomesReadable(fd()));
  pair().Receive(29);
}

TEST_P(TimeoutTest, LowWaterMarkDoesNotHoldBackDontWaitOrTheEnd) {
  SetLowWater(30);
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Call(recv(fd(), buffer_, 4, MSG_DONTWAIT)), Done(4));
  EXPECT_TRUE(pair().received.Take(buffer_, 4));
  peer().Shutdown(SHUT_WR);
  EXPECT_TRUE(BecomesReadable(fd()));
  EXPECT_EQ(Call(recv(fd(), buffer_, 100, 0)), Done(6));
  EXPECT_TRUE(pair().received.Take(buffer_, 6));
  pair().ReceiveEndOfStream();
}

TEST_P(TimeoutTest, LowWaterMarkAndTimeOut) {
  SetLowWater(30);
  SetTimeOut(SO_RCVTIMEO, kTimeOutMs);
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  const Stopwatch stopwatch;
  EXPECT_EQ(Call(recv(fd(), buffer_, 100, 0)), Done(10));
  EXPECT_GE(stopwatch.ElapsedMs(), kAtLeastMs);
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

}  // namespace
}  // namespace conformance
