// What recv, read and their kin return without flags: blocking, short reads, zero lengths, the end
// of the stream, names, control data, errors.

#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

namespace conformance {
namespace {

class ReceiveTest : public PairTest {
 protected:
  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, ReceiveTest, AllVariants(), VariantName);

TEST_P(ReceiveTest, BlocksUntilDataComes) {
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(ReceiveTest, BlockedWhileTheRouteChangesHere) {
  auto call = InThread([this] { return Call(read(fd(), buffer_, sizeof(buffer_))); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(ReceiveTest, BlockedWhileTheRouteChangesAtThePeer) {
  auto call = InThread([this] { return Call(read(fd(), buffer_, sizeof(buffer_))); });
  EXPECT_TRUE(StillBlocked(call));
  MarkAtPeer();
  EXPECT_TRUE(StillBlocked(call));
  MarkAtPeer();
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
}

TEST_P(ReceiveTest, ReturnsWhatIsThereAndNoMore) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  EXPECT_TRUE(StaysUnreadable(fd()));
}

TEST_P(ReceiveTest, LeavesWhatDoesNotFit) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  EXPECT_EQ(Call(read(fd(), buffer_, 30)), Done(30));
  EXPECT_TRUE(pair().received.Take(buffer_, 30));
  Mark();
  pair().Receive(70);
}

TEST_P(ReceiveTest, JoinsSeveralSends) {
  peer().Send(10);
  peer().Send(20);
  peer().Send(30);
  ASSERT_TRUE(WaitForBytes(fd(), 60));
  EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Done(60));
  EXPECT_TRUE(pair().received.Take(buffer_, 60));
}

TEST_P(ReceiveTest, ReadOfZeroBytesReturnsAtOnce) {
  EXPECT_EQ(Call(read(fd(), buffer_, 0)), Done(0));
  peer().Send(5);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_EQ(Call(read(fd(), buffer_, 0)), Done(0));
  pair().Receive(5);
}

TEST_P(ReceiveTest, RecvOfZeroBytesWaitsForData) {
  EXPECT_EQ(Call(recv(fd(), buffer_, 0, MSG_DONTWAIT)), Failed(EAGAIN));
  auto call = InThread([this] { return Call(recv(fd(), buffer_, 0, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(5);
  EXPECT_EQ(call.get(), Done(0));
  EXPECT_EQ(Call(recv(fd(), buffer_, 0, MSG_DONTWAIT)), Done(0));
  pair().Receive(5);
}

// It does not ask what has ended the wait.
TEST_P(ReceiveTest, RecvOfZeroBytesReturnsZeroAfterATimeOutOrASignal) {
  const timeval limit{0, kBlockedMs * 1000};
  const timeval none{};
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  EXPECT_EQ(Call(recv(fd(), buffer_, 0, 0)), Done(0));
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none), 0);
  for (const int flags : {0, SA_RESTART}) {
    const CountingHandler handler(SIGUSR2, flags);
    Mark();
    // The first one may come before it waits.
    std::atomic<bool> waits{false};
    const pthread_t self = pthread_self();
    auto later = InThread([&] {
      while (!waits) poll(nullptr, 0, 1);
      poll(nullptr, 0, kBlockedMs);
      pthread_kill(self, SIGUSR2);
    });
    waits = true;
    EXPECT_EQ(Call(recv(fd(), buffer_, 0, 0)), Done(0)) << flags;
    later.get();
  }
}

TEST_P(ReceiveTest, EndOfStreamIsReturnedAgainAndAgain) {
  peer().Send(7);
  peer().Shutdown(SHUT_WR);
  pair().Receive(7);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), 0)), Done(0));
    EXPECT_EQ(Call(read(fd(), buffer_, sizeof(buffer_))), Done(0));
    EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), MSG_DONTWAIT)), Done(0));
    EXPECT_EQ(Call(recv(fd(), buffer_, sizeof(buffer_), MSG_PEEK)), Done(0));
    Mark();
  }
}

TEST_P(ReceiveTest, BlockedCallSeesTheEndOfStream) {
  auto call = InThread([this] { return Call(recv(fd(), buffer_, sizeof(buffer_), 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(call.get(), Done(0));
}

TEST_P(ReceiveTest, RecvfromGivesNoAddress) {
  peer().Send(5);
  sockaddr_storage address;
  memset(&address, 0x5A, sizeof(address));
  const sockaddr_storage untouched = address;
  socklen_t length = sizeof(address);
  EXPECT_EQ(Call(recvfrom(fd(), buffer_, 5, 0, reinterpret_cast<sockaddr*>(&address), &length)),
            Done(5));
  EXPECT_TRUE(pair().received.Take(buffer_, 5));
  EXPECT_EQ(length, 0u);
  EXPECT_EQ(memcmp(&address, &untouched, sizeof(address)), 0);
}

TEST_P(ReceiveTest, RecvfromWithoutAddressLeavesTheLength) {
  peer().Send(5);
  EXPECT_EQ(Call(recvfrom(fd(), buffer_, 5, 0, nullptr, nullptr)), Done(5));
  EXPECT_TRUE(pair().received.Take(buffer_, 5));
}

TEST_P(ReceiveTest, RecvmsgSetsLengthsAndFlags) {
  peer().Send(20);
  ASSERT_TRUE(WaitForBytes(fd(), 20));
  char control[128];
  sockaddr_storage address{};
  iovec parts[2] = {{buffer_, 8}, {buffer_ + 8, 100}};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof(address);
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  message.msg_flags = -1;
  EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Done(20));
  EXPECT_TRUE(pair().received.Take(buffer_, 20));
  EXPECT_EQ(message.msg_namelen, 0u);
  EXPECT_EQ(message.msg_controllen, 0u);
  EXPECT_EQ(message.msg_flags, 0);
  EXPECT_EQ(message.msg_control, control);
  EXPECT_EQ(message.msg_iov, parts);
  EXPECT_EQ(parts[0].iov_len, 8u);
  EXPECT_EQ(parts[1].iov_base, buffer_ + 8);
}

TEST_P(ReceiveTest, RecvmsgThatFailsLeavesTheMessage) {
  iovec part = {buffer_, 8};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_flags = 77;
  EXPECT_EQ(Call(recvmsg(fd(), &message, MSG_DONTWAIT)), Failed(EAGAIN));
  EXPECT_EQ(message.msg_flags, 77);
}

TEST_P(ReceiveTest, RecvmsgWithoutBuffers) {
  peer().Send(5);
  ASSERT_TRUE(WaitForBytes(fd(), 5));
  msghdr message{};
  EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Done(0));
  pair().Receive(5);
}

TEST_P(ReceiveTest, ClosedDescriptor) {
  const int number = fd();
  pair().Close();
  EXPECT_EQ(Call(recv(number, buffer_, 1, 0)), Failed(EBADF));
  EXPECT_EQ(Call(read(number, buffer_, 1)), Failed(EBADF));
  EXPECT_EQ(Call(send(number, buffer_, 1, MSG_NOSIGNAL)), Failed(EBADF));
  iovec part = {buffer_, 1};
  EXPECT_EQ(Call(readv(number, &part, 1)), Failed(EBADF));
  EXPECT_EQ(Call(close(number)), Failed(EBADF));
}

TEST_P(ReceiveTest, WhileTheOtherDirectionIsFull) {
  peer().Send(1000);
  EXPECT_GT(FillUp(fd(), &pair().sent), 0u);
  Mark();
  pair().Receive(500);
  MarkAtPeer();
  pair().Receive(500);
  peer().Receive(pair().sent.offset() - 1);
}

}  // namespace
}  // namespace conformance
