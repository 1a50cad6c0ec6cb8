// Options that a connection has from its listener: nobody has set them on the connection itself,
// and they act all the same.

#include <gtest/gtest.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class ListenerOptionsTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { listener_ = ListenOn(Loopback(GetParam())); }

  template <typename T>
  bool SetOnListener(int level, int name, const T& value) {
    return setsockopt(listener_.get(), level, name, &value, sizeof(value)) == 0;
  }
  // A connection that has carried bytes each way, so that it could be upgraded.
  void Connect() {
    client_ = FileDescriptor(socket(GetParam(), SOCK_STREAM, 0));
    const Address name = LocalName(listener_.get());
    ASSERT_EQ(Call(connect(client_.get(), name.get(), name.length)), Done(0));
    server_ = FileDescriptor(accept(listener_.get(), nullptr, nullptr));
    ASSERT_GE(server_.get(), 0);
    for (int i = 0; i < 3; ++i) {
      Send("to", 2);
      char bytes[2];
      ASSERT_EQ(Call(recv(server_.get(), bytes, 2, MSG_WAITALL)), Done(2));
      // It may stay on TCP: that is the point. The end that has the option knows it at once.
      if (i == 1) static_cast<void>(UpgradeIfWanted(server_.get()));
    }
  }
  void Send(const char* bytes, size_t length) {
    ASSERT_EQ(Call(send(client_.get(), bytes, length, 0)), Done(static_cast<ssize_t>(length)));
  }
  int server() const { return server_.get(); }
  int client() const { return client_.get(); }

 private:
  FileDescriptor listener_{-1}, client_{-1}, server_{-1};
};
INSTANTIATE_TEST_SUITE_P(, ListenerOptionsTest, testing::Values(AF_INET, AF_INET6),
                         [](const auto& of) { return of.param == AF_INET ? "Ipv4" : "Ipv6"; });

TEST_P(ListenerOptionsTest, PeekOffsetMovesOn) {
  if (!SetOnListener(SOL_SOCKET, SO_PEEK_OFF, 0)) {
    EXPECT_EQ(errno, EOPNOTSUPP);
    GTEST_SKIP() << "this kernel has no SO_PEEK_OFF for TCP";
  }
  Connect();
  Send("abcdefgh", 8);
  ASSERT_TRUE(WaitForBytes(server(), 8));
  char bytes[3];
  for (const char* expected : {"abc", "def"}) {
    ASSERT_EQ(Call(recv(server(), bytes, 3, MSG_PEEK)), Done(3));
    EXPECT_EQ(std::string(bytes, 3), expected);
  }
}

TEST_P(ListenerOptionsTest, TimeStampsCome) {
  for (const int name : {SO_TIMESTAMP, SO_TIMESTAMPNS}) {
    ASSERT_TRUE(SetOnListener(SOL_SOCKET, name, 1));
    Connect();
    char bytes[3];
    char control[200];
    iovec destination{bytes, sizeof(bytes)};
    msghdr message{};
    message.msg_iov = &destination;
    message.msg_iovlen = 1;
    message.msg_control = control;
    const cmsghdr* part = nullptr;
    // The kernel begins to take stamps a moment after the machine's first socket has asked for
    // them.
    for (Stopwatch stopwatch; part == nullptr && stopwatch.ElapsedMs() < kSoonMs;) {
      Send("abc", 3);
      ASSERT_TRUE(WaitForBytes(server(), 3));
      message.msg_controllen = sizeof(control);
      ASSERT_EQ(Call(recvmsg(server(), &message, 0)), Done(3));
      part = CMSG_FIRSTHDR(&message);
    }
    ASSERT_NE(part, nullptr) << name;
    EXPECT_EQ(part->cmsg_type, name);
  }
}

TEST_P(ListenerOptionsTest, FilterDropsLongSegments) {
  sock_filter program[] = {{BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
                           {BPF_JMP | BPF_JGT | BPF_K, 0, 1, 100},
                           {BPF_RET | BPF_K, 0, 0, 0},
                           {BPF_RET | BPF_K, 0, 0, 0xffffffff}};
  ASSERT_TRUE(SetOnListener(SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog{4, program}));
  Connect();
  Send("short", 5);
  char bytes[300] = {};
  ASSERT_EQ(Call(recv(server(), bytes, sizeof(bytes), 0)), Done(5));
  Send(bytes, sizeof(bytes));
  EXPECT_TRUE(StaysUnreadable(server()));
  EXPECT_EQ(Call(recv(server(), bytes, sizeof(bytes), MSG_DONTWAIT)), Failed(EAGAIN));
}

TEST_P(ListenerOptionsTest, ZeroCopySendsAreReported) {
  ASSERT_TRUE(SetOnListener(SOL_SOCKET, SO_ZEROCOPY, 1));
  Connect();
  char bytes[300] = {};
  ASSERT_EQ(Call(send(server(), bytes, 100, 0)), Done(100));
  ASSERT_EQ(Call(send(server(), bytes, 200, MSG_ZEROCOPY)), Done(200));
  ASSERT_EQ(Call(recv(client(), bytes, 300, MSG_WAITALL)), Done(300));
  ASSERT_NE(Revents(server(), 0, kSoonMs) & POLLERR, 0);
  char control[200];
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  EXPECT_EQ(Call(recvmsg(server(), &message, MSG_ERRQUEUE)), Done(0));
}

TEST_P(ListenerOptionsTest, LowWaterMarkHoldsBack) {
  ASSERT_TRUE(SetOnListener(SOL_SOCKET, SO_RCVLOWAT, 10));
  Connect();
  Send("five!", 5);
  ASSERT_TRUE(WaitForBytes(server(), 5));
  EXPECT_TRUE(StaysUnreadable(server()));
  Send("five?", 5);
  EXPECT_EQ(Revents(server(), POLLIN, kSoonMs), POLLIN);
}

}  // namespace
}  // namespace conformance
