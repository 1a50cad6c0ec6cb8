// Every byte arrives once and in order: random sizes, both directions, small and very large calls,
// with routes changing in the middle. Byte counts are chosen to wrap a FIFO of 256 KiB many times.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kMegabyte = 1000 * 1000;

class IntegrityTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, IntegrityTest, AllVariants(), VariantName);

TEST_P(IntegrityTest, RandomSizesFromPeer) {
  peer().StartSend(4 * kMegabyte, {30000, 7});
  pair().Receive(4 * kMegabyte, {50000, 9});
  peer().ExpectMoved(4 * kMegabyte);
  pair().ExpectOnFifos();
}

TEST_P(IntegrityTest, RandomSizesToPeer) {
  peer().StartReceive(4 * kMegabyte, {30000, 7});
  pair().Send(4 * kMegabyte, {50000, 9});
  peer().ExpectMoved(4 * kMegabyte);
  pair().ExpectOnFifos();
}

TEST_P(IntegrityTest, SmallSizesBothEnds) {
  peer().StartSend(kMegabyte / 4, {200, 20});
  pair().Receive(kMegabyte / 4, {200, 20});
  peer().ExpectMoved(kMegabyte / 4);
}

TEST_P(IntegrityTest, BothDirectionsAtOnce) {
  peer().Start(Op::kExchange, 4 * kMegabyte, 100000, 10);
  const Transferred result =
      ExchangeBytes(fd(), &pair().sent, &pair().received, 4 * kMegabyte, {70000, 10});
  EXPECT_EQ(result.bytes, 4 * kMegabyte);
  EXPECT_EQ(result.error, 0);
  peer().ExpectMoved(4 * kMegabyte);
}

TEST_P(IntegrityTest, BothDirectionsAtOnceWithSmallSizes) {
  peer().Start(Op::kExchange, kMegabyte / 4, 300, 10);
  const Transferred result =
      ExchangeBytes(fd(), &pair().sent, &pair().received, kMegabyte / 4, {500, 10});
  EXPECT_EQ(result.bytes, kMegabyte / 4);
  EXPECT_EQ(result.error, 0);
  peer().ExpectMoved(kMegabyte / 4);
}

TEST_P(IntegrityTest, RequestsAndAnswers) {
  constexpr size_t kRounds = 500;
  constexpr size_t kRequestBytes = 64;
  peer().Start(Op::kEcho, kRounds * kRequestBytes, 0, 5);
  for (size_t round = 0; round < kRounds; ++round) {
    pair().Send(kRequestBytes);
    pair().Receive(kRequestBytes);
    if (round % 97 == 0) Mark();
  }
  peer().ExpectMoved(kRounds * kRequestBytes);
  pair().ExpectOnFifos();
}

TEST_P(IntegrityTest, SingleBytes) {
  peer().StartReceive(5000, {0, 3});
  pair().Send(5000, {1, 5});
  peer().ExpectMoved(5000);
}

TEST_P(IntegrityTest, OneVeryLargeSendIsTakenWhole) {
  constexpr size_t kBytes = 9 * kMegabyte + 1;
  std::vector<char> buffer(kBytes);
  pair().sent.Fill(buffer.data(), kBytes);
  peer().StartReceive(kBytes, {65536, 3});
  EXPECT_EQ(Call(send(fd(), buffer.data(), kBytes, 0)), Done(kBytes));
  pair().sent.Advance(kBytes);
  peer().ExpectMoved(kBytes);
}

TEST_P(IntegrityTest, OneVeryLargeReceiveTakesWhatIsThere) {
  peer().Send(1000);
  ASSERT_TRUE(WaitForBytes(fd(), 1000));
  std::vector<char> buffer(8 * kMegabyte);
  EXPECT_EQ(Call(recv(fd(), buffer.data(), buffer.size(), 0)), Done(1000));
  EXPECT_TRUE(pair().received.Take(buffer.data(), 1000));
}

TEST_P(IntegrityTest, RoutesChangingAllTheTimeAtOneEnd) {
  const SwitchStorm storm(fd());
  peer().Start(Op::kExchange, 3 * kMegabyte, 20000, 0);
  const Transferred result =
      ExchangeBytes(fd(), &pair().sent, &pair().received, 3 * kMegabyte, {20000, 0});
  EXPECT_EQ(result.bytes, 3 * kMegabyte);
  EXPECT_EQ(result.error, 0);
  peer().ExpectMoved(3 * kMegabyte);
}

TEST_P(IntegrityTest, UnreadDataAtEverySwitch) {
  for (size_t round = 0; round < 8; ++round) {
    peer().Send(1000 + 7000 * round);
    Mark();
    pair().Receive(500 + 7000 * round);
    MarkAtPeer();
    pair().Receive(500);
  }
  pair().ExpectBothWaysWork();
}

TEST_P(IntegrityTest, TwoPairsDoNotMix) {
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  peer().StartSend(kMegabyte, {10000, 4});
  other->peer().StartReceive(kMegabyte, {10000, 4});
  other->Send(kMegabyte, {12345, 4});
  pair().Receive(kMegabyte, {12345, 4});
  peer().ExpectMoved(kMegabyte);
  other->peer().ExpectMoved(kMegabyte);
}

}  // namespace
}  // namespace conformance
