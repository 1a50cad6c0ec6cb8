// A connection passed by SCM_RIGHTS to another user, and to another program, which may have no
// library.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tests/conformance/pair.h"

extern char** environ;

namespace conformance {
namespace {

// Between two users there is no note that the other would believe: it stays on TCP.
class PassedToAnotherUserTest : public PairTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root can be another user";
    PairTest::SetUp();
  }
  static bool BecomeSomebodyElse() { return setresuid(65534, 65534, 65534) == 0; }
  bool Uses(int passed) {
    CHILD_CHECK(EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500);
    CHILD_CHECK(Routes(passed) <= 0);
    return EchoBytes(passed, &pair().received, &pair().sent, 500).bytes == 500;
  }
};
INSTANTIATE_TEST_SUITE_P(, PassedToAnotherUserTest, ProcessVariants(), VariantName);

TEST_P(PassedToAnotherUserTest, FromRoot) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  ChildProcess child([&] {
    CHILD_CHECK(close(fd()) == 0 && BecomeSomebodyElse());
    const int passed = ReceiveDescriptor(theirs.get());
    CHILD_CHECK(passed >= 0);
    return Uses(passed);
  });
  peer().Send(500);
  ASSERT_TRUE(WaitForBytes(fd(), 500));
  EXPECT_TRUE(SendDescriptor(ours.get(), fd()));
  EXPECT_EQ(pair().Close(), 0);
  peer().Receive(500);
  peer().Send(500);
  peer().Receive(500);
  EXPECT_TRUE(child.Succeeded());
  peer().ReceiveEndOfStream();
}

TEST_P(PassedToAnotherUserTest, ToRoot) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  peer().Send(500);
  ASSERT_TRUE(WaitForBytes(fd(), 500));
  ChildProcess child([&] {
    CHILD_CHECK(BecomeSomebodyElse());
    CHILD_CHECK(SendDescriptor(ours.get(), fd()));
    return close(fd()) == 0;
  });
  EXPECT_EQ(pair().Close(), 0);
  EXPECT_TRUE(child.Succeeded());
  const FileDescriptor passed(ReceiveDescriptor(theirs.get()));
  ASSERT_GE(passed.get(), 0);
  auto uses = InThread([&] { return Uses(passed.get()); });
  peer().Receive(500);
  peer().Send(500);
  peer().Receive(500);
  EXPECT_TRUE(uses.get());
}

class PassedToAProgramTest : public PairTest {
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
    int status = -1;
    EXPECT_EQ(waitpid(taker, &status, 0), taker);
    EXPECT_EQ(status, 0);
    peer().ExpectMoved(kBytes);
    peer().ReceiveEndOfStream();
  }
};
INSTANTIATE_TEST_SUITE_P(, PassedToAProgramTest, ProcessVariants(), VariantName);

TEST_P(PassedToAProgramTest, WithTheLibrary) { PassTo(true); }
// By exec with a cleared environment: nobody there knows of us.
TEST_P(PassedToAProgramTest, WithoutTheLibrary) { PassTo(false); }

}  // namespace
}  // namespace conformance
