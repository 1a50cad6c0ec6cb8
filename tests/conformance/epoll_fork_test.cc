// Epoll sets and their members in several processes: forked, and become other programs.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr uint32_t kIn = EPOLLIN;

class EpollForkTest : public PairTest {
 protected:
  // In the child: each time when the set says so, by the data of the registration.
  bool ReadsThriceTenBytes() {
    for (int round = 0; round < 3; ++round) {
      const auto events = set_.Wait(-1);
      CHILD_CHECK(events.size() == 1 && events[0].data.u64 == 4);
      CHILD_CHECK(ReceiveBytes(fd(), &pair().received, 10).bytes == 10);
    }
    return true;
  }
  EpollSet set_;
};
INSTANTIATE_TEST_SUITE_P(, EpollForkTest, ProcessVariants(), VariantName);

TEST_P(EpollForkTest, ChildSleepsInAnInheritedSet) {
  ASSERT_EQ(set_.Add(fd(), kIn, 4), Done(0));
  ChildProcess child([this] { return ReadsThriceTenBytes(); });
  for (int round = 0; round < 3; ++round) {
    WaitUntilAsleep(child.pid());
    peer().Send(10);
  }
  EXPECT_TRUE(child.Succeeded());
}

// As long as the child has it the kernel tells of it, and of who has got its number as well.
TEST_P(EpollForkTest, ParentClosesWhatAChildKeeps) {
  ASSERT_EQ(set_.Add(fd(), kIn, 4), Done(0));
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    char byte;
    CHILD_CHECK(recv(theirs.get(), &byte, 1, 0) == 1);
    return ReceiveBytes(fd(), &pair().received, 10).bytes == 10;
  });
  const int number = fd();
  ASSERT_EQ(pair().Close(), 0);
  int other[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
  const FileDescriptor here(other[0]), there(other[1]);
  ASSERT_EQ(here.get(), number);
  ASSERT_EQ(set_.Add(here.get(), kIn, 5), Done(0));
  peer().Send(10);
  const auto first = set_.Wait(kSoonMs);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].data.u64, 4u);
  ASSERT_EQ(send(ours.get(), "x", 1, 0), 1);
  EXPECT_TRUE(child.Succeeded());
  ASSERT_EQ(send(there.get(), "x", 1, 0), 1);
  const auto second = set_.Wait(kSoonMs);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].data.u64, 5u);
}

// The same of one that has become another program, edge-triggered: what the kernel tells of it is
// not told of those who are registered later.
TEST_P(EpollForkTest, ParentClosesWhatAProgramKeeps) {
  for (const bool by_fork : {true, false}) {
    EpollSet set;
    const auto kept = AnotherPair();
    ASSERT_NE(kept, nullptr);
    ASSERT_EQ(fcntl(kept->fd(), F_SETFD, 0), 0);
    ASSERT_EQ(set.Add(kept->fd(), kIn | EPOLLET, 4), Done(0));
    ASSERT_TRUE(set.Quiet());
    char name[] = "sleep", time[] = "60";
    char* const arguments[] = {name, time, nullptr};
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    FileDescriptor here(ends[0]), there(ends[1]);
    pid_t child = by_fork ? fork() : -1;
    if (child == 0) {
      execvp(name, arguments);
      _exit(1);
    }
    if (!by_fork) {
      ASSERT_EQ(posix_spawnp(&child, name, nullptr, nullptr, arguments, environ), 0);
    }
    there.Close();
    char byte;
    ASSERT_EQ(read(here.get(), &byte, 1), 0);  // it is that program
    kept->Close();
    std::vector<std::unique_ptr<ConnectedPair>> others;
    for (int i = 0; i < 3; ++i) {
      others.push_back(AnotherPair());
      ASSERT_NE(others.back(), nullptr);
      ASSERT_EQ(set.Add(others.back()->fd(), kIn, 5), Done(0));
    }
    kept->peer().Send(10);
    const auto events = set.Wait(kSoonMs);
    EXPECT_EQ(events.size(), 1u) << by_fork;
    for (const epoll_event& event : events) EXPECT_EQ(event.data.u64, 4u) << by_fork;
    EXPECT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(waitpid(child, nullptr, 0), child);
  }
}

TEST_P(EpollForkTest, ChildWaitsOnceInASetOfManyEdges) {
  std::vector<std::unique_ptr<ConnectedPair>> pairs;
  for (int i = 0; i < 70; ++i) {
    pairs.push_back(AnotherPair());
    ASSERT_NE(pairs.back(), nullptr);
    ASSERT_EQ(set_.Add(pairs.back()->fd(), kIn | EPOLLET, 4), Done(0));
  }
  ChildProcess child([this] { return set_.Quiet(); });
  EXPECT_TRUE(child.Succeeded());
  EXPECT_TRUE(set_.Quiet());
  pairs[69]->peer().Send(10);
  const auto events = set_.Wait(kSoonMs);
  EXPECT_EQ(events.size(), 1u);
  pairs[69]->Receive(10);
}

TEST_P(EpollForkTest, ChildWaitsOnAnInheritedSet) {
  ASSERT_EQ(set_.Add(fd(), kIn, 4), Done(0));
  ChildProcess child([this] { return ReadsThriceTenBytes(); });
  for (int round = 0; round < 3; ++round) {
    peer().Send(10);
    MarkAtPeer();
  }
  // Three times ten bytes; how they meet the child's three rounds does not matter.
  EXPECT_TRUE(child.Succeeded());
}

TEST_P(EpollForkTest, ChildAddsToTheParentsSet) {
  ChildProcess child([this] { return set_.Add(fd(), kIn, 8) == Done(0); });
  EXPECT_TRUE(child.Succeeded());
  EXPECT_EQ(set_.Add(fd(), kIn, 9), Failed(EEXIST));
  peer().Send(10);
  const auto events = set_.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].data.u64, 8u);
  pair().Receive(10);
}

// Both sleep in the set, and one alone knows of a connection that was made after the fork.
TEST_P(EpollForkTest, OwnerAndChildSleepInOneSet) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const FileDescriptor end(ends[0]), ending(ends[1]);
  ASSERT_EQ(set_.Add(end.get(), kIn, 1), Done(0));
  ChildProcess child([&] {
    for (;;) {
      for (const epoll_event& event : set_.Wait(20)) {
        if (event.data.u64 == 1) return true;
        CHILD_CHECK(event.data.u64 == 5);
        poll(nullptr, 0, 1);
      }
    }
  });
  WaitUntilAsleep(child.pid());
  ASSERT_EQ(set_.Add(fd(), kIn, 5), Done(0));
  const auto another = AnotherPair();
  ASSERT_NE(another, nullptr);
  ASSERT_EQ(set_.Add(another->fd(), kIn, 5), Done(0));
  for (int round = 0; round < 20; ++round) {
    ConnectedPair& talks = round % 2 == 0 ? pair() : *another;
    talks.peer().Send(10);
    const auto events = set_.Wait(kSoonMs);
    ASSERT_EQ(events.size(), 1u) << round;
    EXPECT_EQ(events[0].data.u64, 5u);
    EXPECT_EQ(ReceiveBytes(talks.fd(), &talks.received, 10).bytes, 10u);
  }
  ASSERT_EQ(write(ending.get(), "x", 1), 1);
  EXPECT_TRUE(child.Succeeded());
}

}  // namespace
}  // namespace conformance
