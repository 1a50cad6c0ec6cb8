// connect: blocking, non-blocking and refused; a second connect; a socket connected to itself; the
// names of both ends.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class ConnectTest : public testing::TestWithParam<int> {
 protected:
  FileDescriptor NewSocket(int flags = 0) {
    return FileDescriptor(socket(GetParam(), SOCK_STREAM | flags, 0));
  }
  static int SocketError(int fd) {
    int error = -1;
    socklen_t length = sizeof(error);
    EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    return error;
  }
  Address UnusedAddress() {  // nobody listens there
    const FileDescriptor bound = NewSocket();
    const Address any = Loopback(GetParam());
    EXPECT_EQ(bind(bound.get(), any.get(), any.length), 0);
    return LocalName(bound.get());
  }
  static void ExpectTransfers(int from, int to) {
    ByteStream out(1), in(1);
    auto sending = InThread([&] { return SendBytes(from, &out, 50000, {3000, 3}).bytes; });
    EXPECT_EQ(ReceiveBytes(to, &in, 50000, {3000, 3}).bytes, 50000u);
    EXPECT_EQ(sending.get(), 50000u);
  }
};
INSTANTIATE_TEST_SUITE_P(, ConnectTest, testing::Values(AF_INET, AF_INET6), [](const auto& values) {
  return values.param == AF_INET ? "Ipv4" : "Ipv6";
});

TEST_P(ConnectTest, BlockingConnect) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  const FileDescriptor client = NewSocket();
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Done(0));
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Failed(EISCONN));
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(UpgradeIfWanted(client.get()));
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Failed(EISCONN));
  ExpectTransfers(client.get(), accepted.get());
  ExpectTransfers(accepted.get(), client.get());
}

TEST_P(ConnectTest, NonblockingConnect) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  const FileDescriptor client = NewSocket(SOCK_NONBLOCK);
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Failed(EINPROGRESS));
  EXPECT_EQ(Revents(client.get(), POLLIN | POLLOUT, kSoonMs), POLLOUT);
  EXPECT_EQ(SocketError(client.get()), 0);
  // The first connect after that says that it is done, the next that it was done already.
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Done(0));
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Failed(EISCONN));
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(UpgradeIfWanted(client.get()));
  char byte;
  EXPECT_EQ(Call(recv(client.get(), &byte, 1, 0)), Failed(EAGAIN));
  ASSERT_EQ(fcntl(client.get(), F_SETFL, O_RDWR), 0);
  ExpectTransfers(client.get(), accepted.get());
  ExpectTransfers(accepted.get(), client.get());
}

TEST_P(ConnectTest, NonblockingConnectInAnEpollSet) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  const FileDescriptor client = NewSocket(SOCK_NONBLOCK);
  EpollSet set;
  // As libuv and others do it: into the set before the connection stands.
  ASSERT_EQ(set.Add(client.get(), EPOLLIN | EPOLLOUT | EPOLLET), Done(0));
  EXPECT_EQ(set.Next(), static_cast<uint32_t>(EPOLLOUT | EPOLLHUP));
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Failed(EINPROGRESS));
  EXPECT_EQ(set.Next(), static_cast<uint32_t>(EPOLLOUT));
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(UpgradeIfWanted(accepted.get()));
  EXPECT_EQ(Call(send(accepted.get(), "x", 1, 0)), Done(1));
  uint32_t events = 0;
  while ((events & EPOLLIN) == 0) {
    events = set.Next();
    ASSERT_NE(events, 0u);
  }
  char byte;
  EXPECT_EQ(Call(recv(client.get(), &byte, 1, 0)), Done(1));
}

TEST_P(ConnectTest, Refused) {
  const Address nobody = UnusedAddress();
  const FileDescriptor client = NewSocket();
  EXPECT_EQ(Call(connect(client.get(), nobody.get(), nobody.length)), Failed(ECONNREFUSED));
  char byte = 0;
  EXPECT_EQ(Call(recv(client.get(), &byte, 1, 0)), Failed(ENOTCONN));
  EXPECT_EQ(Call(send(client.get(), &byte, 1, MSG_NOSIGNAL)), Failed(EPIPE));
  // The same socket may try again elsewhere.
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  EXPECT_EQ(Call(connect(client.get(), name.get(), name.length)), Done(0));
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(UpgradeIfWanted(accepted.get()));
  ExpectTransfers(client.get(), accepted.get());
}

TEST_P(ConnectTest, RefusedWithoutBlocking) {
  const Address nobody = UnusedAddress();
  const FileDescriptor client = NewSocket(SOCK_NONBLOCK);
  const Outcome outcome = Call(connect(client.get(), nobody.get(), nobody.length));
  EXPECT_EQ(outcome, Failed(EINPROGRESS));
  const int ready = Revents(client.get(), POLLIN | POLLOUT, kSoonMs);
  EXPECT_EQ(ready, POLLIN | POLLOUT | POLLERR | POLLHUP);
  EXPECT_EQ(SocketError(client.get()), ECONNREFUSED);
  EXPECT_EQ(SocketError(client.get()), 0);
}

TEST_P(ConnectTest, WrongAddresses) {
  const FileDescriptor client = NewSocket();
  const Address other_family = Loopback(GetParam() == AF_INET ? AF_INET6 : AF_INET, 9);
  const Address name = Loopback(GetParam(), 9);
  EXPECT_EQ(connect(client.get(), name.get(), 3), -1);
  EXPECT_EQ(errno, EINVAL);
  if (GetParam() == AF_INET) {
    EXPECT_EQ(Call(connect(client.get(), other_family.get(), other_family.length)),
              Failed(EAFNOSUPPORT));
  }
  EXPECT_EQ(Call(connect(-1, name.get(), name.length)), Failed(EBADF));
}

// A connection whose two ends are one socket: what it sends it receives.
TEST_P(ConnectTest, ConnectedToItself) {
  const FileDescriptor both = NewSocket();
  const Address any = Loopback(GetParam());
  ASSERT_EQ(bind(both.get(), any.get(), any.length), 0);
  const Address name = LocalName(both.get());
  ASSERT_EQ(Call(connect(both.get(), name.get(), name.length)), Done(0));
  EXPECT_EQ(LocalName(both.get()).text(), RemoteName(both.get()).text());
  ByteStream out(1), in(1);
  for (int round = 0; round < 8; ++round) {
    EXPECT_EQ(SendBytes(both.get(), &out, 1000).bytes, 1000u);
    EXPECT_EQ(ReceiveBytes(both.get(), &in, 1000).bytes, 1000u);
  }
  EXPECT_EQ(shutdown(both.get(), SHUT_WR), 0);
  char byte;
  EXPECT_EQ(Call(recv(both.get(), &byte, 1, 0)), Done(0));
}

TEST_P(ConnectTest, DissolvedByAnUnspecifiedAddress) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  const FileDescriptor client = NewSocket();
  ASSERT_EQ(connect(client.get(), name.get(), name.length), 0);
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(UpgradeIfWanted(client.get()));
  const sockaddr nothing{AF_UNSPEC, {}};
  EXPECT_EQ(Call(connect(client.get(), &nothing, sizeof(nothing))), Done(0));
  char byte = 0;
  EXPECT_EQ(Call(recv(accepted.get(), &byte, 1, 0)), Failed(ECONNRESET));
  EXPECT_EQ(Call(recv(client.get(), &byte, 1, 0)), Failed(ECONNRESET));  // its own reset
  EXPECT_EQ(Call(recv(client.get(), &byte, 1, 0)), Failed(ENOTCONN));
  // And used again for another connection.
  ASSERT_EQ(Call(connect(client.get(), name.get(), name.length)), Done(0));
  const FileDescriptor second(accept(listener.get(), nullptr, nullptr));
  ExpectTransfers(client.get(), second.get());
}

TEST_P(ConnectTest, FastOpenCallsStillConnect) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  const Address name = LocalName(listener.get());
  const FileDescriptor client = NewSocket();
  const Outcome sent =
      Call(sendto(client.get(), "hello", 5, MSG_FASTOPEN, name.get(), name.length));
  if (sent == Failed(EOPNOTSUPP)) return;  // switched off in this kernel
  EXPECT_EQ(sent, Done(5));
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  char text[5];
  EXPECT_EQ(Call(recv(accepted.get(), text, 5, MSG_WAITALL)), Done(5));
  EXPECT_EQ(std::string(text, 5), "hello");
  ExpectTransfers(client.get(), accepted.get());
}

}  // namespace
}  // namespace conformance
