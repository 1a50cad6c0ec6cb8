// Epoll sets beyond one thread and one descriptor: shared by threads, EPOLLEXCLUSIVE,
// duplicates and closed members.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr uint32_t kIn = EPOLLIN;

class EpollShareTest : public PairTest {
 protected:
  EpollSet set_;
};
INSTANTIATE_TEST_SUITE_P(, EpollShareTest, AllVariants(), VariantName);

TEST_P(EpollShareTest, SameSocketInTwoSets) {
  EpollSet second;
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  ASSERT_EQ(second.Add(fd(), kIn), Done(0));
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  EXPECT_TRUE(set_.Quiet());
  EXPECT_EQ(second.Next(), kIn);
  EXPECT_EQ(second.Next(), kIn);
  pair().Receive(10);
  EXPECT_TRUE(second.Quiet());
}

TEST_P(EpollShareTest, ThreadsWaitingForOneEdge) {
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLET), Done(0));
  constexpr int kThreads = 3;
  std::atomic<int> woken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      if (set_.Next(-1) != 0) woken++;
    });
  }
  for (int i = 1; i <= kThreads; ++i) {
    poll(nullptr, 0, kBlockedMs);
    EXPECT_EQ(woken.load(), i - 1) << "one arrival wakes one thread";
    peer().Send(1);
    const Stopwatch stopwatch;
    while (woken.load() < i && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(woken.load(), kThreads);
  pair().Receive(kThreads);
}

// Workers share a set and take one connection each by EPOLLONESHOT: every byte is read once.
TEST_P(EpollShareTest, ThreadsTakingTurnsByOneShot) {
  constexpr size_t kBytes = 300 * 1000;
  constexpr int kPairs = 3;
  std::vector<std::unique_ptr<ConnectedPair>> pairs;
  std::atomic<size_t> left{kPairs * kBytes};
  for (uint64_t i = 0; i < kPairs; ++i) {
    pairs.push_back(AnotherPair());
    ASSERT_NE(pairs.back(), nullptr);
    ASSERT_EQ(set_.Add(pairs.back()->fd(), kIn | EPOLLONESHOT, i), Done(0));
    pairs.back()->peer().StartSend(kBytes, {5000, 5});
  }
  int wakeup[2];
  ASSERT_EQ(pipe(wakeup), 0);
  const FileDescriptor wakeup_out(wakeup[0]), wakeup_in(wakeup[1]);
  ASSERT_EQ(set_.Add(wakeup_out.get(), kIn, kPairs), Done(0));
  std::atomic<int> wrong{0};
  const auto work = [&] {
    char buffer[4000];
    while (left.load() > 0) {
      for (const epoll_event& event : set_.Wait(-1, 1)) {
        if (event.data.u64 == kPairs) return;
        ConnectedPair& ready = *pairs[event.data.u64];
        const ssize_t count = recv(ready.fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
        if (count > 0) {
          if (!ready.received.Take(buffer, count)) wrong++;
          left -= count;
        }
        set_.Modify(ready.fd(), kIn | EPOLLONESHOT, event.data.u64);
      }
    }
    if (write(wakeup_in.get(), "x", 1) != 1) wrong++;
  };
  std::thread first(work), second(work);
  first.join();
  second.join();
  EXPECT_EQ(left.load(), 0u);
  EXPECT_EQ(wrong.load(), 0);
  for (const auto& each : pairs) each->peer().ExpectMoved(kBytes);
}

TEST_P(EpollShareTest, ExclusiveMembersOfTwoSets) {
  EpollSet second;
  ASSERT_EQ(set_.Add(fd(), kIn | EPOLLEXCLUSIVE), Done(0));
  ASSERT_EQ(second.Add(fd(), kIn | EPOLLEXCLUSIVE), Done(0));
  auto first_wait = InThread([this] { return set_.Next(-1); });
  auto second_wait = InThread([&] { return second.Next(-1); });
  EXPECT_TRUE(StillBlocked(first_wait));
  EXPECT_TRUE(StillBlocked(second_wait));
  MarkAtPeer();
  peer().Send(10);
  // One is woken at least; the other may be. A second arrival wakes the one that is left.
  const Stopwatch stopwatch;
  while (stopwatch.ElapsedMs() < kSoonMs && !first_wait.Returned(1) && !second_wait.Returned(1)) {
  }
  EXPECT_LT(stopwatch.ElapsedMs(), kSoonMs);
  while (!first_wait.Returned(1) || !second_wait.Returned(1)) peer().Send(1);
  EXPECT_EQ(first_wait.get(), kIn);
  EXPECT_EQ(second_wait.get(), kIn);
}

TEST_P(EpollShareTest, ClosedMemberIsGone) {
  FileDescriptor copy(dup(fd()));
  ASSERT_EQ(set_.Add(fd(), kIn), Done(0));
  peer().Send(10);
  EXPECT_EQ(set_.Next(), kIn);
  copy.Close();
  EXPECT_EQ(set_.Next(), kIn);
  const int number = fd();
  pair().Close();
  EXPECT_TRUE(set_.Quiet());
  EXPECT_EQ(set_.Remove(number), Failed(EBADF));
}

TEST_P(EpollShareTest, DuplicateKeepsTheRegistrationOfAClosedMember) {
  const FileDescriptor copy(dup(fd()));
  ASSERT_EQ(set_.Add(fd(), kIn, 0xABCDEF), Done(0));
  const int number = fd();
  pair().Close();
  peer().Send(10);
  const auto events = set_.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 0xABCDEFu);
  EXPECT_EQ(set_.Modify(number, kIn), Failed(EBADF));
  // The duplicate is a member of its own.
  EXPECT_EQ(set_.Remove(copy.get()), Failed(ENOENT));
  char buffer[10];
  EXPECT_EQ(Call(read(copy.get(), buffer, 10)), Done(10));
  EXPECT_TRUE(set_.Quiet());
}

// What makes the connection go by TCP, if it does not already.
void AskForStamps(int fd) {
  const int on = 1;
  ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on), 0);
}

TEST_P(EpollShareTest, ClosedNumberOfADuplicateIsToldOfOnEveryRoute) {
  for (const uint32_t kind : {0u, static_cast<uint32_t>(EPOLLET)}) {
    const auto each = AnotherPair();
    ASSERT_NE(each, nullptr);
    ASSERT_EQ(set_.Add(each->fd(), kIn | kind, 0xABC), Done(0));
    ASSERT_TRUE(set_.Quiet());
    const FileDescriptor copy(dup(each->fd()));
    each->Close();
    for (int round = 0; round < 2; ++round) {
      each->peer().Send(10);
      const auto events = set_.Wait(kSoonMs);
      ASSERT_EQ(events.size(), 1u) << kind << " " << round;
      EXPECT_EQ(events[0].data.u64, 0xABCu);
      EXPECT_EQ(ReceiveBytes(copy.get(), &each->received, 10).bytes, 10u);
      EXPECT_TRUE(set_.Quiet());
      AskForStamps(copy.get());
    }
  }
}

// Nothing that becomes of the registration of the closed number is said of who has the number now.
TEST_P(EpollShareTest, ClosedNumberOfADuplicateIsAnothersNow) {
  for (const uint32_t kind : {0u, static_cast<uint32_t>(EPOLLONESHOT)}) {
    const auto first = AnotherPair(), second = AnotherPair();
    ASSERT_TRUE(first != nullptr && second != nullptr);
    const int number = first->fd();
    ASSERT_EQ(set_.Add(number, kIn | kind, 1), Done(0));
    const FileDescriptor copy(dup(number));
    first->Close();
    ASSERT_EQ(dup2(second->fd(), number), number);
    const FileDescriptor reused(number);
    AskForStamps(number);
    ASSERT_EQ(set_.Add(number, kIn, 2), Done(0));
    first->peer().Send(10);
    const auto shot = set_.Wait(kSoonMs);
    ASSERT_EQ(shot.size(), 1u) << kind;
    EXPECT_EQ(shot[0].data.u64, 1u);
    EXPECT_EQ(ReceiveBytes(copy.get(), &first->received, 10).bytes, 10u);
    AskForStamps(copy.get());
    second->peer().Send(10);
    const auto events = set_.Wait(kSoonMs);
    ASSERT_EQ(events.size(), 1u) << kind;
    EXPECT_EQ(events[0].data.u64, 2u);
    EXPECT_EQ(ReceiveBytes(reused.get(), &second->received, 10).bytes, 10u);
    EXPECT_TRUE(set_.Quiet());
  }
}

TEST_P(EpollShareTest, DuplicateBesideItsOriginal) {
  const FileDescriptor copy(dup(fd()));
  ASSERT_EQ(set_.Add(fd(), kIn, 1), Done(0));
  ASSERT_EQ(set_.Add(copy.get(), kIn, 2), Done(0));
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_EQ(set_.Wait(kSoonMs).size(), 2u);
  ASSERT_EQ(set_.Remove(fd()), Done(0));
  const auto events = set_.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 2u);
  pair().Receive(10);
}

TEST_P(EpollShareTest, DuplicateOfTheSet) {
  const FileDescriptor copy(fcntl(set_.fd(), F_DUPFD_CLOEXEC, 0));
  ASSERT_EQ(set_.Add(fd(), kIn, 9), Done(0));
  set_.Close();
  Mark();
  peer().Send(10);
  epoll_event event{};
  EXPECT_EQ(epoll_wait(copy.get(), &event, 1, kSoonMs), 1);
  EXPECT_EQ(event.data.u64, 9u);
  pair().Receive(10);
}

TEST_P(EpollShareTest, NumberReusedForAnotherConnection) {
  auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  ASSERT_EQ(set_.Add(other->fd(), kIn, 1), Done(0));
  const int number = other->fd();
  other.reset();
  ASSERT_EQ(dup2(fd(), number), number);
  const FileDescriptor reused(number);
  EXPECT_EQ(set_.Modify(number, kIn, 2), Failed(ENOENT));
  ASSERT_EQ(set_.Add(number, kIn, 2), Done(0));
  peer().Send(10);
  const auto events = set_.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 2u);
  pair().Receive(10);
}

}  // namespace
}  // namespace conformance
