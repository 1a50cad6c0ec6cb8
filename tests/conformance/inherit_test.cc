// A connection handed to another program: by exec with an inherited descriptor, by posix_spawn, by
// SCM_RIGHTS. The receiver need not have the library, so the bytes go by TCP from there on; none
// may be lost on the way, not even those that had arrived and were unread.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/pair.h"

extern char** environ;

namespace conformance {
namespace {

class InheritTest : public PairTest {
 protected:
  // /bin/cat with the connection as its input and output.
  pid_t SpawnCat() {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd(), 0);
    posix_spawn_file_actions_adddup2(&actions, fd(), 1);
    pid_t pid = -1;
    char name[] = "cat";
    char* arguments[] = {name, nullptr};
    EXPECT_EQ(posix_spawn(&pid, "/bin/cat", &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
  }

  static void ExpectEnds(pid_t pid) {
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
};
INSTANTIATE_TEST_SUITE_P(, InheritTest, ProcessVariants(), VariantName);

TEST_P(InheritTest, SpawnedProgramEchoes) {
  const pid_t cat = SpawnCat();
  for (int i = 0; i < 10; ++i) {
    const std::string text = "round " + std::to_string(i) + "\n";
    peer().SendText(text);
    peer().ReceiveText(text);
  }
  peer().Shutdown(SHUT_WR);
  ExpectEnds(cat);
}

TEST_P(InheritTest, SpawnedProgramReadsWhatHadArrived) {
  peer().SendText("arrived before\n");
  ASSERT_TRUE(WaitForBytes(fd(), 15));
  Mark();
  const pid_t cat = SpawnCat();
  peer().ReceiveText("arrived before\n");
  peer().SendText("sent later\n");
  peer().ReceiveText("sent later\n");
  peer().Shutdown(SHUT_WR);
  ExpectEnds(cat);
  // Our own copy still works.
  ASSERT_EQ(Call(send(fd(), "ours\n", 5, 0)), Done(5));
  peer().ReceiveText("ours\n");
}

TEST_P(InheritTest, ForkAndExec) {
  peer().SendText("arrived before\n");
  const pid_t cat = fork();
  if (cat == 0) {
    dup2(fd(), 0);
    dup2(fd(), 1);
    execl("/bin/cat", "cat", nullptr);
    _exit(127);
  }
  EXPECT_EQ(pair().Close(), 0);
  peer().ReceiveText("arrived before\n");
  peer().SendText("sent later\n");
  peer().ReceiveText("sent later\n");
  peer().Shutdown(SHUT_WR);
  ExpectEnds(cat);
  peer().ReceiveText("");
}

// The program after the exec is this one, and has the library if we have it: where nobody else
// holds the connection, it goes on by FIFO.
void BecomeHeir(int fd, size_t from, size_t bytes, bool shared = false) {
  const std::string first = "--from=" + std::to_string(from);
  const std::string number = "--fd=" + std::to_string(fd);
  const std::string count = "--bytes=" + std::to_string(bytes);
  fcntl(fd, F_SETFD, 0);
  execl("/proc/self/exe", "heir", "--role=heir", number.c_str(), first.c_str(), count.c_str(),
        shared ? "--shared=1" : "--shared=0", nullptr);
  _exit(127);
}

TEST_P(InheritTest, ExecedProgramGoesOn) {
  constexpr size_t kBytes = 400;
  peer().Start(Op::kEcho, kBytes, 0, 0);
  const pid_t heir = fork();
  if (heir == 0) BecomeHeir(fd(), pair().sent.offset(), kBytes);
  EXPECT_EQ(pair().Close(), 0);
  ExpectEnds(heir);
  peer().ExpectMoved(kBytes);
  peer().ReceiveEndOfStream();
}

TEST_P(InheritTest, ExecedProgramGoesOnUnderAnotherNumber) {
  constexpr size_t kBytes = 400;
  peer().Start(Op::kEcho, kBytes, 0, 0);
  const pid_t heir = fork();
  if (heir == 0) {
    const int other = dup(fd());
    close(fd());
    BecomeHeir(other, pair().sent.offset(), kBytes);
  }
  EXPECT_EQ(pair().Close(), 0);
  ExpectEnds(heir);
  peer().ExpectMoved(kBytes);
  peer().ReceiveEndOfStream();
}

// As long as we hold it too, both may use it in turn, and neither by FIFO.
TEST_P(InheritTest, ExecedProgramSharesItWithUs) {
  constexpr size_t kBytes = 40;
  peer().Start(Op::kEcho, kBytes, 0, 0);
  const pid_t heir = fork();
  if (heir == 0) BecomeHeir(fd(), pair().sent.offset(), kBytes, true);
  ExpectEnds(heir);
  peer().ExpectMoved(kBytes);
  pair().sent.Advance(kBytes);
  pair().received.Advance(kBytes);
  pair().ExpectBothWaysWork();
}

// We have it again each time, whatever the heir could have been told in between.
TEST_P(InheritTest, FailedExecsOfWhoHasHandedItOn) {
  constexpr size_t kBytes = 40;
  peer().Start(Op::kEcho, kBytes, 0, 0);
  const pid_t heir = fork();
  if (heir == 0) BecomeHeir(fd(), pair().sent.offset(), kBytes, true);
  ASSERT_EQ(fcntl(fd(), F_SETFD, FD_CLOEXEC), 0);
  const std::string name = "/proc/" + std::to_string(heir) + "/cmdline";
  std::string line;
  int status = -1;
  while (waitpid(heir, &status, WNOHANG) == 0) {
    if (line != "heir") {  // nothing has been handed on yet
      std::ifstream file(name);
      std::getline(file, line, '\0');
    } else {
      execl("/nonexistent", "nonexistent", nullptr);
    }
  }
  EXPECT_EQ(status, 0);
  peer().ExpectMoved(kBytes);
  pair().sent.Advance(kBytes);
  pair().received.Advance(kBytes);
  pair().ExpectBothWaysWork();
}

TEST_P(InheritTest, FailedExecChangesNothing) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Call(execl("/nonexistent", "nonexistent", nullptr)), Failed(ENOENT));
    pair().ExpectBothWaysWork();
    Mark();
  }
  const pid_t child = fork();
  if (child == 0) {
    execl("/nonexistent", "nonexistent", nullptr);
    _exit(SendBytes(fd(), &pair().sent, 100).bytes == 100 ? 0 : 1);
  }
  ExpectEnds(child);
  pair().sent.Advance(100);
  peer().Receive(100);
  pair().ExpectBothWaysWork();
}

// The environment is cleared, and with it the library.
TEST_P(InheritTest, ExecedProgramHasNoLibrary) {
  peer().SendText("arrived before\n");
  ASSERT_TRUE(WaitForBytes(fd(), 15));
  ASSERT_EQ(Call(send(fd(), "sent before\n", 12, 0)), Done(12));
  const pid_t cat = fork();
  if (cat == 0) {
    dup2(fd(), 0);
    dup2(fd(), 1);
    char* const none[] = {nullptr};
    execle("/bin/cat", "cat", nullptr, none);
    _exit(127);
  }
  EXPECT_EQ(pair().Close(), 0);
  peer().ReceiveText("sent before\narrived before\n");
  for (int i = 0; i < 10; ++i) {
    const std::string text = "round " + std::to_string(i) + "\n";
    peer().SendText(text);
    peer().ReceiveText(text);
  }
  peer().Shutdown(SHUT_WR);
  ExpectEnds(cat);
  peer().ReceiveText("");
}

// An exec in the very process: nobody is left who could go on flushing.
TEST_P(InheritTest, ExecWithMuchUnread) {
  constexpr size_t kBytes = 3 * 1000 * 1000;
  peer().StartReceive(kBytes, {3000, 0});
  const pid_t writer = fork();
  if (writer == 0) {
    fcntl(fd(), F_SETFD, 0);
    if (SendBytes(fd(), &pair().sent, kBytes).bytes != kBytes) _exit(1);
    char* const none[] = {nullptr};
    execle("/bin/true", "true", nullptr, none);
    _exit(127);
  }
  EXPECT_EQ(pair().Close(), 0);
  ExpectEnds(writer);
  peer().ExpectMoved(kBytes);
  peer().ReceiveEndOfStream();
}

TEST_P(InheritTest, ShellReadsALineAndLeavesTheRest) {
  peer().SendText("first line\nsecond line\n");
  ASSERT_TRUE(WaitForBytes(fd(), 23));
  const pid_t shell = fork();
  if (shell == 0) {
    dup2(fd(), 0);
    dup2(fd(), 1);
    execl("/bin/sh", "sh", "-c", "read line; echo \"got $line\"", nullptr);
    _exit(127);
  }
  ExpectEnds(shell);
  peer().ReceiveText("got first line\n");
  char rest[12] = {};
  EXPECT_EQ(Call(recv(fd(), rest, 12, MSG_WAITALL)), Done(12));
  EXPECT_EQ(std::string(rest, 12), "second line\n");
}

TEST_P(InheritTest, CloseOnExecIsNotInherited) {
  ASSERT_EQ(fcntl(fd(), F_SETFD, FD_CLOEXEC), 0);
  const pid_t sleeping = fork();
  if (sleeping == 0) {
    execl("/bin/sleep", "sleep", "0.2", nullptr);
    _exit(127);
  }
  pair().ExpectBothWaysWork();
  EXPECT_EQ(pair().Close(), 0);
  peer().ReceiveEndOfStream();
  ExpectEnds(sleeping);
}

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

TEST_P(InheritTest, PassedToAnotherProcess) {
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
TEST_P(InheritTest, PassedAlongARow) {
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
TEST_P(InheritTest, PassedAndKept) {
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

// A message that cannot be sent changes nothing: it is tried again, and its connection followed.
TEST_P(InheritTest, PassedAtTheSecondAttempt) {
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
TEST_P(InheritTest, PassedByAProcessThatIsKilled) {
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
TEST_P(InheritTest, PassedAndPeekedAt) {
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

class PassedToAProgramTest : public InheritTest {
 protected:
  // This program again, which gets the connection by a message; we close it.
  void PassTo(bool with_library) {
    constexpr size_t kBytes = 400;
    int channel[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
    const FileDescriptor ours(channel[0]), theirs(channel[1]);
    peer().Start(Op::kEcho, kBytes, 0, 0);
    const std::string number = "--channel=" + std::to_string(theirs.get());
    const std::string first = "--from=" + std::to_string(pair().sent.offset());
    const std::string count = "--bytes=" + std::to_string(kBytes);
    const pid_t taker = fork();
    if (taker == 0) {
      close(fd());
      fcntl(theirs.get(), F_SETFD, 0);
      char* const none[] = {nullptr};
      execle("/proc/self/exe", "heir", "--role=heir", number.c_str(), first.c_str(), count.c_str(),
             nullptr, with_library ? environ : none);
      _exit(127);
    }
    EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
    EXPECT_EQ(pair().Close(), 0);
    ExpectEnds(taker);
    peer().ExpectMoved(kBytes);
    peer().ReceiveEndOfStream();
  }
};
INSTANTIATE_TEST_SUITE_P(, PassedToAProgramTest, ProcessVariants(), VariantName);

TEST_P(PassedToAProgramTest, WithTheLibrary) { PassTo(true); }
// By exec with a cleared environment: nobody there knows of us.
TEST_P(PassedToAProgramTest, WithoutTheLibrary) { PassTo(false); }

// Who gets a listening socket accepts, and what it accepts is a connection like any other.
TEST_P(InheritTest, ListenerPassedToAnotherProcess) {
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

TEST_P(InheritTest, PassedWithinTheProcess) {
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
