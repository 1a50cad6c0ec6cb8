// What send, write and their kin return: whole blocking sends, flags, EPIPE with its signal,
// sending to a peer that has gone, unconnected sockets.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

namespace conformance {
namespace {

class SendTest : public PairTest {
 protected:
  char buffer_[4096] = {};
};
INSTANTIATE_TEST_SUITE_P(, SendTest, AllVariants(), VariantName);

TEST_P(SendTest, EveryCallSends) {
  std::vector<char> bytes(600);
  pair().sent.Fill(bytes.data(), bytes.size());
  EXPECT_EQ(Call(write(fd(), bytes.data(), 100)), Done(100));
  EXPECT_EQ(Call(send(fd(), bytes.data() + 100, 100, 0)), Done(100));
  Mark();
  EXPECT_EQ(Call(sendto(fd(), bytes.data() + 200, 100, 0, nullptr, 0)), Done(100));
  iovec part = {bytes.data() + 300, 100};
  EXPECT_EQ(Call(writev(fd(), &part, 1)), Done(100));
  Mark();
  part.iov_base = bytes.data() + 400;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_EQ(Call(sendmsg(fd(), &message, 0)), Done(100));
  // TCP pays no heed to an address given to a connected socket.
  const Address other = Loopback(GetParam().family, 9);
  EXPECT_EQ(Call(sendto(fd(), bytes.data() + 500, 100, 0, other.get(), other.length)), Done(100));
  peer().Receive(600);
}

TEST_P(SendTest, NothingIsSentByZeroBytes) {
  EXPECT_EQ(Call(send(fd(), buffer_, 0, 0)), Done(0));
  EXPECT_EQ(Call(write(fd(), buffer_, 0)), Done(0));
  EXPECT_EQ(Call(writev(fd(), nullptr, 0)), Done(0));
  msghdr message{};
  EXPECT_EQ(Call(sendmsg(fd(), &message, 0)), Done(0));
  Mark();
  peer().StartReceive(1);
  EXPECT_TRUE(peer().StillBlocked());
  pair().Send(1);
  peer().ExpectMoved(1);
}

TEST_P(SendTest, MoreIsFollowedByTheRest) {
  std::vector<char> bytes(300);
  pair().sent.Fill(bytes.data(), bytes.size());
  EXPECT_EQ(Call(send(fd(), bytes.data(), 100, MSG_MORE)), Done(100));
  EXPECT_EQ(Call(send(fd(), bytes.data() + 100, 100, MSG_MORE)), Done(100));
  EXPECT_EQ(Call(send(fd(), bytes.data() + 200, 100, 0)), Done(100));
  peer().Receive(300);
}

TEST_P(SendTest, MoreThatNothingFollowsStillArrives) {
  std::vector<char> bytes(100);
  pair().sent.Fill(bytes.data(), bytes.size());
  EXPECT_EQ(Call(send(fd(), bytes.data(), 100, MSG_MORE)), Done(100));
  Mark();
  peer().Receive(100);
}

TEST_P(SendTest, CorkAndUncork) {
  int cork = 1;
  ASSERT_EQ(setsockopt(fd(), IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork)), 0);
  pair().Send(100);
  pair().Send(100);
  cork = 0;
  ASSERT_EQ(setsockopt(fd(), IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork)), 0);
  peer().Receive(200);
}

TEST_P(SendTest, AfterShutdownEveryCallFailsWithEpipe) {
  pair().Send(10);
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  const CountingHandler pipes(SIGPIPE);
  EXPECT_EQ(Call(send(fd(), buffer_, 1, MSG_NOSIGNAL)), Failed(EPIPE));
  EXPECT_EQ(Call(send(fd(), buffer_, 1, MSG_DONTWAIT | MSG_NOSIGNAL)), Failed(EPIPE));
  EXPECT_EQ(Call(send(fd(), buffer_, 0, MSG_NOSIGNAL)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 0);
  EXPECT_EQ(Call(send(fd(), buffer_, 1, 0)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 1);
  EXPECT_EQ(Call(write(fd(), buffer_, 1)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 2);
  Mark();
  iovec part = {buffer_, 1};
  EXPECT_EQ(Call(writev(fd(), &part, 1)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 3);
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  EXPECT_EQ(Call(sendmsg(fd(), &message, MSG_NOSIGNAL)), Failed(EPIPE));
  EXPECT_EQ(Call(sendmsg(fd(), &message, 0)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 4);
  peer().Receive(10);
  peer().ReceiveEndOfStream();
}

TEST_P(SendTest, PipeSignalGoesToTheCallingThread) {
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  const CountingHandler pipes(SIGPIPE);
  auto call = InThread([this] {
    const Outcome outcome = Call(send(fd(), buffer_, 1, 0));
    return std::make_pair(outcome, gettid());
  });
  const auto [outcome, thread] = call.get();
  EXPECT_EQ(outcome, Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 1);
  EXPECT_EQ(pipes.thread(), thread);
}

TEST_P(SendTest, BlockedPipeSignalStaysPending) {
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  sigset_t pipe_only, before, pending;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  const CountingHandler pipes(SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
  EXPECT_EQ(Call(send(fd(), buffer_, 1, 0)), Failed(EPIPE));
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 1);
  EXPECT_EQ(pipes.count(), 0);
  const timespec now{0, 0};
  EXPECT_EQ(sigtimedwait(&pipe_only, nullptr, &now), SIGPIPE);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(pipes.count(), 0);
}

TEST_P(SendTest, ToAClosedPeerSucceedsOnceThenFails) {
  peer().Close();
  pair().ReceiveEndOfStream();
  Mark();
  EXPECT_EQ(Call(send(fd(), buffer_, 10, MSG_NOSIGNAL)), Done(10));
  // The reset that answers ends the connection.
  EXPECT_EQ(Revents(fd(), POLLERR, kSoonMs) & POLLERR, POLLERR);
  const CountingHandler pipes(SIGPIPE);
  EXPECT_EQ(Call(send(fd(), buffer_, 10, 0)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 1);
  EXPECT_EQ(Call(send(fd(), buffer_, 10, 0)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 2);
  EXPECT_EQ(Call(recv(fd(), buffer_, 10, 0)), Done(0));
}

TEST_P(SendTest, ToAPeerThatReset) {
  peer().Reset();
  ASSERT_EQ(Revents(fd(), POLLERR, kSoonMs) & POLLERR, POLLERR);
  Mark();
  EXPECT_EQ(Call(send(fd(), buffer_, 10, MSG_NOSIGNAL)), Failed(ECONNRESET));
  const CountingHandler pipes(SIGPIPE);
  EXPECT_EQ(Call(send(fd(), buffer_, 10, 0)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 1);
  EXPECT_EQ(Call(recv(fd(), buffer_, 10, 0)), Done(0));
}

TEST_P(SendTest, DontWaitOnABlockingSocketTakesWhatFits) {
  std::vector<char> bytes(64 << 20);
  pair().sent.Fill(bytes.data(), bytes.size());
  const ssize_t taken = send(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  ASSERT_GT(taken, 0);
  ASSERT_LT(taken, static_cast<ssize_t>(bytes.size()));
  pair().sent.Advance(taken);
  Mark();
  const size_t total = taken + FillUp(fd(), &pair().sent);
  EXPECT_EQ(Call(send(fd(), buffer_, 1, MSG_DONTWAIT)), Failed(EAGAIN));
  peer().Receive(total);
}

TEST(UnconnectedTest, SendAndReceive) {
  for (const int family : {AF_INET, AF_INET6}) {
    const FileDescriptor fd(socket(family, SOCK_STREAM, 0));
    char byte = 0;
    EXPECT_EQ(Revents(fd.get(), POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
    EXPECT_EQ(Call(send(fd.get(), &byte, 1, MSG_NOSIGNAL)), Failed(EPIPE));
    EXPECT_EQ(Call(recv(fd.get(), &byte, 1, 0)), Failed(ENOTCONN));
    EXPECT_EQ(Call(read(fd.get(), &byte, 1)), Failed(ENOTCONN));
    EXPECT_EQ(Call(shutdown(fd.get(), SHUT_RDWR)), Failed(ENOTCONN));
    const CountingHandler pipes(SIGPIPE);
    EXPECT_EQ(Call(write(fd.get(), &byte, 1)), Failed(EPIPE));
    EXPECT_EQ(pipes.count(), 1);
  }
}

}  // namespace
}  // namespace conformance
