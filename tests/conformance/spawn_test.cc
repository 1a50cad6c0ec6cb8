// A child in its parent's memory (vfork, clone with CLONE_VM) that becomes another program: what it
// keeps for that program works there, although the library could not see it coming when the child
// was made.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kBytes = 40;

// This program once more, without the library, and made ready before the child is: it goes on with
// the connection, which its peer echoes.
class Heir {
 public:
  Heir(int fd, size_t from)
      : fd_(fd),
        words_{"heir",
               "--role=heir",
               "--fd=" + std::to_string(fd),
               "--from=" + std::to_string(from),
               "--bytes=" + std::to_string(kBytes),
               "--seconds=10"} {
    for (std::string& word : words_) arguments_.push_back(word.data());
    arguments_.push_back(nullptr);
  }
  // Whoever speaks to the connection must do so by TCP from here on.
  void Become() {
    routes_ = Routes(fd_);
    char* const none[] = {nullptr};
    execve("/proc/self/exe", arguments_.data(), none);
    _exit(127);
  }
  int routes() const { return routes_; }

 private:
  const int fd_;
  int routes_ = kSendsByFifo;
  std::vector<std::string> words_;
  std::vector<char*> arguments_;
};

class SpawnTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    ASSERT_EQ(fcntl(fd(), F_SETFD, FD_CLOEXEC), 0);
  }

  void ExpectMovedAll(const Heir& heir, pid_t pid) {
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0);
    EXPECT_LE(heir.routes(), 0);
    peer().ExpectMoved(kBytes);
    pair().sent.Advance(kBytes);
    pair().received.Advance(kBytes);
    pair().ExpectBothWaysWork();
  }

  // `keep` takes close-on-exec away, in the child.
  template <typename Keep>
  void ExpectKeptByVforkChild(Keep keep) {
    Heir heir(fd(), pair().sent.offset());
    peer().Start(Op::kEcho, kBytes, 0, 0);
    const pid_t child = vfork();
    if (child == 0) {
      keep(fd());
      heir.Become();
    }
    ExpectMovedAll(heir, child);
  }
};
INSTANTIATE_TEST_SUITE_P(, SpawnTest, ProcessVariants(), VariantName);

// Python's subprocess.Popen(pass_fds=...), among others.
TEST_P(SpawnTest, VforkChildKeepsItByFcntl) {
  ExpectKeptByVforkChild([](int fd) { fcntl(fd, F_SETFD, 0); });
}
TEST_P(SpawnTest, VforkChildKeepsItByIoctl) {
  ExpectKeptByVforkChild([](int fd) { ioctl(fd, FIONCLEX); });
}
TEST_P(SpawnTest, VforkChildKeepsItBySyscall) {
  ExpectKeptByVforkChild([](int fd) { syscall(SYS_fcntl, fd, F_SETFD, 0); });
}
TEST_P(SpawnTest, VforkChildKeepsItBySyscallOfIoctl) {
  ExpectKeptByVforkChild([](int fd) { syscall(SYS_ioctl, fd, FIONCLEX); });
}

// Under that number it keeps something else; the connection stays as it is.
TEST_P(SpawnTest, VforkChildKeepsAnotherFileOfThatNumber) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const FileDescriptor out(ends[0]), in(ends[1]);
  const pid_t child = vfork();
  if (child == 0) {
    dup2(in.get(), fd());
    fcntl(fd(), F_SETFD, FD_CLOEXEC);
    fcntl(fd(), F_SETFD, 0);
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  if (CurrentMode() == Mode::kLocal) pair().ExpectOnFifos();
  pair().ExpectBothWaysWork();
}

TEST_P(SpawnTest, CloneInOurMemory) {
  ASSERT_EQ(fcntl(fd(), F_SETFD, 0), 0);
  Heir heir(fd(), pair().sent.offset());
  peer().Start(Op::kEcho, kBytes, 0, 0);
  alignas(16) static char stack[1 << 17];
  const auto become = [](void* argument) {
    static_cast<Heir*>(argument)->Become();
    return 1;
  };
  const pid_t child = clone(become, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &heir);
  ASSERT_GT(child, 0);
  ExpectMovedAll(heir, child);
}

}  // namespace
}  // namespace conformance
