// Back-pressure: a sender whose peer does not read is held back, goes on when it reads, and loses
// nothing; readiness for writing goes and comes back with it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

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
    const size_t filled = FillUp(fd(), &pair().sent);
    const FileDescriptor set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLOUT | mode;
    event.data.u64 = 0x1122334455667788;
    ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
    EXPECT_EQ(epoll_wait(set.get(), &event, 1, kNothingMs), 0);
    Mark();
    peer().Receive(filled);
    event = epoll_event{};
    EXPECT_EQ(epoll_wait(set.get(), &event, 1, kSoonMs), 1);
    EXPECT_EQ(event.events, static_cast<uint32_t>(EPOLLOUT));
    EXPECT_EQ(event.data.u64, 0x1122334455667788u);
    // A level is reported again, an edge and a single shot are not.
    EXPECT_EQ(epoll_wait(set.get(), &event, 1, kNothingMs), mode == 0 ? 1 : 0);
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
