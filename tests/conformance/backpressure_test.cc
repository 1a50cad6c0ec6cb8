// Back-pressure: a sender whose peer does not read is held back, goes on when it reads, and loses
// nothing; readiness for writing goes and comes back with it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kMoreThanFits = 64 << 20;

class BackpressureTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, BackpressureTest, AllVariants(), VariantName);

TEST_P(BackpressureTest, SenderBlocksUntilSomebodyReads) {
  // More than the kernel's largest default buffers and a FIFO together, in one call.
  constexpr size_t kBytes = 24 << 20;
  peer().StartSend(kBytes);
  EXPECT_TRUE(peer().StillBlocked());
  Mark();
  pair().Receive(1000);
  EXPECT_TRUE(peer().StillBlocked());
  pair().Receive(kBytes - 1000, {0, 6});
  peer().ExpectMoved(kBytes);
}

TEST_P(BackpressureTest, FullThenReadThenFullAgain) {
  for (int round = 0; round < 3; ++round) {
    const size_t filled = FillUp(fd(), &pair().sent);
    EXPECT_GT(filled, 0u);
    EXPECT_EQ(Revents(fd(), POLLOUT, 0), 0);
    Mark();
    peer().Receive(filled);
    EXPECT_TRUE(BecomesWritable(fd()));
    EXPECT_GT(send(fd(), "", 0, MSG_DONTWAIT) + 1, 0);
  }
  pair().ExpectBothWaysWork();
}

TEST_P(BackpressureTest, MemoryIsBounded) {
  const size_t filled = FillUp(fd(), &pair().sent);
  EXPECT_LT(filled, kMoreThanFits);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Call(send(fd(), "x", 1, MSG_DONTWAIT)), Failed(EAGAIN));
  }
  peer().Receive(filled);
}

TEST_P(BackpressureTest, RouteChangesWhileFull) {
  size_t filled = FillUp(fd(), &pair().sent);
  for (int round = 0; round < 4; ++round) {
    Mark();
    filled += FillUp(fd(), &pair().sent);
  }
  EXPECT_LT(filled, kMoreThanFits);
  MarkAtPeer();
  peer().Receive(filled, {100000, 5});
  EXPECT_TRUE(BecomesWritable(fd()));
  pair().ExpectBothWaysWork();
}

TEST_P(BackpressureTest, PolloutWakesAWaiter) {
  const size_t filled = FillUp(fd(), &pair().sent);
  auto call = InThread([this] { return Revents(fd(), POLLOUT, kSoonMs); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  // Reading all but a little always makes the sender writable again.
  peer().Receive(filled);
  EXPECT_EQ(call.get(), POLLOUT);
}

TEST_P(BackpressureTest, EpolloutComesBackInEveryMode) {
  for (const uint32_t mode : {uint32_t{0}, uint32_t{EPOLLET}, uint32_t{EPOLLONESHOT}}) {
    EpollSet set;
    ASSERT_EQ(set.Add(fd(), EPOLLOUT | mode), Done(0));
    size_t filled = 0;
    do {  // on a busy machine the kernel may still be moving bytes out of the way
      filled += FillUp(fd(), &pair().sent);
      ASSERT_EQ(set.Modify(fd(), EPOLLOUT | mode, 0x1122334455667788), Done(0));
    } while (!set.Quiet());
    Mark();
    peer().Receive(filled);
    const auto events = set.Wait(kSoonMs);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].events, static_cast<uint32_t>(EPOLLOUT));
    EXPECT_EQ(events[0].data.u64, 0x1122334455667788u);
    // A level is reported again, an edge and a single shot are not; but a change of the route may
    // bring an edge of its own.
    if (mode == EPOLLET && CurrentMode() == Mode::kSwitching) continue;
    EXPECT_EQ(set.Wait(kNothingMs).size(), mode == 0 ? 1u : 0u);
  }
}

TEST_P(BackpressureTest, BlockedSenderGetsTheResetOfItsPeer) {
  FillUp(fd(), &pair().sent);
  auto call = InThread([this] {
    std::vector<char> bytes(1 << 20);
    Outcome outcome{};
    do {
      outcome = Call(send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    } while (outcome.value > 0);
    return outcome;
  });
  EXPECT_TRUE(StillBlocked(call));
  peer().Close();  // with unread data: a reset
  EXPECT_EQ(call.get(), Failed(ECONNRESET));
}

TEST_P(BackpressureTest, BothEndsFullThenBothRead) {
  const size_t filled = FillUp(fd(), &pair().sent);
  peer().StartSend(kMoreThanFits / 4);
  EXPECT_TRUE(peer().StillBlocked());
  Mark();
  pair().Receive(kMoreThanFits / 4, {0, 5});
  peer().ExpectMoved(kMoreThanFits / 4);
  peer().Receive(filled);
}

TEST_P(BackpressureTest, SlowReader) {
  constexpr size_t kBytes = 3 << 20;
  peer().StartSend(kBytes, {0, 5});
  for (size_t moved = 0; moved < kBytes;) {
    const size_t step = std::min<size_t>(kBytes - moved, 70001);
    pair().Receive(step, {1000, 0});
    if (moved % 5 == 0) poll(nullptr, 0, 1);  // slow on purpose
    moved += step;
  }
  peer().ExpectMoved(kBytes);
}

}  // namespace
}  // namespace conformance
