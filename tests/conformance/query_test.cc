// What can be asked of a connection: FIONREAD, SIOCOUTQ, socket options, its kind, and that a route
// makes no difference to the answers.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class QueryTest : public PairTest {
 protected:
  int Ask(unsigned long request) {
    int answer = -1;
    EXPECT_EQ(ioctl(fd(), request, &answer), 0) << strerrorname_np(errno);
    return answer;
  }
  int Option(int level, int name) {
    int value = -1;
    socklen_t length = sizeof(value);
    EXPECT_EQ(getsockopt(fd(), level, name, &value, &length), 0) << strerrorname_np(errno);
    return value;
  }
  void SetOption(int level, int name, int value) {
    EXPECT_EQ(setsockopt(fd(), level, name, &value, sizeof(value)), 0) << strerrorname_np(errno);
  }
};
INSTANTIATE_TEST_SUITE_P(, QueryTest, AllVariants(), VariantName);

TEST_P(QueryTest, UnreadBytes) {
  EXPECT_EQ(Ask(FIONREAD), 0);
  for (int round = 0; round < 3; ++round) {
    peer().Send(100);
    ASSERT_TRUE(WaitForBytes(fd(), 100));
    EXPECT_EQ(Ask(FIONREAD), 100);
    EXPECT_EQ(Ask(SIOCINQ), 100);
    Mark();
    ASSERT_TRUE(WaitForBytes(fd(), 100));
    pair().Receive(30);
    EXPECT_EQ(Ask(FIONREAD), 70);
    MarkAtPeer();
    peer().Send(50);
    ASSERT_TRUE(WaitForBytes(fd(), 120));
    EXPECT_EQ(Ask(FIONREAD), 120);
    pair().Receive(120);
    EXPECT_EQ(Ask(FIONREAD), 0);
  }
}

TEST_P(QueryTest, UnreadBytesAfterTheEnd) {
  peer().Send(100);
  peer().Shutdown(SHUT_WR);
  ASSERT_TRUE((Revents(fd(), POLLRDHUP, kSoonMs) & POLLRDHUP) != 0);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  EXPECT_EQ(Ask(FIONREAD), 100);
  pair().Receive(100);
  EXPECT_EQ(Ask(FIONREAD), 0);
}

TEST_P(QueryTest, PeekDoesNotChangeTheCount) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  char buffer[50];
  EXPECT_EQ(Call(recv(fd(), buffer, 50, MSG_PEEK)), Done(50));
  EXPECT_EQ(Ask(FIONREAD), 100);
  pair().Receive(100);
}

TEST_P(QueryTest, UnsentBytes) {
  EXPECT_GE(Ask(SIOCOUTQ), 0);
  const size_t filled = FillUp(fd(), &pair().sent);
  EXPECT_GT(Ask(SIOCOUTQ), 0);
  peer().Receive(filled);
  const Stopwatch stopwatch;
  while (Ask(SIOCOUTQ) > 0 && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
  EXPECT_EQ(Ask(SIOCOUTQ), 0);
}

TEST_P(QueryTest, Kind) {
  EXPECT_EQ(Option(SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(Option(SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(Option(SOL_SOCKET, SO_DOMAIN), GetParam().family);
  EXPECT_EQ(Option(SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(Option(SOL_SOCKET, SO_ERROR), 0);
  struct stat status {};
  ASSERT_EQ(fstat(fd(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(isatty(fd()), 0);
  EXPECT_EQ(Call(fsync(fd())), Failed(EINVAL));
  EXPECT_EQ(Call(ftruncate(fd(), 0)), Failed(EINVAL));
}

TEST_P(QueryTest, OptionsAreKept) {
  SetOption(IPPROTO_TCP, TCP_NODELAY, 1);
  EXPECT_EQ(Option(IPPROTO_TCP, TCP_NODELAY), 1);
  Mark();
  EXPECT_EQ(Option(IPPROTO_TCP, TCP_NODELAY), 1);
  SetOption(SOL_SOCKET, SO_KEEPALIVE, 1);
  EXPECT_EQ(Option(SOL_SOCKET, SO_KEEPALIVE), 1);
  SetOption(SOL_SOCKET, SO_RCVLOWAT, 7);
  EXPECT_EQ(Option(SOL_SOCKET, SO_RCVLOWAT), 7);
  SetOption(SOL_SOCKET, SO_RCVLOWAT, 1);
  SetOption(SOL_SOCKET, SO_SNDBUF, 50000);
  EXPECT_EQ(Option(SOL_SOCKET, SO_SNDBUF), 100000);
  SetOption(SOL_SOCKET, SO_RCVBUF, 50000);
  EXPECT_EQ(Option(SOL_SOCKET, SO_RCVBUF), 100000);
  Mark();
  pair().ExpectBothWaysWork(500000);
  EXPECT_EQ(Option(SOL_SOCKET, SO_SNDLOWAT), 1);
  EXPECT_EQ(Call(setsockopt(fd(), SOL_SOCKET, 0x7777, "", 0)), Failed(EINVAL));
  const int value = 1;
  EXPECT_EQ(Call(setsockopt(fd(), SOL_SOCKET, 0x7777, &value, sizeof(value))), Failed(ENOPROTOOPT));
}

TEST_P(QueryTest, CorkAndDelayAreKept) {
  for (int round = 0; round < 3; ++round) {
    for (const int name : {TCP_CORK, TCP_NODELAY}) {
      for (const int value : {1, 1, 0, 0, 5, 0}) {
        SetOption(IPPROTO_TCP, name, value);
        pair().Send(100);
        if (round == 1) Mark();
        EXPECT_EQ(Option(IPPROTO_TCP, name), value != 0 ? 1 : 0);
        if (round == 2) MarkAtPeer();
      }
    }
    // A cork lets go when it is taken off, whatever was set under it.
    SetOption(IPPROTO_TCP, TCP_CORK, 1);
    SetOption(IPPROTO_TCP, TCP_NODELAY, 1);
    pair().Send(10);
    Mark();
    pair().Send(10);
    SetOption(IPPROTO_TCP, TCP_CORK, 0);
    EXPECT_EQ(Option(IPPROTO_TCP, TCP_NODELAY), 1);
    SetOption(IPPROTO_TCP, TCP_NODELAY, 0);
    peer().Receive(12 * 100 + 20);
  }
  EXPECT_EQ(Call(setsockopt(fd(), IPPROTO_TCP, TCP_CORK, "\0\0", 2)), Failed(EINVAL));
  EXPECT_EQ(Call(setsockopt(fd(), IPPROTO_TCP, TCP_CORK, nullptr, sizeof(int))), Failed(EFAULT));
  pair().ExpectBothWaysWork(5000);
}

TEST_P(QueryTest, StateOfTheConnection) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  ASSERT_EQ(getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
  peer().Shutdown(SHUT_WR);
  pair().ReceiveEndOfStream();
  length = sizeof(info);
  ASSERT_EQ(getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_CLOSE_WAIT);
}

// By these programs find who is idle.
TEST_P(QueryTest, TimeSinceTheLastData) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point then) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - then).count();
  };
  constexpr int kTick = 10;  // of the kernel's, for these; at the least 100 Hz
  constexpr int kIdleMs = 150;
  const auto ask = [this] {
    tcp_info info{};
    socklen_t length = sizeof(info);
    EXPECT_EQ(getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info;
  };
  Mark();
  for (int round = 0; round < 2; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kIdleMs));
    const Clock::time_point begun = Clock::now();
    pair().ExpectBothWaysWork(100);
    tcp_info info = ask();
    EXPECT_LE(info.tcpi_last_data_sent, since(begun) + kTick);
    EXPECT_LE(info.tcpi_last_data_recv, since(begun) + kTick);
    // The peer may delay its acknowledgement.
    while (ask().tcpi_last_ack_recv > since(begun) + kTick && since(begun) < kSoonMs)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_LE(ask().tcpi_last_ack_recv, since(begun) + kTick);
    std::this_thread::sleep_for(std::chrono::milliseconds(kIdleMs));
    info = ask();
    EXPECT_GE(info.tcpi_last_data_sent, kIdleMs - kTick);
    EXPECT_GE(info.tcpi_last_data_recv, kIdleMs - kTick);
    EXPECT_LE(info.tcpi_last_data_sent, since(begun) + kTick);
    EXPECT_LE(info.tcpi_last_data_recv, since(begun) + kTick);
  }
}

TEST_P(QueryTest, FlagsOfTheDescriptor) {
  EXPECT_EQ(fcntl(fd(), F_GETFL), O_RDWR);
  EXPECT_EQ(fcntl(fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(ioctl(fd(), FIONCLEX), 0);
  EXPECT_EQ(fcntl(fd(), F_GETFD), 0);
  EXPECT_EQ(ioctl(fd(), FIOCLEX), 0);
  EXPECT_EQ(fcntl(fd(), F_GETFD), FD_CLOEXEC);
  const std::string path = "/proc/self/fd/" + std::to_string(fd());
  char target[100];
  const ssize_t length = readlink(path.c_str(), target, sizeof(target));
  ASSERT_GT(length, 0);
  EXPECT_EQ(std::string(target, length).rfind("socket:[", 0), 0u);
  EXPECT_EQ(Call(open(path.c_str(), O_RDWR)), Failed(ENXIO));
}

}  // namespace
}  // namespace conformance
