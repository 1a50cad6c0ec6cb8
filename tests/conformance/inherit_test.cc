// A connection handed to another program: by exec with an inherited descriptor, by posix_spawn
// (SCM_RIGHTS: passing_test.cc). The receiver need not have the library, so the bytes go by TCP
// from there on; none may be lost on the way, not even those that had arrived and were unread.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/mode.h"
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

// A file that is no program, and that nobody can open before it is given free.
class GuardedFile {
 public:
  GuardedFile() {
    sigemptyset(&wanted_);
    sigaddset(&wanted_, SIGIO);
    pthread_sigmask(SIG_BLOCK, &wanted_, nullptr);
    EXPECT_EQ(write(fd_.get(), "no program", 10), 10);
    EXPECT_EQ(fchmod(fd_.get(), 0700), 0);
    EXPECT_EQ(fcntl(fd_.get(), F_SETLEASE, F_WRLCK), 0) << strerrorname_np(errno);
  }
  ~GuardedFile() { unlink(name_); }
  const char* name() const { return name_; }
  bool SomebodyWaits() {
    const timespec limit{kSoonMs / 1000, 0};
    return sigtimedwait(&wanted_, nullptr, &limit) == SIGIO;
  }
  void Free() { fd_.Close(); }
  // In a child, which goes on when somebody has given it free.
  void Exec() {
    Free();
    execl(name_, "none", nullptr);
  }

 private:
  char name_[32] = "/tmp/conformance.XXXXXX";
  FileDescriptor fd_{mkostemp(name_, O_CLOEXEC)};
  sigset_t wanted_;
};

// One process is in the middle of an exec that is going to fail; another hands the connection on
// meanwhile. Both have it.
TEST_P(InheritTest, FailingExecThatTakesItsTime) {
  constexpr size_t kBytes = 40;
  peer().Start(Op::kEcho, kBytes + 10, 0, 0);
  GuardedFile file;
  const pid_t slow = fork();
  if (slow == 0) {
    fcntl(fd(), F_SETFD, FD_CLOEXEC);
    file.Exec();
    pair().sent.Advance(kBytes);
    pair().received.Advance(kBytes);
    _exit(SendBytes(fd(), &pair().sent, 10).bytes == 10 &&
                  ReceiveBytes(fd(), &pair().received, 10).bytes == 10
              ? 0
              : 1);
  }
  EXPECT_TRUE(file.SomebodyWaits());
  const pid_t heir = fork();
  if (heir == 0) BecomeHeir(fd(), pair().sent.offset(), kBytes, true);
  EXPECT_EQ(pair().Close(), 0);
  ExpectEnds(heir);
  file.Free();
  ExpectEnds(slow);
  peer().ExpectMoved(kBytes + 10);
  peer().ReceiveEndOfStream();
}

// The other looks as if it had the connection alone meanwhile: memory that it maps for it would not
// be there in the one whose exec fails.
TEST_P(InheritTest, FailingExecWhileTheOtherGoesOn) {
  char byte;
  EXPECT_EQ(Call(recv(fd(), &byte, 1, MSG_OOB | MSG_DONTWAIT)), Failed(EINVAL));  // is on TCP then
  pair().ExpectBothWaysWork();
  poll(nullptr, 0, 5 * kBlockedMs);  // and nothing of it is in FIFOs
  GuardedFile file;
  const pid_t slow = fork();
  if (slow == 0) {
    fcntl(fd(), F_SETFD, FD_CLOEXEC);
    file.Exec();
    char text[6];
    _exit(send(fd(), "child", 5, 0) == 5 && recv(fd(), text, 6, MSG_WAITALL) == 6 &&
                  memcmp(text, "parent", 6) == 0
              ? 0
              : 1);
  }
  EXPECT_TRUE(file.SomebodyWaits());
  pair().ExpectBothWaysWork();
  UpgradeIfWanted(fd());  // must not succeed
  pair().ExpectBothWaysWork();
  file.Free();
  peer().ReceiveText("child");
  peer().SendText("parent");
  ExpectEnds(slow);
  pair().ExpectBothWaysWork();
}

// And one that has succeeded is no longer waited for.
TEST_P(InheritTest, ExecOfAnotherHolderIsOver) {
  constexpr size_t kBytes = 400;
  peer().Start(Op::kEcho, kBytes, 0, 0);
  ASSERT_EQ(fcntl(fd(), F_SETFD, FD_CLOEXEC), 0);
  const pid_t other = fork();
  if (other == 0) {
    execl("/bin/true", "true", nullptr);
    _exit(127);
  }
  ExpectEnds(other);
  const pid_t heir = fork();
  if (heir == 0) BecomeHeir(fd(), pair().sent.offset(), kBytes);
  EXPECT_EQ(pair().Close(), 0);
  ExpectEnds(heir);
  peer().ExpectMoved(kBytes);
  peer().ReceiveEndOfStream();
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

}  // namespace
}  // namespace conformance
