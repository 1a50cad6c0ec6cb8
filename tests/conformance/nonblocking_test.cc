// O_NONBLOCK belongs to the open file description: set by fcntl or FIONBIO, here or through a
// duplicate or from a child process, it holds for every descriptor of it; and it can be taken away.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

void SetByFcntl(int fd, bool on) {
  const int flags = fcntl(fd, F_GETFL);
  EXPECT_EQ(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
}

void SetByIoctl(int fd, bool on) {
  int value = on;
  EXPECT_EQ(ioctl(fd, FIONBIO, &value), 0);
}

class NonblockingTest : public PairTest {
 protected:
  bool FlagIsSet() { return (fcntl(fd(), F_GETFL) & O_NONBLOCK) != 0; }
  Outcome Recv() { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); }

  // Toggled on and off by `set` applied to `through`.
  void ExpectToggles(int through, void (*set)(int, bool)) {
    for (int round = 0; round < 2; ++round) {
      set(through, true);
      EXPECT_TRUE(FlagIsSet());
      EXPECT_EQ(Recv(), Failed(EAGAIN));
      EXPECT_EQ(Call(read(fd(), buffer_, 1)), Failed(EAGAIN));
      peer().Send(10);
      ASSERT_TRUE(WaitForBytes(fd(), 10));
      EXPECT_EQ(Recv(), Done(10));
      EXPECT_TRUE(pair().received.Take(buffer_, 10));
      Mark();
      EXPECT_EQ(Recv(), Failed(EAGAIN));
      set(through, false);
      EXPECT_FALSE(FlagIsSet());
      auto call = InThread([this] { return Recv(); });
      EXPECT_TRUE(StillBlocked(call));
      peer().Send(10);
      EXPECT_EQ(call.get(), Done(10));
      EXPECT_TRUE(pair().received.Take(buffer_, 10));
    }
  }

  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, NonblockingTest, AllVariants(), VariantName);

TEST_P(NonblockingTest, ByFcntl) { ExpectToggles(fd(), SetByFcntl); }
TEST_P(NonblockingTest, ByIoctl) { ExpectToggles(fd(), SetByIoctl); }

TEST_P(NonblockingTest, ByFcntlOnADuplicate) {
  const FileDescriptor copy(dup(fd()));
  ExpectToggles(copy.get(), SetByFcntl);
}

TEST_P(NonblockingTest, ByIoctlOnADuplicate) {
  const FileDescriptor copy(fcntl(fd(), F_DUPFD_CLOEXEC, 0));
  ExpectToggles(copy.get(), SetByIoctl);
}

TEST_P(NonblockingTest, OutlivesTheDuplicateThatSetIt) {
  FileDescriptor copy(dup(fd()));
  SetByFcntl(copy.get(), true);
  copy.Close();
  EXPECT_TRUE(FlagIsSet());
  EXPECT_EQ(Recv(), Failed(EAGAIN));
}

TEST_P(NonblockingTest, FromAChildProcess) {
  ChildProcess child([this] {
    SetByFcntl(fd(), true);
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  EXPECT_TRUE(FlagIsSet());
  EXPECT_EQ(Recv(), Failed(EAGAIN));
  pair().ExpectBothWaysWork();
}

TEST_P(NonblockingTest, SendStopsAtFull) {
  SetByFcntl(fd(), true);
  size_t total = 0;
  Outcome outcome{};
  char chunk[10000];
  do {
    pair().sent.Fill(chunk, sizeof(chunk));
    outcome = Call(write(fd(), chunk, sizeof(chunk)));
    if (outcome.value > 0) {
      pair().sent.Advance(outcome.value);
      total += outcome.value;
    }
  } while (outcome.value > 0);
  EXPECT_EQ(outcome, Failed(EAGAIN));
  EXPECT_GT(total, 0u);
  Mark();
  peer().Receive(total);
  EXPECT_TRUE(BecomesWritable(fd()));
}

TEST_P(NonblockingTest, SettingItDoesNotWakeABlockedCall) {
  auto call = InThread([this] { return Recv(); });
  EXPECT_TRUE(StillBlocked(call));
  SetByFcntl(fd(), true);
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(1);
  EXPECT_EQ(call.get(), Done(1));
  EXPECT_TRUE(pair().received.Take(buffer_, 1));
}

TEST(NonblockingListenerTest, AcceptGivesTheFlagAskedFor) {
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  SetByFcntl(listener.get(), true);
  EXPECT_EQ(Call(accept(listener.get(), nullptr, nullptr)), Failed(EAGAIN));
  const Address name = LocalName(listener.get());
  for (const int flags : {0, +SOCK_NONBLOCK, +SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC}) {
    const FileDescriptor client(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect(client.get(), name.get(), name.length), 0);
    ASSERT_TRUE(BecomesReadable(listener.get()));
    const FileDescriptor accepted(accept4(listener.get(), nullptr, nullptr, flags));
    // Not inherited from the listener, other than on BSD.
    EXPECT_EQ((fcntl(accepted.get(), F_GETFL) & O_NONBLOCK) != 0, (flags & SOCK_NONBLOCK) != 0);
    EXPECT_EQ((fcntl(accepted.get(), F_GETFD) & FD_CLOEXEC) != 0, (flags & SOCK_CLOEXEC) != 0);
    ASSERT_TRUE(UpgradeIfWanted(accepted.get()));
    if ((flags & SOCK_NONBLOCK) != 0) {
      char byte;
      EXPECT_EQ(Call(recv(accepted.get(), &byte, 1, 0)), Failed(EAGAIN));
      MarkedPoint(client.get());
      EXPECT_EQ(Call(read(accepted.get(), &byte, 1)), Failed(EAGAIN));
    }
  }
}

}  // namespace
}  // namespace conformance
