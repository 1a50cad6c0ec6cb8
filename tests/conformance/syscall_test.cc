// The socket reached by syscall(2) instead of libc's functions, as libuv does for some calls: the
// same connection, the same bytes, the same errors.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class SyscallTest : public PairTest {
 protected:
  char buffer_[1000] = {};
};
INSTANTIATE_TEST_SUITE_P(, SyscallTest, AllVariants(), VariantName);

TEST_P(SyscallTest, EveryReceivingCall) {
  peer().Send(700);
  ASSERT_TRUE(WaitForBytes(fd(), 700));
  iovec piece = {buffer_, 100};
  mmsghdr messages[1] = {};
  messages[0].msg_hdr.msg_iov = &piece;
  messages[0].msg_hdr.msg_iovlen = 1;
  const auto expect_hundred = [this](ssize_t result) {
    EXPECT_EQ(Call(result), Done(100));
    EXPECT_TRUE(pair().received.Take(buffer_, 100));
  };
  expect_hundred(syscall(SYS_read, fd(), buffer_, 100));
  expect_hundred(syscall(SYS_readv, fd(), &piece, 1));
  expect_hundred(syscall(SYS_recvfrom, fd(), buffer_, 100, 0, nullptr, nullptr));
  Mark();
  expect_hundred(syscall(SYS_recvmsg, fd(), &messages[0].msg_hdr, 0));
  EXPECT_EQ(Call(syscall(SYS_recvmmsg, fd(), messages, 1, 0, nullptr)), Done(1));
  EXPECT_TRUE(pair().received.Take(buffer_, 100));
  expect_hundred(syscall(SYS_preadv2, fd(), &piece, 1, -1L, -1L, 0));
  expect_hundred(syscall(SYS_read, fd(), buffer_, 100));
  EXPECT_EQ(Call(syscall(SYS_recvfrom, fd(), buffer_, 1, MSG_DONTWAIT, nullptr, nullptr)),
            Failed(EAGAIN));
}

TEST_P(SyscallTest, EverySendingCall) {
  iovec piece = {buffer_, 100};
  mmsghdr messages[1] = {};
  messages[0].msg_hdr.msg_iov = &piece;
  messages[0].msg_hdr.msg_iovlen = 1;
  const auto fill = [this] {
    pair().sent.Fill(buffer_, 100);
    pair().sent.Advance(100);
  };
  fill();
  EXPECT_EQ(Call(syscall(SYS_write, fd(), buffer_, 100)), Done(100));
  fill();
  EXPECT_EQ(Call(syscall(SYS_writev, fd(), &piece, 1)), Done(100));
  fill();
  EXPECT_EQ(Call(syscall(SYS_sendto, fd(), buffer_, 100, MSG_NOSIGNAL, nullptr, 0)), Done(100));
  Mark();
  fill();
  EXPECT_EQ(Call(syscall(SYS_sendmsg, fd(), &messages[0].msg_hdr, 0)), Done(100));
  fill();
  EXPECT_EQ(Call(syscall(SYS_sendmmsg, fd(), messages, 1, 0)), Done(1));
  fill();
  EXPECT_EQ(Call(syscall(SYS_pwritev2, fd(), &piece, 1, -1L, -1L, 0)), Done(100));
  peer().Receive(600);
  ASSERT_EQ(syscall(SYS_shutdown, fd(), SHUT_WR), 0);
  EXPECT_EQ(Call(syscall(SYS_sendto, fd(), buffer_, 1, MSG_NOSIGNAL, nullptr, 0)), Failed(EPIPE));
}

TEST_P(SyscallTest, BlockedRead) {
  auto call = InThread([this] { return Call(syscall(SYS_read, fd(), buffer_, 100)); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(SyscallTest, Waits) {
  pollfd entry{fd(), POLLIN, 0};
  const timespec now{0, 0};
  EXPECT_EQ(syscall(SYS_poll, &entry, 1, 0), 0);
  EXPECT_EQ(syscall(SYS_ppoll, &entry, 1, &now, nullptr, 8), 0);
  const int set = static_cast<int>(syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
  ASSERT_GE(set, 0);
  const FileDescriptor set_owner(set);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 12345;
  EXPECT_EQ(syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fd(), &event), 0);
  EXPECT_EQ(syscall(SYS_epoll_pwait, set, &event, 1, 0, nullptr, 8), 0);
  auto call = InThread([this] {
    pollfd blocked{fd(), POLLIN, 0};
    return syscall(SYS_poll, &blocked, 1, -1);
  });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), 1);
  EXPECT_EQ(syscall(SYS_ppoll, &entry, 1, nullptr, nullptr, 8), 1);
  event = epoll_event{};
  EXPECT_EQ(syscall(SYS_epoll_wait, set, &event, 1, -1), 1);
  EXPECT_EQ(event.data.u64, 12345u);
  pair().Receive(10);
}

TEST_P(SyscallTest, FlagsAndDuplicates) {
  EXPECT_EQ(syscall(SYS_fcntl, fd(), F_SETFL, O_RDWR | O_NONBLOCK), 0);
  EXPECT_EQ(Call(recv(fd(), buffer_, 1, 0)), Failed(EAGAIN));
  EXPECT_EQ(Call(syscall(SYS_read, fd(), buffer_, 1)), Failed(EAGAIN));
  EXPECT_EQ(syscall(SYS_fcntl, fd(), F_SETFL, O_RDWR), 0);
  const FileDescriptor first(static_cast<int>(syscall(SYS_dup, fd())));
  const FileDescriptor second(static_cast<int>(syscall(SYS_dup3, fd(), 400, O_CLOEXEC)));
  ASSERT_EQ(second.get(), 400);
  for (const FileDescriptor* copy : {&first, &second}) {
    EXPECT_EQ(SendBytes(copy->get(), &pair().sent, 1000).bytes, 1000u);
    peer().Receive(1000);
    peer().Send(1000);
    EXPECT_EQ(ReceiveBytes(copy->get(), &pair().received, 1000).bytes, 1000u);
  }
}

TEST_P(SyscallTest, Close) {
  const int number = fd();
  const FileDescriptor copy(dup(number));
  EXPECT_EQ(syscall(SYS_close, number), 0);
  EXPECT_EQ(Call(recv(number, buffer_, 1, 0)), Failed(EBADF));
  EXPECT_EQ(Call(syscall(SYS_close, number)), Failed(EBADF));
  // The number serves another file now, which must not be taken for the connection.
  const FileDescriptor null(open("/dev/null", O_RDWR));
  EXPECT_EQ(null.get(), number);
  EXPECT_EQ(Call(read(null.get(), buffer_, 10)), Done(0));
  EXPECT_EQ(Call(write(null.get(), buffer_, 10)), Done(10));
  EXPECT_EQ(SendBytes(copy.get(), &pair().sent, 100).bytes, 100u);
  peer().Receive(100);
  EXPECT_EQ(syscall(SYS_close_range, copy.get(), copy.get(), 0), 0);
  peer().ReceiveEndOfStream();
}

TEST(SyscallConnectTest, FromSocketToClose) {
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Address name = LocalName(listener.get());
  const int client = static_cast<int>(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
  ASSERT_GE(client, 0);
  EXPECT_EQ(syscall(SYS_connect, client, name.get(), name.length), 0);
  const int server =
      static_cast<int>(syscall(SYS_accept4, listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(server, 0);
  ASSERT_TRUE(UpgradeIfWanted(client));
  ByteStream out(1), in(1);
  auto sending = InThread([&] { return SendBytes(client, &out, 300000, {5000, 3}).bytes; });
  EXPECT_EQ(ReceiveBytes(server, &in, 300000, {5000, 3}).bytes, 300000u);
  EXPECT_EQ(sending.get(), 300000u);
  EXPECT_EQ(syscall(SYS_close, client), 0);
  char byte;
  EXPECT_EQ(Call(recv(server, &byte, 1, 0)), Done(0));
  EXPECT_EQ(syscall(SYS_close, server), 0);
}

}  // namespace
}  // namespace conformance
