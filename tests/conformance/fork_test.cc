// A connection inherited over fork: used by the child, by the parent, by both in turn; closed by
// one of them; children that are killed; vfork children that close in their parent's memory.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

// The peer is a process of its own, so that no copy of its end comes into the children here.
class ForkTest : public PairTest {
 protected:
  bool Echoes(size_t bytes) {  // against a peer that echoes
    return SendBytes(fd(), &pair().sent, bytes).bytes == bytes &&
           ReceiveBytes(fd(), &pair().received, bytes).bytes == bytes;
  }
  void Advance(size_t bytes) {  // what a child has moved
    pair().sent.Advance(bytes);
    pair().received.Advance(bytes);
  }
};
INSTANTIATE_TEST_SUITE_P(, ForkTest, ProcessVariants(), VariantName);

TEST_P(ForkTest, ChildUsesItWhileTheParentWaits) {
  for (const size_t bytes : {10u, 100000u}) {
    peer().Start(Op::kEcho, bytes, 0, 2);
    ChildProcess child([this, bytes] {
      CHILD_CHECK(SendBytes(fd(), &pair().sent, bytes / 2).bytes == bytes / 2);
      CHILD_CHECK(ReceiveBytes(fd(), &pair().received, bytes / 2).bytes == bytes / 2);
      MarkedPoint(fd());
      return Echoes(bytes / 2);
    });
    EXPECT_TRUE(child.Succeeded());
    Advance(bytes);
    peer().ExpectMoved(bytes);
    pair().ExpectBothWaysWork();
    Mark();
  }
}

TEST_P(ForkTest, ParentAndChildTakeTurns) {
  constexpr int kTurns = 20;
  int turns[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, turns), 0);
  const FileDescriptor parent_turn(turns[0]), child_turn(turns[1]);
  peer().Start(Op::kEcho, 2 * kTurns * 30, 0, 3);
  const auto take_turns = [this](int turn) {
    char token;
    for (int i = 0; i < kTurns; ++i) {
      CHILD_CHECK(read(turn, &token, 1) == 1);
      CHILD_CHECK(Echoes(30));
      Advance(30);  // the other's turn
      if (i % 6 == 2) MarkedPoint(fd());
      CHILD_CHECK(write(turn, "t", 1) == 1);
    }
    return true;
  };
  ChildProcess child([&] {
    Advance(30);  // the parent is first
    return take_turns(child_turn.get());
  });
  ASSERT_EQ(write(child_turn.get(), "t", 1), 1);
  EXPECT_TRUE(take_turns(parent_turn.get()));
  EXPECT_TRUE(child.Succeeded());
  peer().ExpectMoved(2 * kTurns * 30);
}

TEST_P(ForkTest, ChildReceivesWhileTheParentSends) {
  constexpr size_t kBytes = 2 * 1000 * 1000;
  peer().Start(Op::kExchange, kBytes, 30000, 5);
  ChildProcess child([this] {
    const Transferred all = ReceiveBytes(fd(), &pair().received, kBytes, {40000, 5});
    CHILD_CHECK(all.bytes == kBytes);
    return true;
  });
  pair().Send(kBytes, {40000, 5});
  EXPECT_TRUE(child.Succeeded());
  peer().ExpectMoved(kBytes);
}

TEST_P(ForkTest, UnreadDataIsReadOnceByEither) {
  peer().Send(1000);
  ASSERT_TRUE(WaitForBytes(fd(), 1000));
  ChildProcess child([this] {
    CHILD_CHECK(ReceiveBytes(fd(), &pair().received, 400).bytes == 400);
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  pair().received.Advance(400);
  Mark();
  pair().Receive(600);
}

TEST_P(ForkTest, ChildThatClosesItsCopyChangesNothing) {
  ChildProcess child([this] {
    CHILD_CHECK(close(fd()) == 0);
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  pair().ExpectBothWaysWork();
  ChildProcess closes_all([] {
    closefrom(3);
    return true;
  });
  EXPECT_TRUE(closes_all.Succeeded());
  peer().StartReceive(1);
  EXPECT_TRUE(peer().StillBlocked());
  pair().Send(1);
  peer().ExpectMoved(1);
}

// A server that starts a program for a request: that one does not get the connection.
TEST_P(ForkTest, ChildThatExecsWithoutItChangesNothing) {
  ASSERT_EQ(fcntl(fd(), F_SETFD, FD_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/true", "true", nullptr);
    _exit(1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  pair().ExpectOnFifos();
  pair().ExpectBothWaysWork();
}

TEST_P(ForkTest, ChildEndingWhileTheParentIsBlocked) {
  char buffer[100];
  auto call = InThread([&] { return Call(recv(fd(), buffer, 100, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  ChildProcess child([] { return true; });
  EXPECT_TRUE(child.Succeeded());
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer, 10));
}

// The way of servers that fork for every connection.
TEST_P(ForkTest, ChildIsTheOnlyUser) {
  peer().Start(Op::kEcho, kToEnd);
  ChildProcess child([this] {
    CHILD_CHECK(Echoes(50000));
    MarkedPoint(fd());
    CHILD_CHECK(Echoes(50000));
    CHILD_CHECK(shutdown(fd(), SHUT_WR) == 0);
    MarkedPoint(fd());
    return true;
  });
  EXPECT_EQ(pair().Close(), 0);
  peer().ExpectMoved(100000);
  EXPECT_TRUE(child.Succeeded());
}

// Handed over while it was on FIFOs: what the parent's library knew of it is not true in the child.
class HandoverTest : public ForkTest {
 protected:
  // The child prepares its wait while we still have the socket, and waits when we have it no more.
  void HandOver(const std::function<bool()>& prepare, const std::function<bool()>& wait) {
    constexpr int kRounds = 5;
    int turns[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, turns), 0);
    const FileDescriptor parent_turn(turns[0]), child_turn(turns[1]);
    ChildProcess child([&] {
      char token;
      CHILD_CHECK(prepare());
      CHILD_CHECK(write(child_turn.get(), "t", 1) == 1);
      CHILD_CHECK(read(child_turn.get(), &token, 1) == 1);
      CHILD_CHECK(UpgradeIfWanted(fd()));
      CHILD_CHECK(write(child_turn.get(), "t", 1) == 1);
      for (int i = 0; i < kRounds; ++i) {
        CHILD_CHECK(wait());
        CHILD_CHECK(ReceiveBytes(fd(), &pair().received, 10).bytes == 10);
      }
      return true;
    });
    char token;
    ASSERT_EQ(read(parent_turn.get(), &token, 1), 1);
    EXPECT_EQ(pair().Close(), 0);
    ASSERT_EQ(write(parent_turn.get(), "t", 1), 1);
    ASSERT_EQ(read(parent_turn.get(), &token, 1), 1);
    for (int i = 0; i < kRounds; ++i) {
      WaitUntilAsleep(child.pid());
      peer().Send(10);
    }
    EXPECT_TRUE(child.Succeeded());
  }
};
INSTANTIATE_TEST_SUITE_P(, HandoverTest, ProcessVariants(), VariantName);

TEST_P(HandoverTest, ChildHearsItInAnEpollSetOfItsOwn) {
  EpollSet set;
  HandOver(
      [&] {
        set = EpollSet();
        return set.Add(fd(), EPOLLIN) == Done(0);
      },
      [&] { return set.Next() == EPOLLIN; });
}

TEST_P(HandoverTest, ChildHearsItInPoll) {
  HandOver([&] { return Revents(fd(), POLLIN, 0) == 0; }, [&] { return BecomesReadable(fd()); });
}

// Not handed over: both processes have it, and the child has a connection of its own as well, so
// that its library is at work.
TEST_P(ForkTest, ChildPollsWhatItsParentStillHas) {
  ChildProcess child([this] {
    const auto own = ConnectedPair::Make(kVariants[0]);
    CHILD_CHECK(own != nullptr);
    for (int i = 0; i < 3; ++i) {
      CHILD_CHECK(BecomesReadable(fd()));
      CHILD_CHECK(ReceiveBytes(fd(), &pair().received, 10).bytes == 10);
    }
    return true;
  });
  for (int i = 0; i < 3; ++i) {
    WaitUntilAsleep(child.pid());
    peer().Send(10);
  }
  EXPECT_TRUE(child.Succeeded());
  pair().received.Advance(30);
  pair().ExpectBothWaysWork();
}

TEST_P(ForkTest, EndOfTheOnlyUserEndsTheConnection) {
  ChildProcess child([this] {
    CHILD_CHECK(SendBytes(fd(), &pair().sent, 100000).bytes == 100000);
    return true;  // and _exit, without a close
  });
  EXPECT_EQ(pair().Close(), 0);
  peer().Receive(100000);
  peer().ReceiveEndOfStream();
  EXPECT_TRUE(child.Succeeded());
}

TEST_P(ForkTest, ChildKilledInABlockedReceive) {
  for (int round = 0; round < 3; ++round) {
    ChildProcess child([this] {
      char buffer[100];
      (void)!recv(fd(), buffer, 100, 0);
      return false;
    });
    poll(nullptr, 0, kBlockedMs);
    child.Kill();
    EXPECT_FALSE(child.Succeeded());
    pair().ExpectBothWaysWork();
    Mark();
  }
}

TEST_P(ForkTest, BothBlockedInReceive) {
  ChildProcess child([this] {
    char byte;
    return recv(fd(), &byte, 1, 0) == 1;
  });
  char byte;
  auto call = InThread([&] { return Call(recv(fd(), &byte, 1, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(1);
  peer().Send(1);
  EXPECT_EQ(call.get(), Done(1));
  EXPECT_TRUE(child.Succeeded());
  pair().received.Advance(2);
  pair().ExpectBothWaysWork();
}

TEST_P(ForkTest, GrandchildUsesIt) {
  peer().Start(Op::kEcho, 1000);
  ChildProcess child([this] {
    ChildProcess grandchild([this] { return Echoes(1000); });
    return grandchild.Succeeded();
  });
  EXPECT_TRUE(child.Succeeded());
  Advance(1000);
  peer().ExpectMoved(1000);
  pair().ExpectBothWaysWork();
}

TEST_P(ForkTest, ForkWhileAnotherThreadTransfers) {
  constexpr size_t kBytes = 3 * 1000 * 1000;
  peer().Start(Op::kEcho, kBytes, 20000, 3);
  auto sending = InThread([this] { pair().Send(kBytes, {20000, 3}); });
  auto receiving = InThread([this] { pair().Receive(kBytes, {20000, 3}); });
  for (int i = 0; i < 10; ++i) {
    ChildProcess child([] { return true; });
    EXPECT_TRUE(child.Succeeded());
  }
  sending.get();
  receiving.get();
  peer().ExpectMoved(kBytes);
}

// CPython, among others: the child shares its parent's memory until it execs or exits.
TEST_P(ForkTest, VforkChildThatClosesAndDuplicates) {
  const FileDescriptor copy(dup(fd()));
  const int number = fd();
  const int copy_number = copy.get();
  const pid_t pid = vfork();
  if (pid == 0) {
    dup2(number, 0);
    close(number);
    dup2(0, copy_number);
    close_range(3, ~0u, 0);
    _exit(0);
  }
  ASSERT_GT(pid, 0);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  pair().ExpectBothWaysWork(100000);
  EXPECT_EQ(SendBytes(copy.get(), &pair().sent, 10).bytes, 10u);
  peer().Receive(10);
}

// vsftpd makes its sessions by clone(2), unseen by libc, and gives up its rights in them. In libc's
// books the child then has the threads of its parent, and setuid() waits for one that has just been
// made: the library's must not be in that state when the child is made.
TEST(RawForkTest, ChildMadeByCloneRightAfterTheFirstBytesCanChangeItsUser) {
  for (int i = 0; i < 20; ++i) {
    // In a process that has had no connection before.
    ChildProcess fresh([] {
      const FileDescriptor listener = ListenOn(Loopback(AF_INET));
      sockaddr_in address{};
      socklen_t length = sizeof address;
      CHILD_CHECK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
      const FileDescriptor client(socket(AF_INET, SOCK_STREAM, 0));
      CHILD_CHECK(connect(client.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
      const FileDescriptor server(accept(listener.get(), nullptr, nullptr));
      CHILD_CHECK(write(server.get(), "220\n", 4) == 4);
      const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
      if (child == 0) {
        alarm(10);
        _exit(setuid(getuid()) == 0 ? 0 : 1);
      }
      int status = -1;
      CHILD_CHECK(waitpid(static_cast<pid_t>(child), &status, 0) == child);
      CHILD_CHECK(status == 0);
      return true;
    });
    ASSERT_TRUE(fresh.Succeeded());
  }
}

}  // namespace
}  // namespace conformance
