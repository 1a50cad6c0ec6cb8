// What a program takes out of an epoll set, puts back or wishes otherwise, where the kernel could
// be left with less than that: another process, edges that become levels, ends and resets.

#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/conformance/own_set.h"

namespace conformance {
namespace {

class EpollCoveredTest : public OwnSetTest {
 protected:
  void SetUp() override {
    OwnSetTest::SetUp();
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel_), 0);
  }
  void TearDown() override {
    close(channel_[0]);
    close(channel_[1]);
  }
  void Tell() { ASSERT_EQ(send(channel_[0], "x", 1, 0), 1); }
  bool IsTold() {  // in a child
    char byte;
    return recv(channel_[1], &byte, 1, 0) == 1;
  }
  void ExpectAgainAndAgain(uint32_t wanted) {
    EXPECT_EQ(set_.NextWith(wanted) & wanted, wanted);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(set_.Next(0) & wanted, wanted) << i;
  }
  int channel_[2] = {-1, -1};
};
INSTANTIATE_TEST_SUITE_P(, EpollCoveredTest, AllVariants(), VariantName);

TEST_P(EpollCoveredTest, TakenOutBeforeAFork) {
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  ChildProcess child([this] {
    CHILD_CHECK(IsTold());
    return set_.Quiet();
  });
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE(BecomesReadable(fd()));
  Tell();
  EXPECT_TRUE(child.Succeeded());
  EXPECT_TRUE(set_.Quiet());
  ASSERT_EQ(set_.Add(fd(), kIn, 2), Done(0));
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(10);
}

TEST_P(EpollCoveredTest, AChildIsToldNothingOfWhatItsParentTookOut) {
  ASSERT_EQ(set_.Add(fd(), kIn, 4), Done(0));
  ChildProcess child([this] {
    CHILD_CHECK(IsTold());
    return set_.Quiet() && set_.Quiet();
  });
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  Tell();
  EXPECT_TRUE(child.Succeeded());
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_TRUE(set_.Quiet());
}

TEST_P(EpollCoveredTest, AChildTakesItOut) {
  const auto taken_out_by_child = [this] {
    ChildProcess child([this] { return set_.Remove(fd()) == Done(0); });
    return child.Succeeded();
  };
  ASSERT_EQ(set_.Add(fd(), kIn, 4), Done(0));
  ASSERT_TRUE(taken_out_by_child());
  EXPECT_EQ(set_.Modify(fd(), kIn, 4), Failed(ENOENT));
  EXPECT_EQ(set_.Remove(fd()), Failed(ENOENT));
  ASSERT_EQ(set_.Add(fd(), kIn, 5), Done(0));
  ASSERT_TRUE(taken_out_by_child());
  ASSERT_EQ(set_.Add(fd(), kIn, 6), Done(0));
  peer().Send(10);
  peer().Close();
  EXPECT_EQ(set_.Next(), kIn);
  pair().Receive(10);
  ExpectAgainAndAgain(kIn);
}

TEST_P(EpollCoveredTest, EdgesBecomeLevels) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET, 1), Done(0));
  ASSERT_EQ(set_.Modify(fd(), kIn, 2), Done(0));
  peer().Reset();
  ExpectAgainAndAgain(kIn | EPOLLHUP);
}

TEST_P(EpollCoveredTest, AShotThatFiredBecomesALevelWithoutAWish) {
  peer().Send(10);
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLONESHOT, 1), Done(0));
  ASSERT_EQ(set_.Next(), kIn);
  ASSERT_EQ(set_.Modify(fd(), 0, 2), Done(0));
  peer().Reset();
  ExpectAgainAndAgain(EPOLLHUP);
}

// Each answer of the kernel that is about something else takes the only place.
TEST_P(EpollCoveredTest, ManyHaveEndedAndOneIsReady) {
  std::vector<std::unique_ptr<ConnectedPair>> others;
  for (int i = 0; i < 12; ++i) {
    others.push_back(AnotherPair());
    ASSERT_NE(others.back(), nullptr);
  }
  set_ = EpollSet();
  for (int i = 0; i < 12; ++i) {
    const int other = others[i]->fd();
    ASSERT_EQ(set_.Add(other, kIn), Done(0));
    if (i % 2 == 0) {
      ASSERT_EQ(set_.Remove(other), Done(0));
    } else {
      ASSERT_EQ(set_.Modify(other, 0), Done(0));
    }
    others[i]->peer().Shutdown(SHUT_WR);
    ASSERT_TRUE(BecomesReadable(other));
  }
  ASSERT_EQ(set_.Add(channel_[0], kOut, 7), Done(0));
  for (int i = 0; i < 5; ++i) {
    const auto events = set_.Wait(0, 1);
    ASSERT_EQ(events.size(), 1u) << i;
    EXPECT_EQ(events[0].data.u64, 7u);
  }
}

// The file lives on with the blocked call, and the kernel's set would go on telling of it.
TEST_P(EpollCoveredTest, NumberIsClosedBeneathABlockedSend) {
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  auto call = InThread([this, number = fd()] {
    const std::vector<char> much(16 << 20);
    return Call(send(number, much.data(), much.size(), MSG_NOSIGNAL));
  });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  ASSERT_EQ(pair().Close(), 0);
  peer().Shutdown(SHUT_WR);
  EXPECT_TRUE(set_.Quiet());
  EXPECT_TRUE(StaysUnreadable(set_.fd()));
  peer().Reset();
  call.get();
  EXPECT_TRUE(set_.Quiet());
}

// It may have interrupted a wait in the middle of its look, and what it is told is the kernel's.
TEST_P(EpollCoveredTest, PutBackInAHandlerOfAWait) {
  static EpollSet* set;
  static int number;
  static std::atomic<int> wrong, rounds, out;
  set = &set_;
  number = fd();
  wrong = rounds = out = 0;
  const auto handler = [](int) {
    if (out != 1) return;
    if (!(set->Add(number, kIn, 2) == Done(0))) ++wrong;
    if (!(set->Remove(number) == Done(0))) ++wrong;
    if (!(set->Remove(number) == Failed(ENOENT))) ++wrong;
    if (!(set->Modify(number, kIn) == Failed(ENOENT))) ++wrong;
    out = 0;
    ++rounds;
  };
  struct sigaction action {
  }, before{};
  action.sa_handler = handler;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  const pthread_t self = pthread_self();
  std::atomic<bool> over{false};
  std::thread sender([&] {
    while (!over) pthread_kill(self, SIGUSR1);
  });
  ASSERT_EQ(set_.Add(channel_[1], kOut, 3), Done(0));
  for (int round = 0; round < 200; ++round) {
    EXPECT_EQ(set_.Add(fd(), kIn, 1), Done(0));
    EXPECT_EQ(set_.Remove(fd()), Done(0));
    out = 1;
    while (out == 1) set_.Wait(0);
  }
  over = true;
  sender.join();
  EXPECT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_EQ(wrong, 0) << "of " << rounds;
}

// It goes by TCP from then on, and the kernel's set must have what the program puts back.
TEST_P(EpollCoveredTest, TakenOutByAHandlerThatJumps) {
  static EpollSet* set;
  static int number;
  static sigjmp_buf back;
  static volatile sig_atomic_t inside;
  const auto handler = [](int) {
    if (inside == 0) return;
    inside = 0;
    set->Remove(number);
    siglongjmp(back, 1);
  };
  struct sigaction action {
  }, before{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  inside = 0;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  const pthread_t self = pthread_self();
  std::atomic<bool> over{false};
  std::thread sender([&] {
    while (!over) {
      if (inside != 0) pthread_kill(self, SIGUSR1);
    }
  });
  for (int round = 0; round < 40; ++round) {
    const auto pair = AnotherPair();
    EpollSet own;
    set = &own;
    number = pair->fd();
    while (sigsetjmp(back, 1) == 0) {
      inside = 1;
      for (;;) {
        own.Add(number, kIn, 1);
        own.Modify(number, kIn | EPOLLRDHUP, 2);
        own.Remove(number);
      }
    }
    own.Remove(number);
    EXPECT_EQ(own.Add(number, kIn, 3), Done(0));
    pair->peer().Send(10);
    EXPECT_EQ(own.NextWith(kIn), kIn) << round;
    pair->Receive(10);
  }
  over = true;
  sender.join();
  EXPECT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

}  // namespace
}  // namespace conformance
