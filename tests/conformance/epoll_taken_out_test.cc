// Level-triggered registrations that a program takes out of a set and puts back, or does not.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/conformance/own_set.h"

namespace conformance {
namespace {

class EpollTakenOutTest : public OwnSetTest {
 protected:
  void TakeOut() {
    ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
    ASSERT_EQ(set_.Remove(fd()), Done(0));
  }
};
INSTANTIATE_TEST_SUITE_P(, EpollTakenOutTest, AllVariants(), VariantName);

TEST_P(EpollTakenOutTest, IsNotThere) {
  TakeOut();
  EXPECT_EQ(set_.Remove(fd()), Failed(ENOENT));
  EXPECT_EQ(set_.Modify(fd(), kIn), Failed(ENOENT));
  TakeOut();
  EXPECT_EQ(set_.Modify(fd(), kIn), Failed(ENOENT));
  EXPECT_EQ(set_.Add(fd(), kIn), Done(0));
  EXPECT_EQ(set_.Add(fd(), kIn), Failed(EEXIST));
  EXPECT_EQ(set_.Remove(fd()), Done(0));
}

TEST_P(EpollTakenOutTest, BringsItsNewWishAndData) {
  ASSERT_EQ(set_.Add(fd(), kIn, 0), Done(0));
  for (uint64_t round = 1; round < 50; ++round) {
    ASSERT_EQ(set_.Remove(fd()), Done(0));
    ASSERT_EQ(set_.Add(fd(), kOut, round), Done(0));
    auto events = set_.Wait(0);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].events, kOut);
    EXPECT_EQ(events[0].data.u64, round);
    ASSERT_EQ(set_.Remove(fd()), Done(0));
    ASSERT_EQ(set_.Add(fd(), kIn, round + 1000), Done(0));
    EXPECT_TRUE(set_.Wait(0).empty());
    peer().Send(10);
    events = set_.Wait(kSoonMs);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].events, kIn);
    EXPECT_EQ(events[0].data.u64, round + 1000);
    pair().Receive(10);
    if (round % 7 == 0) Mark();
  }
}

TEST_P(EpollTakenOutTest, TellsNothingWhileOthersAreReady) {
  TakeOut();
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ASSERT_EQ(set_.Add(ours.get(), kOut, 7), Done(0));
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE(BecomesReadable(fd()));
  set_.Wait(0, 4);  // D-23
  for (int i = 0; i < 20; ++i) {
    const auto events = set_.Wait(0, 1);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].data.u64, 7u);
  }
  ASSERT_EQ(set_.Add(fd(), kIn, 2), Done(0));
  EXPECT_EQ(set_.Wait(kSoonMs, 2).size(), 2u);
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  EXPECT_EQ(set_.Wait(kSoonMs, 2).size(), 1u);
  pair().Receive(10);
}

TEST_P(EpollTakenOutTest, WhatIsNotWantedDoesNotWake) {
  for (int round = 0; round < 3; ++round) {
    TakeOut();
    ASSERT_EQ(set_.Add(fd(), 0, 3), Done(0));
    peer().Send(10);
    ASSERT_TRUE(BecomesReadable(fd()));
    EXPECT_TRUE(set_.Quiet());
    Mark();
    EXPECT_TRUE(set_.Quiet());
    pair().Receive(10);
    ASSERT_EQ(set_.Remove(fd()), Done(0));
  }
}

TEST_P(EpollTakenOutTest, BeneathASleeper) {
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  auto call = InThread([this] { return set_.Wait(-1); });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(set_.Add(fd(), kIn, 2), Done(0));
  const auto events = call.get();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 2u);
  pair().Receive(10);
}

TEST_P(EpollTakenOutTest, GoesToAnotherSet) {
  EpollSet other;
  for (int round = 0; round < 20; ++round) {
    EpollSet& here = round % 2 == 0 ? set_ : other;
    EpollSet& there = round % 2 == 0 ? other : set_;
    ASSERT_EQ(here.Add(fd(), kIn, 1), Done(0));
    peer().Send(10);
    EXPECT_EQ(here.Next(), kIn);
    ASSERT_EQ(here.Remove(fd()), Done(0));
    ASSERT_EQ(there.Add(fd(), kIn, 2), Done(0));
    EXPECT_EQ(there.Next(), kIn);
    EXPECT_TRUE(here.Wait(0).empty());
    ASSERT_EQ(there.Remove(fd()), Done(0));
    ASSERT_EQ(there.Add(fd(), kIn, 3), Done(0));
    ASSERT_EQ(there.Remove(fd()), Done(0));
    pair().Receive(10);
  }
}

TEST_P(EpollTakenOutTest, InASetThatIsWatched) {
  TakeOut();
  EpollSet outer;
  ASSERT_EQ(outer.Add(set_.fd(), kIn, 9), Done(0));
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(outer.Quiet());
  EXPECT_TRUE(StaysUnreadable(set_.fd()));
  ASSERT_EQ(set_.Add(fd(), kIn, 2), Done(0));
  EXPECT_EQ(outer.Next(), kIn);
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  EXPECT_TRUE(outer.Quiet());
  pair().Receive(10);
}

TEST_P(EpollTakenOutTest, AndIsPolledByItself) {
  TakeOut();
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(StaysUnreadable(set_.fd()));
  pair().Receive(10);
}

// By the other number it lives on: what was taken out by the first must not come back.
TEST_P(EpollTakenOutTest, NumberIsClosed) {
  const FileDescriptor first(dup(fd()));
  const int number = first.get();
  ASSERT_EQ(set_.Add(number, kIn, 1), Done(0));
  ASSERT_EQ(set_.Remove(number), Done(0));
  const FileDescriptor another(eventfd(0, EFD_CLOEXEC));
  ASSERT_EQ(dup2(another.get(), number), number);
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(set_.Quiet());
  EXPECT_EQ(set_.Remove(number), Failed(ENOENT));
  pair().Receive(10);
}

TEST_P(EpollTakenOutTest, SetLivesOnByAnotherNumber) {
  TakeOut();
  EpollSet other{FileDescriptor(dup(set_.fd()))};
  ASSERT_EQ(set_.Close(), 0);
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(other.Quiet());
  EXPECT_EQ(other.Remove(fd()), Failed(ENOENT));
  ASSERT_EQ(other.Add(fd(), kIn, 2), Done(0));
  EXPECT_EQ(other.Next(), kIn);
  pair().Receive(10);
}

// One thread takes it out and puts it back all the time, another sleeps and reads.
TEST_P(EpollTakenOutTest, AllTheTimeWhileAnotherReads) {
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  std::atomic<bool> over{false};
  std::thread changes([&] {
    while (!over) {
      EXPECT_EQ(set_.Remove(fd()), Done(0));
      EXPECT_EQ(set_.Add(fd(), kIn, 1), Done(0));
    }
  });
  for (int round = 0; round < 300; ++round) {
    peer().StartSend(10);
    if (set_.Next(kSoonMs) != kIn) {
      ADD_FAILURE() << "round " << round;
      break;
    }
    pair().Receive(10);
    peer().ExpectMoved(10);
    if (round % 97 == 0) Mark();
  }
  over = true;
  changes.join();
}

}  // namespace
}  // namespace conformance
