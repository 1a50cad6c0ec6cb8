// Epoll sets that are watched themselves: by poll, by select and by other sets.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr uint32_t kIn = EPOLLIN;

class EpollNestedTest : public PairTest {
 protected:
  EpollSet set_;
};
INSTANTIATE_TEST_SUITE_P(, EpollNestedTest, AllVariants(), VariantName);

TEST_P(EpollNestedTest, SetInPollAndSelect) {
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  EXPECT_EQ(Revents(set_.fd(), POLLIN, kNothingMs), 0);
  auto call = InThread([this] { return Revents(set_.fd(), POLLIN, -1); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(10);
  EXPECT_EQ(call.get(), POLLIN);
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(set_.fd(), &readable);
  EXPECT_EQ(select(set_.fd() + 1, &readable, nullptr, nullptr, nullptr), 1);
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(10);
  EXPECT_EQ(Revents(set_.fd(), POLLIN, kNothingMs), 0);
}

TEST_P(EpollNestedTest, SetWithinSets) {
  EpollSet middle, outer;
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  ASSERT_EQ(middle.Add(set_.fd(), kIn, 2), Done(0));
  ASSERT_EQ(outer.Add(middle.fd(), kIn, 3), Done(0));
  EXPECT_TRUE(outer.Quiet());
  for (int round = 0; round < 3; ++round) {
    auto call = InThread([&] { return outer.Wait(-1); });
    EXPECT_TRUE(StillBlocked(call));
    peer().Send(10);
    const auto events = call.get();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].data.u64, 3u);
    EXPECT_EQ(middle.Next(), kIn);
    EXPECT_EQ(set_.Next(), kIn);
    Mark();
    pair().Receive(10);
    EXPECT_TRUE(outer.Quiet());
  }
}

TEST_P(EpollNestedTest, EdgeOfASetWithinASet) {
  EpollSet outer;
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  ASSERT_EQ(outer.Add(set_.fd(), kIn | EPOLLET), Done(0));
  peer().Send(10);
  EXPECT_EQ(outer.Next(), kIn);
  EXPECT_TRUE(outer.Quiet());
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(10);
  peer().Send(10);
  EXPECT_EQ(outer.Next(), kIn);
  pair().Receive(10);
}

// As Java's pollers of virtual threads: one-shots in a set that is a one-shot in another.
TEST_P(EpollNestedTest, OneShotsInASetThatIsOne) {
  EpollSet outer;
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLONESHOT, 1), Done(0));
  ASSERT_EQ(outer.Add(set_.fd(), kIn | EPOLLONESHOT, 2), Done(0));
  for (int round = 0; round < 3; ++round) {
    auto call = InThread([&] { return outer.Wait(-1); });
    EXPECT_TRUE(StillBlocked(call));
    peer().Send(10);
    const auto events = call.get();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].data.u64, 2u);
    EXPECT_TRUE(outer.Quiet()) << "it has fired";
    EXPECT_EQ(set_.Next(), kIn);
    EXPECT_TRUE(set_.Quiet()) << "it has fired";
    Mark();
    pair().Receive(10);
    ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLONESHOT, 1), Done(0));
    ASSERT_EQ(outer.Modify(set_.fd(), kIn | EPOLLONESHOT, 2), Done(0));
  }
}

// A set says no more than its waits would: an edge that was reported, a member that was removed.
TEST_P(EpollNestedTest, SetWithNothingToReportIsNotReady) {
  EpollSet outer;
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  ASSERT_EQ(outer.Add(set_.fd(), kIn), Done(0));
  peer().Send(10);
  EXPECT_EQ(outer.Next(), kIn);
  EXPECT_EQ(Revents(set_.fd(), POLLIN, kSoonMs), POLLIN);
  EXPECT_EQ(set_.Next(), kIn);
  EXPECT_TRUE(outer.Quiet());
  EXPECT_EQ(Revents(set_.fd(), POLLIN, kNothingMs), 0);
  peer().Send(10);
  EXPECT_EQ(outer.Next(), kIn);
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  EXPECT_TRUE(outer.Quiet());
  pair().Receive(20);
}

// Threads that sleep in the set and in what watches it: each arrival is seen by both.
TEST_P(EpollNestedTest, SleepersInsideAndOutside) {
  EpollSet outer;
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  ASSERT_EQ(outer.Add(set_.fd(), kIn), Done(0));
  for (int round = 0; round < 3; ++round) {
    auto inside = InThread([&] { return set_.Next(-1); });
    auto outside = InThread([&] { return outer.Next(-1); });
    auto polled = InThread([&] { return Revents(set_.fd(), POLLIN, -1); });
    EXPECT_TRUE(StillBlocked(inside));
    EXPECT_TRUE(StillBlocked(outside));
    EXPECT_TRUE(StillBlocked(polled));
    peer().Send(10);
    EXPECT_EQ(inside.get(), kIn);
    EXPECT_EQ(outside.get(), kIn);
    EXPECT_EQ(polled.get(), POLLIN);
    pair().Receive(10);
    EXPECT_TRUE(set_.Quiet());
  }
}

// Threads that fell asleep in a set before its connection was upgraded: none of them may go on
// sleeping for the kernel's events only.
TEST_P(EpollNestedTest, SleepersBeforeTheUpgradeAreWokenAfterIt) {
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  constexpr int kSleepers = 8;
  std::atomic<int> woken{0};
  const auto sleep = [&] {
    const uint32_t events = set_.Next(kSoonMs);
    woken += events == kIn;
    return events;
  };
  std::vector<BackgroundCall<uint32_t>> sleepers;
  sleepers.reserve(kSleepers);
  for (int i = 0; i < kSleepers; ++i) sleepers.push_back(InThread(sleep));
  for (const auto& sleeper : sleepers) EXPECT_TRUE(StillBlocked(sleeper));
  Mark();
  for (int round = 1; round <= kSleepers; ++round) {
    peer().Send(10);
    const Stopwatch stopwatch;
    while (woken < round && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
    EXPECT_GE(woken, round);
    pair().Receive(10);
  }
  for (auto& sleeper : sleepers) EXPECT_EQ(sleeper.get(), kIn);
}

// Nested waits are followed: the connection stays where it is.
TEST_P(EpollNestedTest, WatchedSetsStayOnFifos) {
  if (CurrentMode() != Mode::kLocal) GTEST_SKIP() << "there is a FIFO in mode local only";
  EpollSet outer;
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  ASSERT_EQ(outer.Add(set_.fd(), kIn), Done(0));
  for (int round = 0; round < 10; ++round) {
    peer().Send(10);
    EXPECT_EQ(outer.Next(), kIn);
    EXPECT_EQ(Revents(set_.fd(), POLLIN, kSoonMs), POLLIN);
    EXPECT_EQ(set_.Next(), kIn);
    pair().Receive(10);
  }
  EXPECT_EQ(Routes(fd()) & kReceivesFromFifo, kReceivesFromFifo);
}

TEST_P(EpollNestedTest, LoopsAreRefused) {
  EpollSet outer;
  ASSERT_EQ(outer.Add(set_.fd(), kIn), Done(0));
  EXPECT_EQ(set_.Add(outer.fd(), kIn), Failed(ELOOP));
}

}  // namespace
}  // namespace conformance
