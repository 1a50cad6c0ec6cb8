// How much is under way before somebody must read. A connection of the kernel takes some megabytes;
// whatever order of sends and receives ends there must end here: both ends may send first and read
// later, and the reader may be stopped.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kConnections = 4;
constexpr size_t kBytes = 3 << 20;  // each way; the kernel's default buffers take 3.9 MB and more
constexpr int kLimitMs = 20000;

// One connection of several, and how far the test has come in sending.
struct Lane {
  std::unique_ptr<ConnectedPair> pair;
  size_t left = kBytes;

  // One send that does not wait; false: there was no room.
  bool Push() {
    std::vector<char> bytes(std::min<size_t>(left, 64 * 1024));
    pair->sent.Fill(bytes.data(), bytes.size());
    const Outcome sent =
        Call(send(pair->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    if (sent.value <= 0) {
      EXPECT_EQ(sent, Failed(EAGAIN));
      return false;
    }
    pair->sent.Advance(static_cast<size_t>(sent.value));
    left -= static_cast<size_t>(sent.value);
    return true;
  }
};

class InFlightTest : public testing::TestWithParam<Variant> {
 protected:
  // The peers send all that they have to say, and then obey again.
  void SetUp() override {
    for (Lane& lane : lanes_) {
      lane.pair = ConnectedPair::Make(GetParam());
      ASSERT_NE(lane.pair, nullptr);
      lane.pair->peer().StartSend(kBytes);
    }
  }
  void ReadAll() {
    for (Lane& lane : lanes_) {
      lane.pair->peer().ExpectMoved(kBytes);
      lane.pair->peer().Receive(kBytes);
      lane.pair->Receive(kBytes);
      lane.pair->ExpectBothWaysWork();
    }
  }
  bool AllSent() const {
    return std::all_of(std::begin(lanes_), std::end(lanes_),
                       [](const Lane& lane) { return lane.left == 0; });
  }
  Lane lanes_[kConnections];
};
INSTANTIATE_TEST_SUITE_P(, InFlightTest, OneOfEachPlace(), VariantName);

TEST_P(InFlightTest, BlockingSendsToAllBeforeAnyIsRead) {
  for (Lane& lane : lanes_) lane.pair->Send(kBytes);
  ReadAll();
}

TEST_P(InFlightTest, OneThreadWithPoll) {
  while (!AllSent()) {
    std::vector<pollfd> entries;
    for (Lane& lane : lanes_) {
      while (lane.left != 0 && lane.Push()) {
      }
      if (lane.left != 0) entries.push_back({lane.pair->fd(), POLLOUT, 0});
    }
    if (!entries.empty()) {
      ASSERT_GT(poll(entries.data(), entries.size(), kLimitMs), 0) << "no room for ever";
    }
  }
  ReadAll();
}

TEST_P(InFlightTest, OneThreadWithEdges) {
  EpollSet set;
  for (Lane& lane : lanes_) {
    ASSERT_EQ(set.Add(lane.pair->fd(), EPOLLOUT | EPOLLET, &lane - lanes_), Done(0));
  }
  while (!AllSent()) {
    const std::vector<epoll_event> events = set.Wait(kLimitMs);
    ASSERT_FALSE(events.empty()) << "no room for ever";
    for (const epoll_event& event : events) {
      Lane& lane = lanes_[event.data.u64];
      while (lane.left != 0 && lane.Push()) {
      }
    }
  }
  ReadAll();
}

// Who finds no room and turns to another connection finds it when he comes back.
TEST_P(InFlightTest, OneThreadThatNeverWaits) {
  const Stopwatch stopwatch;
  while (!AllSent()) {
    ASSERT_LT(stopwatch.ElapsedMs(), kLimitMs) << "no room for ever";
    for (Lane& lane : lanes_) {
      if (lane.left != 0 && !lane.Push()) sched_yield();
    }
  }
  ReadAll();
}

class StillReaderTest : public PairTest {
 protected:
  void Stop() {
    ASSERT_EQ(kill(peer().pid(), SIGSTOP), 0);
    int status = 0;
    ASSERT_EQ(waitpid(peer().pid(), &status, WUNTRACED), peer().pid());
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  void Continue() { ASSERT_EQ(kill(peer().pid(), SIGCONT), 0); }
};
INSTANTIATE_TEST_SUITE_P(, StillReaderTest, ProcessVariants(), VariantName);

TEST_P(StillReaderTest, TakesMegabytesWhileItIsStopped) {
  peer().Send(100);
  Stop();
  pair().Send(kBytes);
  // What it had sent before has come, and does not wait for it.
  pair().Receive(100);
  Continue();
  peer().Receive(kBytes);
  pair().ExpectBothWaysWork();
}

// Also when its kernel has all that we send, and so our direction is ready to begin anew.
TEST_P(StillReaderTest, WhatItHasSentStaysReadableWhileItIsStopped) {
  constexpr int kWindowMs = 2000;  // long enough for what takes its time to go wrong
  peer().Send(100);
  ASSERT_TRUE(BecomesReadable(fd()));
  Stop();
  pair().Send(1000);
  char bytes[100];
  const Stopwatch stopwatch;
  while (stopwatch.ElapsedMs() < kWindowMs) {
    ASSERT_EQ(Call(recv(fd(), bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT)), Done(100))
        << "after ms: " << stopwatch.ElapsedMs();
    poll(nullptr, 0, 1);
  }
  pair().Receive(100);
  Continue();
  peer().Receive(1000);
  pair().ExpectBothWaysWork();
}

TEST_P(StillReaderTest, PollFindsRoomWhileItIsStopped) {
  Stop();
  for (size_t sent = 0; sent < kBytes;) {
    std::vector<char> bytes(64 * 1024);
    pair().sent.Fill(bytes.data(), bytes.size());
    const ssize_t count = send(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0) {
      ASSERT_EQ(Call(count), Failed(EAGAIN));
      ASSERT_EQ(Revents(fd(), POLLOUT, kLimitMs), POLLOUT);
      continue;
    }
    pair().sent.Advance(static_cast<size_t>(count));
    sent += static_cast<size_t>(count);
  }
  Continue();
  peer().Receive(pair().sent.offset() - 1);  // one byte went when the pair was made
  pair().ExpectBothWaysWork();
}

TEST_P(StillReaderTest, IsOnFifosAgainWhenItReads) {
  for (int round = 0; round < 3; ++round) {
    Stop();
    pair().Send(kBytes);
    Continue();
    peer().Receive(kBytes);
    if (CurrentMode() != Mode::kLocal) continue;
    const Stopwatch stopwatch;
    while (Routes(fd()) != (kSendsByFifo | kReceivesFromFifo)) {
      ASSERT_LT(stopwatch.ElapsedMs(), kLimitMs) << "not on FIFOs again";
      ASSERT_TRUE(UpgradeIfWanted(fd()));
      pair().ExpectBothWaysWork(1);
    }
  }
  pair().ExpectBothWaysWork();
}

// The kernel gives a connection up when what it has for the reader stays unacknowledged too long.
TEST_P(StillReaderTest, UserTimeoutEndsTheConnection) {
  const int limit_ms = 600;
  ASSERT_EQ(setsockopt(fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof limit_ms), 0);
  std::vector<char> bytes(1 << 20);
  Outcome outcome{};
  do {
    outcome = Call(send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
  } while (outcome.value > 0);
  EXPECT_EQ(outcome, Failed(ETIMEDOUT));
}

}  // namespace
}  // namespace conformance
