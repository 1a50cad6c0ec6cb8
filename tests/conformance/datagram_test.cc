// Datagrams between two sockets of this machine, as a program sees them: boundaries, names, what
// fits a queue, and the order in which things come. A pair is hot here (64 datagrams at the start
// of every test): what holds for it must hold whoever carries them.

#include "tests/conformance/datagram.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <vector>

#include "tests/conformance/mode.h"

namespace conformance {
namespace {

class DatagramTest : public UdpFamilyTest {
 protected:
  DatagramTest() {
    Heat(sender_, receiver_);
    Meet(sender_);
  }
  void Meet(const UdpSocket& sender) { conformance::Meet(sender, receiver_); }
  int Queued() const {
    int bytes = -1;
    EXPECT_EQ(ioctl(receiver_.fd(), FIONREAD, &bytes), 0);
    return bytes;
  }

  UdpSocket receiver_;
  UdpSocket sender_;
};

TEST_P(DatagramTest, BoundariesAreKeptAndEmptyOnesAreDatagrams) {
  for (const char* text : {"one", "", "three", "", ""}) sender_.Send(text);
  for (const char* text : {"one", "", "three", "", ""}) EXPECT_EQ(receiver_.Receive(), text);
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
}

TEST_P(DatagramTest, EveryLengthUpToTheLargest) {
  for (const size_t length :
       {size_t{1}, size_t{1399}, size_t{1400}, size_t{8192}, size_t{65488}, udp_family->longest}) {
    const std::string text(length, static_cast<char>('a' + length % 26));
    EXPECT_EQ(sender_.Send(text), Done(static_cast<ssize_t>(length)));
    EXPECT_TRUE(receiver_.Receive() == text) << length;
  }
  EXPECT_EQ(sender_.Send(std::string(udp_family->longest + 1, 'x')), Failed(EMSGSIZE));
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
}

TEST_P(DatagramTest, WhatDoesNotFitIsCutOffAndGone) {
  sender_.Send("abcdef");
  sender_.Send("next");
  char buffer[2];
  iovec piece{buffer, sizeof buffer};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  EXPECT_EQ(Call(recv(receiver_.fd(), buffer, 2, MSG_TRUNC | MSG_PEEK)), Done(6));
  EXPECT_EQ(Call(recvmsg(receiver_.fd(), &message, 0)), Done(2));
  EXPECT_EQ(message.msg_flags, MSG_TRUNC);
  EXPECT_EQ(std::string(buffer, 2), "ab");
  EXPECT_EQ(receiver_.Receive(), "next");
}

TEST_P(DatagramTest, WhatIsToBeToldBesideADatagramIs) {
  constexpr int kReceivePriority = 82;  // SO_RCVPRIORITY, of Linux 6.14 and later
  const int on = 1;
  if (setsockopt(receiver_.fd(), SOL_SOCKET, kReceivePriority, &on, sizeof on) != 0) {
    GTEST_SKIP() << "the kernel does not know SO_RCVPRIORITY";
  }
  UdpSocket other;  // once more a pair that could be hot
  Heat(other, receiver_);
  UpgradeIfWanted(other.fd());
  for (UdpSocket* sender : {&sender_, &other}) {
    sender->Send("x");
    char control[200];
    char text;
    iovec piece{&text, 1};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    EXPECT_EQ(Call(recvmsg(receiver_.fd(), &message, 0)), Done(1));
    EXPECT_NE(CMSG_FIRSTHDR(&message), nullptr);
  }
}

TEST_P(DatagramTest, APeekTakesNothing) {
  sender_.Send("one");
  sender_.Send("two");
  EXPECT_EQ(receiver_.Receive(MSG_PEEK), "one");
  EXPECT_EQ(receiver_.Receive(MSG_PEEK), "one");
  EXPECT_EQ(receiver_.Receive(), "one");
  EXPECT_EQ(receiver_.Receive(), "two");
}

TEST_P(DatagramTest, FionreadIsTheFirstOnesLength) {
  EXPECT_EQ(Queued(), 0);
  sender_.Send("");
  sender_.Send("abcdef");
  EXPECT_EQ(Queued(), 0);
  EXPECT_EQ(receiver_.Receive(), "");
  EXPECT_EQ(Queued(), 6);
}

TEST_P(DatagramTest, TheSourceIsTheSendersName) {
  uint16_t from = 0;
  sender_.Send("x");
  EXPECT_EQ(receiver_.Receive(0, 10, &from), "x");
  EXPECT_EQ(from, sender_.Port());
  UdpSocket unbound(false);
  unbound.SendTo(receiver_.Port(), "y");
  EXPECT_EQ(receiver_.Receive(0, 10, &from), "y");
  EXPECT_EQ(from, unbound.Port());
  EXPECT_NE(from, 0);
}

TEST_P(DatagramTest, ASenderThatClosesHasSent) {
  const uint16_t port = sender_.Port();
  sender_.Send("one");
  sender_.Send("two");
  sender_.Close();
  uint16_t from = 0;
  EXPECT_EQ(receiver_.Receive(0, 10, &from), "one");
  EXPECT_EQ(from, port);
  EXPECT_EQ(receiver_.Receive(), "two");
}

TEST_P(DatagramTest, TwoSendersAreReceivedInTheOrderInWhichTheySent) {
  UdpSocket other;
  other.Connect(receiver_.Port());
  Meet(other);
  for (int i = 0; i < 100; ++i) {
    other.Send("o" + std::to_string(i));
    sender_.Send("s" + std::to_string(i));
    EXPECT_EQ(receiver_.Receive(), "o" + std::to_string(i));
    EXPECT_EQ(receiver_.Receive(), "s" + std::to_string(i));
  }
  for (int i = 0; i < 100; ++i) {
    other.Send("o" + std::to_string(i));
    sender_.Send("s" + std::to_string(i));
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(receiver_.Receive(), "o" + std::to_string(i));
    EXPECT_EQ(receiver_.Receive(), "s" + std::to_string(i));
  }
}

// How many fit depends on the kernel; that they are the oldest and that nobody hears of it does
// not.
TEST_P(DatagramTest, AFullQueueDropsTheNewestSilently) {
  for (int i = 0; i < 3000; ++i) EXPECT_EQ(sender_.Send(std::to_string(i)).error, 0);
  int kept = 0;
  for (std::string text = receiver_.Receive(); text != "EAGAIN"; text = receiver_.Receive())
    EXPECT_EQ(text, std::to_string(kept++));
  EXPECT_GT(kept, 50);
  EXPECT_LT(kept, 3000);
  sender_.Send("again");
  EXPECT_EQ(receiver_.Receive(), "again");
}

TEST_P(DatagramTest, TwoSendersFillOneQueue) {
  const auto fill = [this](UdpSocket& second) {
    for (int i = 0; i < 1000; ++i) {
      sender_.Send("x");
      second.Send("y");
    }
    int kept = 0;
    while (receiver_.Receive() != "EAGAIN") ++kept;
    return kept;
  };
  UdpSocket other;
  other.Connect(receiver_.Port());
  Meet(other);
  const int alone = fill(sender_);
  EXPECT_EQ(fill(other), alone);
}

TEST_P(DatagramTest, AConnectedSenderHearsOfAClosedPortAtTheSecondSend) {
  receiver_.Close();
  EXPECT_EQ(sender_.Send("x"), Done(1));
  EXPECT_EQ(Revents(sender_.fd(), POLLIN, kSoonMs) & POLLERR, POLLERR);
  EXPECT_EQ(sender_.Send("x"), Failed(ECONNREFUSED));
  EXPECT_EQ(sender_.Receive(), "EAGAIN");
}

TEST_P(DatagramTest, AnErrorComesBeforeData) {
  EXPECT_EQ(receiver_.SendTo(sender_.Port(), "data"), Done(4));
  receiver_.Close();
  sender_.Send("x");
  EXPECT_EQ(Revents(sender_.fd(), POLLERR, kSoonMs) & POLLERR, POLLERR);
  EXPECT_EQ(sender_.Receive(), "ECONNREFUSED");
  EXPECT_EQ(sender_.Receive(), "data");
}

TEST_P(DatagramTest, APortThatChangesHandsBringsNothingOldWithIt) {
  const uint16_t port = receiver_.Port();
  sender_.Send("old");
  receiver_.Close();
  UdpSocket next(false);
  ASSERT_EQ(next.Bind(port), 0);
  EXPECT_EQ(next.Receive(), "EAGAIN");
  EXPECT_EQ(sender_.Send("new"), Done(3));
  EXPECT_EQ(next.Receive(), "new");
}

TEST_P(DatagramTest, AConnectKeepsWhatHasComeAndRefusesStrangers) {
  UdpSocket friendly;
  sender_.Send("before");
  ASSERT_EQ(receiver_.Connect(friendly.Port()), Done(0));
  EXPECT_EQ(sender_.Send("after"), Done(5));
  friendly.SendTo(receiver_.Port(), "friend");
  EXPECT_EQ(receiver_.Receive(), "before");
  EXPECT_EQ(receiver_.Receive(), "friend");
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
}

TEST_P(DatagramTest, ASenderThatConnectsElsewhereLeavesWhatItHasSent) {
  UdpSocket elsewhere;
  sender_.Send("here");
  ASSERT_EQ(sender_.Connect(elsewhere.Port()), Done(0));
  sender_.Send("there");
  EXPECT_EQ(receiver_.Receive(), "here");
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
  EXPECT_EQ(elsewhere.Receive(), "there");
  ASSERT_EQ(sender_.Connect(receiver_.Port()), Done(0));
  sender_.Send("here again");
  EXPECT_EQ(receiver_.Receive(), "here again");
}

TEST_P(DatagramTest, ADisconnectedSenderNeedsADestination) {
  ASSERT_EQ(sender_.Disconnect(), Done(0));
  EXPECT_EQ(sender_.Send("x"), Failed(EDESTADDRREQ));
  EXPECT_EQ(sender_.SendTo(receiver_.Port(), "y"), Done(1));
  EXPECT_EQ(receiver_.Receive(), "y");
}

TEST_P(DatagramTest, OneOfManyDestinationsIsNotTheLast) {
  UdpSocket other;
  sender_.Disconnect();
  for (int i = 0; i < 100; ++i) {
    sender_.SendTo(receiver_.Port(), "r" + std::to_string(i));
    sender_.SendTo(other.Port(), "o" + std::to_string(i));
    EXPECT_EQ(receiver_.Receive(), "r" + std::to_string(i));
    EXPECT_EQ(other.Receive(), "o" + std::to_string(i));
  }
}

TEST_P(DatagramTest, AShutdownForReadingEndsAWaitAndKeepsTheQueue) {
  ASSERT_EQ(receiver_.Connect(sender_.Port()), Done(0));
  auto call = InThread([this] {
    char byte;
    return Call(recv(receiver_.fd(), &byte, 1, 0));
  });
  EXPECT_TRUE(StillBlocked(call));
  EXPECT_EQ(shutdown(receiver_.fd(), SHUT_RD), 0);
  EXPECT_EQ(call.get(), Done(0));
}

TEST_P(DatagramTest, AShutdownForWritingRefusesSends) {
  EXPECT_EQ(shutdown(sender_.fd(), SHUT_WR), 0);
  EXPECT_EQ(sender_.Send("x"), Failed(EPIPE));
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
}

TEST_P(DatagramTest, ManyMessagesInOneCall) {
  constexpr unsigned kCount = 10;
  std::vector<std::string> texts;
  for (unsigned i = 0; i < kCount; ++i) texts.push_back(std::string(i, static_cast<char>('a' + i)));
  iovec out[kCount];
  mmsghdr messages[kCount] = {};
  for (unsigned i = 0; i < kCount; ++i) {
    out[i] = {texts[i].data(), texts[i].size()};
    messages[i].msg_hdr.msg_iov = &out[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(Call(sendmmsg(sender_.fd(), messages, kCount, 0)), Done(kCount));
  for (unsigned i = 0; i < kCount; ++i) EXPECT_EQ(messages[i].msg_len, i);
  char buffers[kCount + 2][16];
  iovec in[kCount + 2];
  mmsghdr received[kCount + 2] = {};
  for (unsigned i = 0; i < kCount + 2; ++i) {
    in[i] = {buffers[i], sizeof buffers[i]};
    received[i].msg_hdr.msg_iov = &in[i];
    received[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(Call(recvmmsg(receiver_.fd(), received, kCount + 2, MSG_WAITFORONE, nullptr)),
            Done(kCount));
  for (unsigned i = 0; i < kCount; ++i)
    EXPECT_EQ(std::string(buffers[i], received[i].msg_len), texts[i]);
}

// The time-out of recvmmsg is looked at after each datagram only.
TEST_P(DatagramTest, AManifoldReceiveLooksAtItsTimeOutAfterADatagram) {
  char buffers[2][8];
  iovec in[2] = {{buffers[0], 8}, {buffers[1], 8}};
  mmsghdr received[2] = {};
  for (int i = 0; i < 2; ++i) {
    received[i].msg_hdr.msg_iov = &in[i];
    received[i].msg_hdr.msg_iovlen = 1;
  }
  auto call = InThread([&] {
    timespec limit{0, 1000000};
    return Call(recvmmsg(receiver_.fd(), received, 2, 0, &limit));
  });
  EXPECT_TRUE(StillBlocked(call));
  sender_.Send("late");
  EXPECT_EQ(call.get(), Done(1));
}

TEST_P(DatagramTest, PollTellsOfData) {
  EXPECT_EQ(Revents(receiver_.fd(), POLLIN | POLLOUT, 0), POLLOUT);
  sender_.Send("");
  EXPECT_EQ(Revents(receiver_.fd(), POLLIN | POLLOUT, kSoonMs), POLLIN | POLLOUT);
  EXPECT_EQ(receiver_.Receive(), "");
  EXPECT_EQ(Revents(receiver_.fd(), POLLIN | POLLOUT, 0), POLLOUT);
}

TEST_P(DatagramTest, EveryArrivalIsAnEdge) {
  const FileDescriptor set(epoll_create1(0));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, receiver_.fd(), &event), 0);
  EXPECT_EQ(epoll_wait(set.get(), &event, 1, kNothingMs), 0);
  for (int i = 0; i < 3; ++i) {
    sender_.Send("x");
    EXPECT_EQ(epoll_wait(set.get(), &event, 1, kSoonMs), 1);
    EXPECT_EQ(event.events, static_cast<uint32_t>(EPOLLIN));
    EXPECT_EQ(epoll_wait(set.get(), &event, 1, kNothingMs), 0);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(receiver_.Receive(), "x");
}

TEST_P(DatagramTest, AOneShotRegistrationTellsOnce) {
  const FileDescriptor set(epoll_create1(0));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, receiver_.fd(), &event), 0);
  sender_.Send("x");
  EXPECT_EQ(epoll_wait(set.get(), &event, 1, kSoonMs), 1);
  sender_.Send("y");
  EXPECT_EQ(epoll_wait(set.get(), &event, 1, kNothingMs), 0);
  event.events = EPOLLIN | EPOLLONESHOT;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_MOD, receiver_.fd(), &event), 0);
  EXPECT_EQ(epoll_wait(set.get(), &event, 1, kSoonMs), 1);
}

TEST_P(DatagramTest, ABlockedReceiveWakes) {
  auto call = InThread([this] {
    char buffer[8];
    return Call(recv(receiver_.fd(), buffer, sizeof buffer, 0));
  });
  EXPECT_TRUE(StillBlocked(call));
  sender_.Send("wake");
  EXPECT_EQ(call.get(), Done(4));
}

TEST_P(DatagramTest, AReceiveEndsAtItsTimeOut) {
  const timeval limit{0, 40000};
  ASSERT_EQ(setsockopt(receiver_.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  char buffer[8];
  const Stopwatch stopwatch;
  EXPECT_EQ(Call(recv(receiver_.fd(), buffer, sizeof buffer, 0)), Failed(EAGAIN));
  EXPECT_GE(stopwatch.ElapsedMs(), 39);
  sender_.Send("x");
  EXPECT_EQ(Call(recv(receiver_.fd(), buffer, sizeof buffer, 0)), Done(1));
}

FOR_ALL_UDP_FAMILIES(DatagramTest);

}  // namespace
}  // namespace conformance
