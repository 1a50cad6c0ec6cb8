// TCP_INQ: each recvmsg tells by a control message how much is left to read. A program that trusts
// it (gRPC does) reads on or waits for the next edge accordingly.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kNotTold = -1;

struct Told {
  ssize_t bytes = 0;
  int left = kNotTold;
  int flags = 0;
  size_t control_length = 0;
};

class BytesLeftTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    if (HasFatalFailure()) return;
    Ask(fd(), 1);
    pair().ExpectOnFifos();
  }
  static void Ask(int fd, int on) {
    ASSERT_EQ(Call(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof(on))), Done(0));
  }
  Told Receive(size_t length, int flags = 0, size_t room = 100) {
    const Told told = ReceiveFrom(fd(), length, flags, room);
    if (told.bytes > 0 && (flags & MSG_PEEK) == 0) {
      EXPECT_TRUE(pair().received.Take(buffer_.data(), static_cast<size_t>(told.bytes)));
    }
    return told;
  }
  Told ReceiveFrom(int fd, size_t length, int flags = 0, size_t room = 100) {
    alignas(cmsghdr) char control[100];
    memset(control, 0x55, sizeof(control));
    iovec part{buffer_.data(), length};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room != 0 ? control : nullptr;
    message.msg_controllen = room;
    Told told;
    told.bytes = recvmsg(fd, &message, flags);
    if (told.bytes < 0) return told;
    told.flags = message.msg_flags;
    told.control_length = message.msg_controllen;
    const cmsghdr* const part_of_it = CMSG_FIRSTHDR(&message);
    if (part_of_it != nullptr && part_of_it->cmsg_len == CMSG_LEN(sizeof(int))) {
      EXPECT_EQ(part_of_it->cmsg_level, IPPROTO_TCP);
      EXPECT_EQ(part_of_it->cmsg_type, TCP_CM_INQ);
      memcpy(&told.left, CMSG_DATA(part_of_it), sizeof(int));
    }
    return told;
  }

  std::vector<char> buffer_ = std::vector<char>(100000);
};
INSTANTIATE_TEST_SUITE_P(, BytesLeftTest, AllVariants(), VariantName);

TEST_P(BytesLeftTest, IsTheNumberOfBytesLeft) {
  peer().Send(1000);
  ASSERT_TRUE(WaitForBytes(fd(), 1000));
  Told told = Receive(100);
  EXPECT_EQ(told.bytes, 100);
  EXPECT_EQ(told.left, 900);
  EXPECT_EQ(told.flags, 0);
  EXPECT_EQ(told.control_length, CMSG_SPACE(sizeof(int)));
  told = Receive(100, MSG_PEEK);
  EXPECT_EQ(told.bytes, 100);
  EXPECT_EQ(told.left, 900);
  EXPECT_EQ(Receive(899).left, 1);
  pair().ExpectOnFifos();
  told = Receive(1000);
  EXPECT_EQ(told.bytes, 1);
  EXPECT_EQ(told.left, 0);
  EXPECT_EQ(ReceiveFrom(fd(), 1, MSG_DONTWAIT).bytes, -1);
  for (int round = 0; round < 6; ++round) {
    Mark();
    peer().Send(500);
    ASSERT_TRUE(WaitForBytes(fd(), 500));
    EXPECT_EQ(Receive(200).left, 300);
    EXPECT_EQ(Receive(1000).left, 0);
  }
  auto waiting = InThread([&] { return Receive(10); });
  EXPECT_TRUE(StillBlocked(waiting));
  peer().Send(10);
  EXPECT_EQ(waiting.get().left, 0);
  pair().ExpectBothWaysWork();
}

TEST_P(BytesLeftTest, TheEndCountsAsOne) {
  peer().Send(100);
  peer().Shutdown(SHUT_WR);
  ASSERT_NE(Revents(fd(), POLLRDHUP, kSoonMs) & POLLRDHUP, 0);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  EXPECT_EQ(Receive(60).left, 41);
  EXPECT_EQ(Receive(60).left, 1);
  const Told end = Receive(60);
  EXPECT_EQ(end.bytes, 0);
  EXPECT_EQ(end.left, 1);
}

TEST_P(BytesLeftTest, RoomForTheMessage) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  const auto receive = [this](size_t room) { return Receive(10, 0, room); };
  Told told = receive(0);
  EXPECT_EQ(told.bytes, 10);
  EXPECT_EQ(told.flags, MSG_CTRUNC);
  EXPECT_EQ(told.control_length, 0u);
  told = receive(sizeof(cmsghdr) - 1);
  EXPECT_EQ(told.flags, MSG_CTRUNC);
  EXPECT_EQ(told.control_length, 0u);
  told = receive(sizeof(cmsghdr));
  EXPECT_EQ(told.flags, MSG_CTRUNC);
  EXPECT_EQ(told.control_length, sizeof(cmsghdr));
  told = receive(CMSG_LEN(sizeof(int)) - 1);
  EXPECT_EQ(told.flags, MSG_CTRUNC);
  EXPECT_EQ(told.control_length, CMSG_LEN(sizeof(int)) - 1);
  told = receive(CMSG_LEN(sizeof(int)));
  EXPECT_EQ(told.flags, 0);
  EXPECT_EQ(told.left, 50);
  EXPECT_EQ(told.control_length, CMSG_LEN(sizeof(int)));
  told = receive(CMSG_SPACE(sizeof(int)));
  EXPECT_EQ(told.left, 40);
  EXPECT_EQ(told.control_length, CMSG_SPACE(sizeof(int)));
  Ask(fd(), 0);
  told = receive(100);
  EXPECT_EQ(told.flags, 0);
  EXPECT_EQ(told.left, kNotTold);
  EXPECT_EQ(told.control_length, 0u);
  pair().ExpectOnFifos();
  pair().Receive(30);
}

TEST_P(BytesLeftTest, OtherCallsAreNotChanged) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  pair().Receive(40);
  mmsghdr messages[2] = {};
  alignas(cmsghdr) char controls[2][100];
  iovec parts[2];
  for (int i = 0; i < 2; ++i) {
    parts[i] = {buffer_.data() + i * 30, 30};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_control = controls[i];
    messages[i].msg_hdr.msg_controllen = sizeof(controls[i]);
  }
  ASSERT_EQ(Call(recvmmsg(fd(), messages, 2, 0, nullptr)), Done(2));
  EXPECT_TRUE(pair().received.Take(buffer_.data(), 60));
  for (int i = 0; i < 2; ++i) {
    const cmsghdr* const part = CMSG_FIRSTHDR(&messages[i].msg_hdr);
    ASSERT_NE(part, nullptr);
    int left = kNotTold;
    memcpy(&left, CMSG_DATA(part), sizeof(left));
    EXPECT_EQ(left, i == 0 ? 30 : 0);
  }
  const int wrong = 2;
  EXPECT_EQ(Call(setsockopt(fd(), IPPROTO_TCP, TCP_INQ, &wrong, sizeof(wrong))), Failed(EINVAL));
  int on = -1;
  socklen_t length = sizeof(on);
  EXPECT_EQ(Call(getsockopt(fd(), IPPROTO_TCP, TCP_INQ, &on, &length)), Done(0));
  EXPECT_EQ(on, 1);
}

// Reads on while it is told that there is more, and else waits for the next edge.
TEST_P(BytesLeftTest, AReaderMayTrustIt) {
  constexpr size_t kBytes = 3000000;
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN | EPOLLRDHUP | EPOLLET), Done(0));
  peer().StartSend(kBytes, {3000, 4});
  const size_t end = pair().received.offset() + kBytes;
  epoll_event event;
  int turn = 0;
  bool shut = false;
  for (bool ended = false; !ended;) {
    ASSERT_EQ(Call(epoll_wait(set.fd(), &event, 1, kSoonMs)), Done(1))
        << "at " << end - pair().received.offset() << " before the end";
    for (;;) {
      const Told told = Receive(1 + static_cast<size_t>(turn++) * 7919 % 20000, MSG_DONTWAIT);
      if (told.bytes < 0) {
        ASSERT_EQ(errno, EAGAIN);
        break;
      }
      ASSERT_NE(told.left, kNotTold);
      ended = told.bytes == 0;
      if (ended || told.left == 0) break;
    }
    if (turn % 50 == 0) Mark();
    if (pair().received.offset() == end && !shut) {
      shut = true;
      peer().ExpectMoved(kBytes);
      peer().Shutdown(SHUT_WR);
    }
  }
  EXPECT_EQ(pair().received.offset(), end);
}

TEST_P(BytesLeftTest, IsInheritedFromTheListener) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam().family));
  Ask(listener.get(), 1);
  const Address name = LocalName(listener.get());
  const FileDescriptor sender(socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Call(connect(sender.get(), name.get(), name.length)), Done(0));
  const FileDescriptor receiver(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(UpgradeIfWanted(sender.get()));
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(Call(send(sender.get(), "0123456789", 10, 0)), Done(10));
    ASSERT_TRUE(WaitForBytes(receiver.get(), 10));
    EXPECT_EQ(ReceiveFrom(receiver.get(), 4).left, 6);
    EXPECT_EQ(ReceiveFrom(receiver.get(), 6).left, 0);
  }
}

}  // namespace
}  // namespace conformance
