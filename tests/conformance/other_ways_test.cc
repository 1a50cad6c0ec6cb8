// Bytes and descriptors that go other ways than through the socket calls: asynchronous I/O,
// options that change what a socket is, descriptors taken by another process. The
// connection may be on FIFOs when it begins; the bytes must be the right ones all the same.

#include <aio.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

namespace conformance {
namespace {

constexpr size_t kBytes = 2000;

class OtherWaysTest : public PairTest {
 protected:
  void TakeRight(const char* bytes, size_t count) {
    EXPECT_TRUE(pair().received.Take(bytes, count));
  }
};
INSTANTIATE_TEST_SUITE_P(, OtherWaysTest, AllVariants(), VariantName);

ssize_t Finished(aiocb* operation) {
  const aiocb* const list[] = {operation};
  while (aio_error(operation) == EINPROGRESS) aio_suspend(list, 1, nullptr);
  return aio_return(operation);
}

TEST_P(OtherWaysTest, AsynchronousReadsAndWrites) {
  std::vector<char> buffer(kBytes), out(kBytes);
  peer().Send(kBytes);
  ASSERT_TRUE(WaitForBytes(fd(), kBytes));
  aiocb in{};
  in.aio_fildes = fd();
  in.aio_buf = buffer.data();
  in.aio_nbytes = kBytes;
  ASSERT_EQ(aio_read(&in), 0);
  const ssize_t got = Finished(&in);
  ASSERT_GT(got, 0);
  TakeRight(buffer.data(), static_cast<size_t>(got));
  pair().Receive(kBytes - static_cast<size_t>(got));
  Mark();
  pair().sent.Fill(out.data(), kBytes);
  aiocb write{};
  write.aio_fildes = fd();
  write.aio_buf = out.data();
  write.aio_nbytes = kBytes;
  ASSERT_EQ(aio_write(&write), 0);
  EXPECT_EQ(Finished(&write), static_cast<ssize_t>(kBytes));
  pair().sent.Advance(kBytes);
  peer().Receive(kBytes);
  // One that waits for bytes which come later.
  ASSERT_EQ(aio_read(&in), 0);
  peer().Send(100);
  EXPECT_EQ(Finished(&in), 100);
  TakeRight(buffer.data(), 100);
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, KernelTls) {
  if (setsockopt(fd(), IPPROTO_TCP, TCP_ULP, "tls", 4) != 0) {
    EXPECT_TRUE(errno == ENOENT || errno == EPERM || errno == ENOPROTOOPT)
        << strerrorname_np(errno);
  }
  pair().ExpectBothWaysWork(5000);  // without keys it is plain TCP still
  Mark();
  pair().ExpectBothWaysWork(5000);
}

TEST_P(OtherWaysTest, PeekOffset) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  const int offset = 10;
  if (setsockopt(fd(), SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) != 0) {
    EXPECT_EQ(errno, EOPNOTSUPP);
    pair().Receive(100);
    GTEST_SKIP() << "this kernel has no SO_PEEK_OFF for TCP";
  }
  std::vector<char> all(100), seen(100);
  pair().received.Fill(all.data(), all.size());
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_EQ(Call(recv(fd(), seen.data(), 20, MSG_PEEK)), Done(20));
  EXPECT_TRUE(std::equal(seen.begin(), seen.begin() + 20, all.begin() + 10));
  Mark();
  EXPECT_EQ(Call(recv(fd(), seen.data(), 20, MSG_PEEK)), Done(20));
  EXPECT_TRUE(std::equal(seen.begin(), seen.begin() + 20, all.begin() + 30));
  pair().Receive(100);
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, ZeroCopySendsAreReported) {
  const int on = 1;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0);
  std::vector<char> out(50000);
  pair().sent.Fill(out.data(), out.size());
  ASSERT_EQ(Call(send(fd(), out.data(), out.size(), MSG_ZEROCOPY)),
            Done(static_cast<ssize_t>(out.size())));
  pair().sent.Advance(out.size());
  peer().Receive(out.size());
  ASSERT_NE(Revents(fd(), 0, kSoonMs) & POLLERR, 0);
  char control[200];
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ASSERT_EQ(Call(recvmsg(fd(), &message, MSG_ERRQUEUE)), Done(0));
  const cmsghdr* const part = CMSG_FIRSTHDR(&message);
  ASSERT_NE(part, nullptr);
  sock_extended_err report;
  memcpy(&report, CMSG_DATA(part), sizeof(report));
  EXPECT_EQ(report.ee_origin, SO_EE_ORIGIN_ZEROCOPY);
  EXPECT_EQ(report.ee_errno, 0u);
  Mark();
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, UrgentMark) {
  peer().SendText("abc");
  peer().SendText("!", MSG_OOB);
  peer().SendText("def");
  char buffer[10];
  const auto at_mark = [this] {
    int answer = -1;
    EXPECT_EQ(ioctl(fd(), SIOCATMARK, &answer), 0);
    return answer;
  };
  ASSERT_NE(Revents(fd(), POLLPRI, kSoonMs) & POLLPRI, 0);
  EXPECT_EQ(at_mark(), 0);
  EXPECT_EQ(Call(recv(fd(), buffer, sizeof(buffer), 0)), Done(3));  // stops at the mark
  EXPECT_EQ(at_mark(), 1);
  EXPECT_EQ(Call(recv(fd(), buffer, 1, MSG_OOB)), Done(1));
  EXPECT_EQ(buffer[0], '!');
  EXPECT_EQ(Call(recv(fd(), buffer, 3, MSG_WAITALL)), Done(3));
  EXPECT_EQ(std::string(buffer, 3), "def");
  Mark();
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, SignalWhenSomethingComes) {
  const CountingHandler handler(SIGIO, SA_RESTART);
  ASSERT_EQ(fcntl(fd(), F_SETOWN, getpid()), 0);
  ASSERT_EQ(fcntl(fd(), F_SETFL, fcntl(fd(), F_GETFL) | O_ASYNC), 0);
  for (int round = 1; round <= 3; ++round) {
    const int before = handler.count();
    peer().Send(10);
    const Stopwatch stopwatch;
    while (handler.count() == before && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
    EXPECT_GT(handler.count(), before);
    pair().Receive(10);
    Mark();
  }
  ASSERT_EQ(fcntl(fd(), F_SETFL, fcntl(fd(), F_GETFL) & ~O_ASYNC), 0);
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, FilterThatPassesAll) {
  sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 0xffffffff)};
  const sock_fprog program{1, all};
  const int none = 0;
  peer().Send(100);
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
  pair().Receive(100);
  pair().ExpectBothWaysWork(5000);
  Mark();
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)), 0);
  pair().ExpectBothWaysWork();
}

TEST_P(OtherWaysTest, ProcSelfFd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd());
  EXPECT_EQ(Call(open(path.c_str(), O_RDWR)), Failed(ENXIO));
  char name[100] = "";
  ASSERT_GT(readlink(path.c_str(), name, sizeof(name) - 1), 0);
  EXPECT_EQ(strncmp(name, "socket:", 7), 0) << name;
  pair().ExpectBothWaysWork();
}

// A number that a process takes from another is one more for the same connection.
TEST_P(OtherWaysTest, TakenByPidfd) {
  const FileDescriptor self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  ASSERT_GE(self.get(), 0);
  const FileDescriptor taken(static_cast<int>(syscall(SYS_pidfd_getfd, self.get(), fd(), 0)));
  if (taken.get() < 0) {
    GTEST_SKIP() << "pidfd_getfd: " << strerrorname_np(errno);
  }
  peer().Send(100);
  EXPECT_EQ(ReceiveBytes(taken.get(), &pair().received, 100).bytes, 100u);
  EXPECT_EQ(SendBytes(taken.get(), &pair().sent, 100).bytes, 100u);
  peer().Receive(100);
  pair().Close();  // the other number is left
  peer().Send(100);
  EXPECT_EQ(ReceiveBytes(taken.get(), &pair().received, 100).bytes, 100u);
}

TEST_P(OtherWaysTest, ClosedInBulkByAChild) {
  // With a table of descriptors of its own, as an exec is prepared.
  ChildProcess unsharing([&] {
    const auto number = static_cast<unsigned>(fd());
    CHILD_CHECK(close_range(number, number, CLOSE_RANGE_UNSHARE) == 0);
    CHILD_CHECK(fcntl(fd(), F_GETFD) < 0);
    return true;
  });
  EXPECT_TRUE(unsharing.Succeeded());
  pair().ExpectBothWaysWork();
  ChildProcess child([&] {
    closefrom(3);
    CHILD_CHECK(fcntl(fd(), F_GETFD) < 0);
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  pair().ExpectBothWaysWork();
  pair().Close();
  peer().ReceiveEndOfStream();
}

// What a process has sent is delivered, however it ends.
class LastWordsTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, LastWordsTest, testing::Values(0, 1, 2, 3));

TEST_P(LastWordsTest, AreDelivered) {
  constexpr size_t kWords = 150000;
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Address name = LocalName(listener.get());
  ChildProcess child([&] {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHILD_CHECK(connect(fd, name.get(), name.length) == 0);
    CHILD_CHECK(UpgradeIfWanted(fd));
    ByteStream words(kSeedToPeer);
    CHILD_CHECK(SendBytes(fd, &words, kWords, {5000, 3}).bytes == kWords);
    signal(SIGABRT, SIG_DFL);
    switch (GetParam()) {
      case 0:
        _exit(0);
      case 1:
        abort();
      case 2:
        kill(getpid(), SIGKILL);
        break;
      default:
        quick_exit(0);
    }
    return false;
  });
  const FileDescriptor fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(fd.get(), 0);
  ByteStream words(kSeedToPeer);
  const Transferred got = ReceiveBytes(fd.get(), &words, kToEnd);
  EXPECT_EQ(got.bytes, kWords);
  EXPECT_EQ(got.error, 0) << strerrorname_np(got.error);
  EXPECT_EQ(child.Succeeded(), GetParam() == 0 || GetParam() == 3);
}

}  // namespace
}  // namespace conformance
