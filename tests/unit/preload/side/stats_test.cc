// The totals of a process, and what statistics say of reasons.
#include "preload/side/stats.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(StatsTest, FallbacksAreCountedByReason) {
  ForgetStats();
  char text[2048];
  EXPECT_EQ(FormatFallbacks(text, sizeof text), 2u);
  EXPECT_STREQ(text, "{}");
  CountFallback(Reason::kSplice);
  CountFallback(Reason::kNotHotYet);
  CountFallback(Reason::kSplice);
  FormatFallbacks(text, sizeof text);
  EXPECT_STREQ(text, "{\"not hot yet\":1,\"splice\":2}");
  ForgetStats();
  FormatFallbacks(text, sizeof text);
  EXPECT_STREQ(text, "{}");
}

TEST(StatsTest, WhatDoesNotFitIsLeftOutWhole) {
  ForgetStats();
  for (size_t number = 1; number < kReasonCount; ++number)
    CountFallback(static_cast<Reason>(number));
  char text[256];
  const size_t length = FormatFallbacks(text, sizeof text - 2);
  ASSERT_LT(length, sizeof text);
  EXPECT_EQ(text[length], '\0');
  EXPECT_EQ(std::string(text).substr(length - 3), ":1}");
  ForgetStats();
}

std::string CurrentFallbacks() {
  char text[2048];
  return std::string(text, FormatFallbacks(text, sizeof text));
}

class TotalsTest : public testing::Test {
 protected:
  void SetUp() override { ForgetStats(); }
};

TEST_F(TotalsTest, ConnectionsAndUpgradesAreCounted) {
  CountConnection();
  CountConnection();
  CountUpgrade();
  EXPECT_EQ(CurrentTotals().connections, 2u);
  EXPECT_EQ(CurrentTotals().upgraded, 1u);
}

TEST_F(TotalsTest, ClosedSocketAddsWhatItsFifosCarried) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  socket.PeerSends("12345");
  socket.Detach();
  ForgetStats();
  CountClosed(socket.fd(), socket.side());
  EXPECT_EQ(CurrentTotals().fifo_received, 5u);
  EXPECT_EQ(CurrentTotals().fifo_sent, 0u);
}

TEST_F(TotalsTest, TcpBytesAreTheKernels) {
  FollowedSocket socket;
  socket.PeerSendsByTcp("123");
  uint64_t sent = 0;
  uint64_t received = 0;
  TcpBytesOf(socket.fd(), &sent, &received);
  EXPECT_EQ(sent, 0u);
  EXPECT_EQ(received, 3u);
}

TEST_F(TotalsTest, ChildBeginsWithNothing) {
  CountConnection();
  CountFallback(Reason::kSplice);
  EXPECT_EQ(InForkedChild([] {
              return CurrentTotals().connections == 0 && CurrentFallbacks() == "{}" ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace xenloop
