// Several descriptors of one connection in one process: any of them works, and only the last close
// ends the connection.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class DupTest : public PairTest {
 protected:
  // One stream each way, through whichever descriptor.
  void ExpectWorks(int through, size_t bytes = 1000) {
    peer().Start(Op::kEcho, bytes);
    EXPECT_EQ(SendBytes(through, &pair().sent, bytes).bytes, bytes);
    EXPECT_EQ(ReceiveBytes(through, &pair().received, bytes).bytes, bytes);
    peer().ExpectMoved(bytes);
  }
};
INSTANTIATE_TEST_SUITE_P(, DupTest, AllVariants(), VariantName);

TEST_P(DupTest, EveryKindOfDuplicateWorks) {
  const int unused = 300;
  const FileDescriptor copies[] = {FileDescriptor(dup(fd())), FileDescriptor(dup2(fd(), unused)),
                                   FileDescriptor(dup3(fd(), unused + 1, O_CLOEXEC)),
                                   FileDescriptor(fcntl(fd(), F_DUPFD, 310)),
                                   FileDescriptor(fcntl(fd(), F_DUPFD_CLOEXEC, 320))};
  for (int round = 0; round < 3; ++round) {
    for (const FileDescriptor& copy : copies) ExpectWorks(copy.get(), 100 + round);
    ExpectWorks(fd());
    MarkedPoint(copies[round].get());
  }
  EXPECT_EQ(fcntl(copies[2].get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(copies[1].get(), F_GETFD), 0);
}

TEST_P(DupTest, PartOfAStreamThroughEach) {
  const FileDescriptor copy(dup(fd()));
  peer().Send(100);
  pair().Receive(30);
  EXPECT_EQ(ReceiveBytes(copy.get(), &pair().received, 30).bytes, 30u);
  Mark();
  pair().Receive(40);
}

TEST_P(DupTest, ClosingACopyIsNotTheEnd) {
  FileDescriptor copy(dup(fd()));
  copy.Close();
  peer().StartReceive(1);
  EXPECT_TRUE(peer().StillBlocked());
  pair().Send(1);
  peer().ExpectMoved(1);
  pair().ExpectBothWaysWork();
}

TEST_P(DupTest, ClosingTheOriginalIsNotTheEnd) {
  FileDescriptor copy(dup(fd()));
  pair().Close();
  ExpectWorks(copy.get());
  MarkedPoint(copy.get());
  ExpectWorks(copy.get());
  copy.Close();
  peer().ReceiveEndOfStream();
}

TEST_P(DupTest, ShutdownThroughACopyIsForAll) {
  const FileDescriptor copy(dup(fd()));
  ASSERT_EQ(shutdown(copy.get(), SHUT_WR), 0);
  peer().ReceiveEndOfStream();
  char byte = 0;
  EXPECT_EQ(Call(send(fd(), &byte, 1, MSG_NOSIGNAL)), Failed(EPIPE));
}

TEST_P(DupTest, Dup2OverAConnectionEndsIt) {
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  other->Send(10);
  ASSERT_EQ(dup2(fd(), other->fd()), other->fd());
  other->peer().Receive(10);
  other->peer().ReceiveEndOfStream();
  ExpectWorks(other->fd());
  ExpectWorks(fd());
}

TEST_P(DupTest, Dup2OverAConnectionWithSomethingElseEndsIt) {
  const FileDescriptor null(open("/dev/null", O_RDWR));
  pair().Send(10);
  Mark();
  ASSERT_EQ(dup2(null.get(), fd()), fd());
  peer().Receive(10);
  peer().ReceiveEndOfStream();
  char byte = 0;
  EXPECT_EQ(Call(read(fd(), &byte, 1)), Done(0));
  EXPECT_EQ(Call(write(fd(), &byte, 1)), Done(1));
  EXPECT_EQ(Call(recv(fd(), &byte, 1, 0)), Failed(ENOTSOCK));
}

TEST_P(DupTest, Dup2OntoItself) {
  EXPECT_EQ(dup2(fd(), fd()), fd());
  EXPECT_EQ(Call(dup3(fd(), fd(), 0)), Failed(EINVAL));
  pair().ExpectBothWaysWork();
}

TEST_P(DupTest, Failures) {
  EXPECT_EQ(Call(dup2(fd(), -1)), Failed(EBADF));
  EXPECT_EQ(Call(fcntl(fd(), F_DUPFD, -1)), Failed(EINVAL));
  const int closed = fcntl(fd(), F_DUPFD, 700);  // not one that others take for a moment (D-5)
  close(closed);
  EXPECT_EQ(Call(dup(closed)), Failed(EBADF));
  EXPECT_EQ(Call(dup2(closed, fd())), Failed(EBADF));
  pair().ExpectBothWaysWork();
}

TEST_P(DupTest, CloseRange) {
  const int low = fcntl(fd(), F_DUPFD, 400);
  const int high = fcntl(fd(), F_DUPFD, low + 1);
  ASSERT_EQ(high, low + 1);
  EXPECT_EQ(close_range(low, high, CLOSE_RANGE_CLOEXEC), 0);
  EXPECT_EQ(fcntl(low, F_GETFD), FD_CLOEXEC);
  ExpectWorks(low);
  EXPECT_EQ(close_range(low, high, 0), 0);
  EXPECT_EQ(Call(fcntl(low, F_GETFD)), Failed(EBADF));
  ExpectWorks(fd());
  EXPECT_EQ(close_range(fd(), fd(), 0), 0);
  peer().ReceiveEndOfStream();
}

// Where the library makes and closes descriptors of its own meanwhile.
class NumbersTest : public testing::Test {
 protected:
  // Connections that come and go, until `call` has said false or enough have come.
  static void BesideConnections(const std::function<bool()>& call) {
    constexpr int kConnections = 60;
    const FileDescriptor listener = ListenOn(Loopback(AF_INET));
    const Address name = LocalName(listener.get());
    std::atomic<bool> ends{false};
    auto others = InThread([&] {
      for (int i = 0; i < kConnections && !ends; ++i) {
        const FileDescriptor client(socket(AF_INET, SOCK_STREAM, 0));
        EXPECT_EQ(connect(client.get(), name.get(), name.length), 0);
        const FileDescriptor server(accept(listener.get(), nullptr, nullptr));
        EXPECT_TRUE(UpgradeIfWanted(client.get()));
        MarkedPoint(client.get());
        EXPECT_EQ(send(client.get(), "x", 1, 0), 1);
        char byte;
        EXPECT_EQ(recv(server.get(), &byte, 1, 0), 1);
      }
      ends = true;
      return 0;
    });
    while (!ends && call()) continue;
    ends = true;
    others.get();
  }
};

TEST_F(NumbersTest, AnExistingSignalfdKeepsItsNumber) {
  std::vector<FileDescriptor> lower;
  for (int i = 0; i < 10; ++i) lower.emplace_back(open("/dev/null", O_RDONLY));
  sigset_t set;
  sigemptyset(&set);
  const FileDescriptor signals(signalfd(-1, &set, SFD_NONBLOCK));
  lower.clear();
  BesideConnections([&] {
    const int number = signalfd(signals.get(), &set, SFD_NONBLOCK);
    EXPECT_EQ(number, signals.get());
    return number == signals.get();
  });
}

class DupOverForkTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, DupOverForkTest, ProcessVariants(), VariantName);

// As daemons do with dup2 and close. The number that the child has it by is a pipe of the parent's.
TEST_P(DupOverForkTest, ChildThatRenamesItsCopyDoesNotRenameTheParents) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const FileDescriptor pipe_out(ends[0]), pipe_in(ends[1]);
  pair().Send(1000);
  int turn[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, turn), 0);
  FileDescriptor ours(turn[0]);
  const FileDescriptor theirs(turn[1]);
  char token = 0;
  ChildProcess child([&] {
    CHILD_CHECK(dup2(fd(), pipe_in.get()) == pipe_in.get());
    CHILD_CHECK(close(fd()) == 0);
    CHILD_CHECK(write(theirs.get(), "t", 1) == 1);
    CHILD_CHECK(read(theirs.get(), &token, 1) == 1);
    return true;
  });
  ASSERT_EQ(read(ours.get(), &token, 1), 1);
  peer().SetOption(SOL_SOCKET, SO_TIMESTAMP, 1);  // what is in a FIFO comes by TCP now
  peer().Receive(1000);
  EXPECT_TRUE(StaysUnreadable(pipe_out.get()));
  ASSERT_EQ(write(ours.get(), "t", 1), 1);
  EXPECT_TRUE(child.Succeeded());
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
