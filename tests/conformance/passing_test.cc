// A connection or a listener passed by SCM_RIGHTS, to a process with the library or without. It
// goes by TCP while two processes may use it, and is accelerated anew where it is held alone; no
// byte may be lost on the way, not even those that had arrived and were unread.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/pair.h"

extern char** environ;

namespace conformance {
namespace {

class PassingTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, PassingTest, ProcessVariants(), VariantName);

// "It is your turn."
bool Say(int channel) { return send(channel, "x", 1, 0) == 1; }
bool Hear(int channel) {
  char byte;
  return recv(channel, &byte, 1, 0) == 1;
}

// Who gets a connection goes on with it by FIFO as soon as nobody else holds it. The peer rests
// meanwhile: until we have heard from the other end of the channel, and until we answer.
bool GoesOnByFifo(int fd, int channel) {
  const bool goes_on =
      Hear(channel) && UpgradeIfWanted(fd) &&
      (CurrentMode() != Mode::kLocal || Routes(fd) == (kSendsByFifo | kReceivesFromFifo));
  return Say(channel) && goes_on;
}

TEST_P(PassingTest, PassedToAnotherProcess) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0);
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    CHILD_CHECK(ReceiveBytes(passed, &pair().received, 1000).bytes == 1000);
    CHILD_CHECK(SendBytes(passed, &pair().sent, 50000).bytes == 50000);
    CHILD_CHECK(GoesOnByFifo(passed, theirs.get()));
    return EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500;
  });
  peer().Send(500);
  ASSERT_TRUE(WaitForBytes(fd(), 500));
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  EXPECT_EQ(pair().Close(), 0);
  peer().Send(500);
  peer().Receive(50000);
  EXPECT_TRUE(Say(ours.get()) && Hear(ours.get()));
  peer().Send(500);
  peer().Receive(500);
  peer().ReceiveEndOfStream();
  EXPECT_TRUE(child.Succeeded());
}

// Passed along a row of processes, each of which uses it by FIFO in its turn.
TEST_P(PassingTest, PassedAlongARow) {
  constexpr int kProcesses = 3;
  std::vector<FileDescriptor> ours, theirs;
  for (int i = 0; i < kProcesses; ++i) {
    int channel[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    ours.emplace_back(channel[0]);
    theirs.emplace_back(channel[1]);
  }
  std::vector<std::unique_ptr<ChildProcess>> row;
  for (int i = 0; i < kProcesses; ++i) {
    row.push_back(std::make_unique<ChildProcess>([&, i] {
      CHILD_CHECK(close(fd()) == 0);
      const int passed = ReceiveDescriptor(theirs[static_cast<size_t>(i)].get());
      CHILD_CHECK(passed >= 0);
      pair().sent.Advance(500 * static_cast<size_t>(i));
      pair().received.Advance(500 * static_cast<size_t>(i));
      CHILD_CHECK(GoesOnByFifo(passed, theirs[static_cast<size_t>(i)].get()));
      CHILD_CHECK(EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500);
      if (i + 1 < kProcesses)
        CHILD_CHECK(SendDescriptor(ours[static_cast<size_t>(i) + 1].get(), passed));
      return close(passed) == 0 && Say(theirs[static_cast<size_t>(i)].get());
    }));
  }
  EXPECT_TRUE(SendDescriptor(ours[0].get(), fd()));
  EXPECT_EQ(pair().Close(), 0);
  for (const FileDescriptor& channel : ours) {
    EXPECT_TRUE(Say(channel.get()) && Hear(channel.get()));
    peer().Send(500);
    peer().Receive(500);
    EXPECT_TRUE(Hear(channel.get()));
  }
  peer().ReceiveEndOfStream();
  for (const auto& child : row) EXPECT_TRUE(child->Succeeded());
}

// Both have it, and use it in turn: neither by FIFO.
TEST_P(PassingTest, PassedAndKept) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0);
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    MarkedPoint(passed);
    CHILD_CHECK(EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500);
    CHILD_CHECK(CurrentMode() != Mode::kLocal || (!UpgradeIfWanted(passed) && Routes(passed) <= 0));
    return true;
  });
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  peer().Send(500);
  peer().Receive(500);
  EXPECT_TRUE(child.Succeeded());
  pair().sent.Advance(500);
  pair().received.Advance(500);
  pair().ExpectBothWaysWork();
}

// The same, many times.
TEST_P(PassingTest, PassedKeptAndUsedInTurn) {
  constexpr int kTurns = 6;
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  const auto turn = [&](int used) {
    MarkedPoint(used);
    const bool echoed = EchoBytes(used, &pair().received, &pair().sent, 500).bytes == 500;
    return echoed &&
           (CurrentMode() != Mode::kLocal || (!UpgradeIfWanted(used) && Routes(used) <= 0));
  };
  const auto skip = [&] {
    pair().received.Advance(500);
    pair().sent.Advance(500);
  };
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0);
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    for (int i = 0; i < kTurns; ++i) {
      CHILD_CHECK(turn(passed) && Say(theirs.get()) && Hear(theirs.get()));
      skip();
    }
    return true;
  });
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  for (int i = 0; i < kTurns; ++i) {
    for (const bool here : {false, true}) {
      peer().StartSend(500);
      if (here) {
        EXPECT_TRUE(turn(fd()));
      } else {
        EXPECT_TRUE(Hear(ours.get()));
        skip();
      }
      peer().ExpectMoved(500);
      peer().Receive(500);
    }
    EXPECT_TRUE(Say(ours.get()));
  }
  EXPECT_TRUE(child.Succeeded());
}

// As a login process does it: who gets the connection has used it for a while when the other closes
// it.
TEST_P(PassingTest, PassedAndClosedLater) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0);
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    MarkedPoint(passed);
    CHILD_CHECK(EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500);
    CHILD_CHECK(CurrentMode() != Mode::kLocal || (!UpgradeIfWanted(passed) && Routes(passed) <= 0));
    CHILD_CHECK(Say(theirs.get()) && GoesOnByFifo(passed, theirs.get()));
    return EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500;
  });
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  peer().Send(500);
  peer().Receive(500);
  EXPECT_TRUE(Hear(ours.get()));
  EXPECT_EQ(pair().Close(), 0);
  EXPECT_TRUE(Say(ours.get()) && Hear(ours.get()));
  peer().Send(500);
  peer().Receive(500);
  peer().ReceiveEndOfStream();
  EXPECT_TRUE(child.Succeeded());
}

// A message that cannot be sent changes nothing: it is tried again, and its connection followed.
TEST_P(PassingTest, PassedAtTheSecondAttempt) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0);
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    CHILD_CHECK(GoesOnByFifo(passed, theirs.get()));
    return EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500;
  });
  int full[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, full), 0);
  const FileDescriptor full_end(full[0]), unread_end(full[1]);
  while (Say(full_end.get())) {
  }
  EXPECT_FALSE(SendDescriptor(full_end.get(), fd()));
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  EXPECT_EQ(pair().Close(), 0);
  EXPECT_TRUE(Say(ours.get()) && Hear(ours.get()));
  peer().Send(500);
  peer().Receive(500);
  peer().ReceiveEndOfStream();
  EXPECT_TRUE(child.Succeeded());
}

// Who passed it is killed, and says nothing more.
TEST_P(PassingTest, PassedByAProcessThatIsKilled) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  const pid_t sender = fork();
  if (sender == 0) {
    SendDescriptor(ours.get(), fd());
    kill(getpid(), SIGKILL);
  }
  EXPECT_EQ(pair().Close(), 0);
  const FileDescriptor passed(ReceiveDescriptor(theirs.get()));
  ASSERT_GE(passed.get(), 0);
  int status = 0;
  EXPECT_EQ(waitpid(sender, &status, 0), sender);
  MarkedPoint(passed.get());
  for (int i = 0; i < 3; ++i) {
    peer().Send(500);
    EXPECT_EQ(EchoBytes(passed.get(), &pair().received, &pair().sent, 500).bytes, 500u);
    peer().Receive(500);
  }
}

// A look at the message gives a second descriptor of the connection.
TEST_P(PassingTest, PassedAndPeekedAt) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  EXPECT_EQ(pair().Close(), 0);
  const FileDescriptor first(ReceiveDescriptor(theirs.get(), MSG_PEEK));
  const FileDescriptor second(ReceiveDescriptor(theirs.get()));
  ASSERT_GE(first.get(), 0);
  ASSERT_GE(second.get(), 0);
  for (const int passed : {second.get(), first.get(), second.get()}) {
    peer().Send(500);
    EXPECT_EQ(EchoBytes(passed, &pair().received, &pair().sent, 500).bytes, 500u);
    peer().Receive(500);
  }
}

// Who gets a listening socket accepts, and what it accepts is a connection like any other.
TEST_P(PassingTest, ListenerPassedToAnotherProcess) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    const FileDescriptor listener(ReceiveDescriptor(theirs.get()));
    CHILD_CHECK(listener.get() >= 0);
    for (int i = 0; i < 3; ++i) {
      const FileDescriptor accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      CHILD_CHECK(accepted.get() >= 0);
      ByteStream received(1), sent(2);
      CHILD_CHECK(EchoBytes(accepted.get(), &received, &sent, 3000).bytes == 3000);
    }
    return true;
  });
  FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Address name = LocalName(listener.get());
  EXPECT_TRUE(SendDescriptor(ours.get(), listener.get()));
  EXPECT_EQ(listener.Close(), 0);
  for (int i = 0; i < 3; ++i) {
    const FileDescriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(Call(connect(client.get(), name.get(), name.length)), Done(0));
    ByteStream sent(1), received(2);
    for (int part = 0; part < 3; ++part) {
      ASSERT_EQ(SendBytes(client.get(), &sent, 1000).bytes, 1000u);
      ASSERT_EQ(ReceiveBytes(client.get(), &received, 1000).bytes, 1000u);
      if (part == 0) {
        ASSERT_TRUE(UpgradeIfWanted(client.get())) << strerrorname_np(errno);
      }
      MarkedPoint(client.get());
    }
  }
  EXPECT_TRUE(child.Succeeded());
}

TEST_P(PassingTest, PassedWithinTheProcess) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  peer().Send(500);
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  const FileDescriptor passed(ReceiveDescriptor(theirs.get()));
  ASSERT_GE(passed.get(), 0);
  EXPECT_EQ(ReceiveBytes(passed.get(), &pair().received, 500).bytes, 500u);
  EXPECT_EQ(SendBytes(passed.get(), &pair().sent, 500).bytes, 500u);
  peer().Receive(500);
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
