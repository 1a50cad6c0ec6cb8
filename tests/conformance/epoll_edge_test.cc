// epoll, edge-triggered and one-shot: an event for every new arrival and none when nothing is new;
// re-arming by EPOLL_CTL_MOD.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr uint32_t kIn = EPOLLIN;
constexpr uint32_t kOut = EPOLLOUT;

class EpollEdgeTest : public PairTest {
 protected:
  // A change of the route may bring an event that tells nothing new; the next arrival then comes
  // on top of it.
  void MarkAndForgetItsEvents() {
    if (CurrentMode() != Mode::kSwitching) return;
    Mark();
    while (!set_.Wait(kNothingMs).empty()) {
    }
  }

  EpollSet set_;
};
INSTANTIATE_TEST_SUITE_P(, EpollEdgeTest, AllVariants(), VariantName);

TEST_P(EpollEdgeTest, WritableIsReportedOnce) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLRDHUP | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  EXPECT_TRUE(set_.Quiet());
}

TEST_P(EpollEdgeTest, EveryArrivalIsReportedOnce) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  EXPECT_TRUE(set_.Quiet());
  for (int round = 1; round <= 6; ++round) {
    peer().Send(10);
    EXPECT_EQ(set_.Next(), kIn) << round;
    EXPECT_TRUE(set_.Quiet());
    if (round % 3 == 0) {
      pair().Receive(30);
      EXPECT_TRUE(set_.Quiet());
      MarkAndForgetItsEvents();
    }
  }
}

TEST_P(EpollEdgeTest, ArrivalWithWritable) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  MarkAndForgetItsEvents();
  peer().Send(1);
  EXPECT_EQ(set_.Next(), kIn | kOut);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(1);
  EXPECT_TRUE(set_.Quiet());
}

// The kernel wakes who waits when these are set, whether or not anything is new.
TEST_P(EpollEdgeTest, OptionsThatReportAnew) {
  const auto set = [this](int level, int name, int value) {
    ASSERT_EQ(setsockopt(fd(), level, name, &value, sizeof value), 0) << name;
  };
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  MarkAndForgetItsEvents();
  for (int bytes : {300000, 100000}) {
    set(SOL_SOCKET, SO_SNDBUF, bytes);
    EXPECT_EQ(set_.Next(), kOut) << bytes;
    EXPECT_TRUE(set_.Quiet());
  }
  set(SOL_SOCKET, SO_RCVLOWAT, 1);
  EXPECT_TRUE(set_.Quiet());
  MarkAndForgetItsEvents();
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn | kOut);
  EXPECT_TRUE(set_.Quiet());
  set(SOL_SOCKET, SO_SNDBUF, 300000);
  EXPECT_EQ(set_.Next(), kIn | kOut);
  set(SOL_SOCKET, SO_RCVBUF, 300000);
  EXPECT_TRUE(set_.Quiet());
  set(SOL_SOCKET, SO_RCVLOWAT, 1);
  EXPECT_EQ(set_.Next(), kIn | kOut);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  EXPECT_TRUE(set_.Quiet());
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1 << 20);
  EXPECT_EQ(set_.Next(), kIn | kOut);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(10);
}

TEST_P(EpollEdgeTest, DataReadBeforeTheWaitTellOfRoomAnew) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  for (int round = 0; round < 3; ++round) {
    MarkAndForgetItsEvents();
    peer().Send(10);
    peer().Send(10);
    pair().Receive(20);
    EXPECT_EQ(set_.Next(), kOut) << round;
    EXPECT_TRUE(set_.Quiet());
    peer().Send(10);
    EXPECT_EQ(set_.Next(), kIn | kOut);
    pair().Receive(10);
    EXPECT_TRUE(set_.Quiet());
  }
}

// D-4. In the other modes nothing changes here, and nothing is told.
TEST_P(EpollEdgeTest, AChangeOfTheRouteTellsOfUnreadBytesOnceMoreAtTheMost) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  for (int change = 0; change < 4; ++change) {
    MarkedPoint(fd());
    int told = 0;
    while (!set_.Wait(kNothingMs).empty()) ++told;
    EXPECT_LE(told, CurrentMode() == Mode::kSwitching ? 1 : 0) << change;
  }
  pair().Receive(10);
}

// Whether what came before is read or not, and by whichever route it came.
TEST_P(EpollEdgeTest, ArrivalBehindUnreadBytesIsReported) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  for (int round = 1; round <= 4; ++round) {
    for (int i = 0; i < 4; ++i) {
      peer().Send(10);
      EXPECT_EQ(set_.Next(), kIn) << round << " " << i;
      if (i == 1) pair().Receive(5);
      MarkAndForgetItsEvents();
    }
    pair().Receive(35);
    EXPECT_TRUE(set_.Quiet());
  }
}

TEST_P(EpollEdgeTest, ArrivalsTellAnEdgeOfRoomNothing) {
  ASSERT_EQ(set_.Add(fd(), kOut | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  MarkAndForgetItsEvents();
  peer().Send(10);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(10);
  EXPECT_TRUE(set_.Quiet());
}

TEST_P(EpollEdgeTest, ArrivalsAfterAShutdownOfReadingTellOfTheEndAnew) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLRDHUP | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  pair().ExpectBothWaysWork();
  ASSERT_EQ(shutdown(fd(), SHUT_RD), 0);
  EXPECT_EQ(set_.Next(), kIn | kOut | EPOLLRDHUP);
  MarkAndForgetItsEvents();
  for (const bool read_before : {false, true}) {
    peer().Send(10);
    ASSERT_TRUE(WaitForBytes(fd(), 10));
    if (read_before) pair().Receive(10);
    EXPECT_EQ(set_.Next(), kIn | kOut | EPOLLRDHUP) << read_before;
    EXPECT_TRUE(set_.Quiet());
    if (!read_before) pair().Receive(10);
  }
}

TEST_P(EpollEdgeTest, OneShotTellsOfRoomAndOfTheEndAtOnce) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLRDHUP | EPOLLONESHOT), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(Revents(fd(), POLLIN, kSoonMs), POLLIN);
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(set_.Modify(fd(), kIn | kOut | EPOLLRDHUP | EPOLLONESHOT), Done(0));
    EXPECT_EQ(set_.Next(), kIn | kOut | EPOLLRDHUP) << round;
    EXPECT_TRUE(set_.Quiet());
    Mark();
  }
}

TEST_P(EpollEdgeTest, SeveralArrivalsBeforeAWaitAreOneEvent) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  peer().Send(10);
  peer().Send(10);
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 30));
  EXPECT_EQ(set_.Next(), kIn);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(30);
}

TEST_P(EpollEdgeTest, DataReadBeforeTheWaitIsNotReported) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  peer().Send(10);
  pair().Receive(10);
  EXPECT_TRUE(set_.Quiet());
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(10);
}

TEST_P(EpollEdgeTest, DataThatWasThereBefore) {
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(0), kIn);
  EXPECT_TRUE(set_.Quiet());
  // MOD looks afresh.
  ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLET), Done(0));
  EXPECT_EQ(set_.Next(0), kIn);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(10);
}

TEST_P(EpollEdgeTest, EndOfStreamAndResetAreEdges) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLRDHUP | EPOLLET), Done(0));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(set_.Next(), kIn | EPOLLRDHUP);
  EXPECT_TRUE(set_.Quiet());
  MarkAndForgetItsEvents();
  peer().Reset();
  EXPECT_EQ(set_.Next(), kIn | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  EXPECT_TRUE(set_.Quiet());
}

TEST_P(EpollEdgeTest, BlockedWaitIsWokenByEveryArrival) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  for (int round = 0; round < 5; ++round) {
    auto call = InThread([this] { return set_.Next(-1); });
    EXPECT_TRUE(StillBlocked(call));
    peer().Send(10);
    EXPECT_EQ(call.get(), kIn);
  }
  pair().Receive(50);
}

// The usual loop of an edge-triggered server: read until EAGAIN, then wait. A lost edge hangs it.
TEST_P(EpollEdgeTest, ReadUntilEagainLosesNoEdge) {
  constexpr size_t kBytes = 2 * 1000 * 1000;
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  peer().StartSend(kBytes, {3000, 20});
  std::vector<char> buffer(100000);
  size_t total = 0;
  while (total < kBytes) {
    ASSERT_NE(set_.Next(kSoonMs), 0u) << "no edge after " << total << " bytes";
    for (;;) {
      const ssize_t count = recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (count < 0) {
        ASSERT_EQ(errno, EAGAIN);
        break;
      }
      ASSERT_GT(count, 0);
      ASSERT_TRUE(pair().received.Take(buffer.data(), count));
      total += count;
      if (total % 50 == 0) Mark();
    }
  }
  peer().ExpectMoved(kBytes);
}

// The same for writing: write until EAGAIN, then wait.
TEST_P(EpollEdgeTest, WriteUntilEagainLosesNoEdge) {
  constexpr size_t kBytes = 16 * 1000 * 1000;
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLET), Done(0));
  peer().StartReceive(kBytes, {200000, 10});
  std::vector<char> buffer(100000);
  size_t total = 0;
  while (total < kBytes) {
    ASSERT_NE(set_.Next(kSoonMs) & kOut, 0u) << "no edge after " << total << " bytes";
    while (total < kBytes) {
      const size_t size = std::min(buffer.size(), kBytes - total);
      pair().sent.Fill(buffer.data(), size);
      const ssize_t count = send(fd(), buffer.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count < 0) {
        ASSERT_EQ(errno, EAGAIN);
        break;
      }
      pair().sent.Advance(count);
      total += count;
      if (total % 50 == 0) Mark();
    }
  }
  peer().ExpectMoved(kBytes);
}

// A send that the socket takes in part, or not at all, makes room news: whatever the route was when
// room was told, and whatever it is when the send comes short.
TEST_P(EpollEdgeTest, RoomIsNewsAfterAShortSendOnEveryRoute) {
  EpollSet another;
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLRDHUP | EPOLLET), Done(0));
  ASSERT_EQ(another.Add(fd(), kOut | EPOLLET), Done(0));
  std::vector<char> buffer(100000);
  for (int round = 0; round < 4; ++round) {
    ASSERT_NE(set_.Next(kSoonMs) & kOut, 0u) << round;
    ASSERT_EQ(another.Next(kSoonMs), kOut) << round;
    MarkAndForgetItsEvents();
    while (CurrentMode() == Mode::kSwitching && !another.Quiet()) {
    }
    size_t total = 0;
    size_t count = 0;
    do {
      pair().sent.Fill(buffer.data(), buffer.size());
      const ssize_t sent = send(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      count = sent < 0 ? 0 : sent;
      pair().sent.Advance(count);
      total += count;
    } while (count == buffer.size());
    peer().StartReceive(total, {200000, 0});
    peer().ExpectMoved(total);
  }
}

TEST_P(EpollEdgeTest, OneShotReportsOnceUntilItIsArmedAgain) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLONESHOT, 5), Done(0));
  EXPECT_TRUE(set_.Quiet());
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  EXPECT_TRUE(set_.Quiet());
  peer().Send(10);
  EXPECT_TRUE(set_.Quiet());
  Mark();
  EXPECT_TRUE(set_.Quiet());
  // Armed again with data there: an event at once, with the new user data.
  ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLONESHOT, 6), Done(0));
  const auto events = set_.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 6u);
  EXPECT_EQ(events[0].events, kIn);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(20);
  ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLONESHOT, 7), Done(0));
  EXPECT_TRUE(set_.Quiet());
  peer().Send(1);
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(1);
}

// Whatever the route was when it fired, and whatever it becomes.
TEST_P(EpollEdgeTest, OneShotThatFiredIsSilentOnEveryRoute) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLONESHOT, 5), Done(0));
  for (int round = 0; round < 4; ++round) {
    peer().Send(10);
    EXPECT_EQ(set_.Next(), kIn);
    Mark();
    EXPECT_TRUE(set_.Quiet()) << round;
    peer().Send(5);
    EXPECT_TRUE(set_.Quiet()) << round;
    Mark();
    EXPECT_TRUE(set_.Quiet()) << round;
    pair().Receive(15);
    if (round % 2 != 0) Mark();
    ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLONESHOT, 5), Done(0));
    EXPECT_TRUE(set_.Quiet()) << round;
  }
}

TEST_P(EpollEdgeTest, OneShotThatFiredDoesNotReportTheEnd) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLONESHOT), Done(0));
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  peer().Reset();
  EXPECT_TRUE(set_.Quiet());
  ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLONESHOT), Done(0));
  EXPECT_EQ(set_.Next(), kIn | EPOLLHUP | EPOLLERR);
}

TEST_P(EpollEdgeTest, OneShotEdge) {
  ASSERT_EQ(set_.Add(fd(), kIn | kOut | EPOLLET | EPOLLONESHOT), Done(0));
  EXPECT_EQ(set_.Next(), kOut);
  peer().Send(10);
  EXPECT_TRUE(set_.Quiet());
  ASSERT_EQ(set_.Modify(fd(), kIn | EPOLLET | EPOLLONESHOT), Done(0));
  EXPECT_EQ(set_.Next(), kIn);
  EXPECT_TRUE(set_.Quiet());
  pair().Receive(10);
}

}  // namespace
}  // namespace conformance
