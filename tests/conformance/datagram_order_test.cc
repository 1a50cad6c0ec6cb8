// The datagrams of one sender are received in the order in which they were sent, also while none of
// them has been read yet and an end turns elsewhere: a sender that sets an option, closes or sends
// to others, a receiver that connects or hands its socket on.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "tests/conformance/datagram.h"

namespace conformance {
namespace {

class DatagramOrderTest : public UdpFamilyTest {
 protected:
  DatagramOrderTest() { Heat(sender_, receiver_); }

  // What comes is waited for by a thread that sleeps, and is not read.
  void SendToASleeper(const std::string& text) {
    auto sleeper = InThread([&] { return Call(Poll()); });
    EXPECT_TRUE(StillBlocked(sleeper));
    EXPECT_EQ(sender_.Send(text), Done(static_cast<ssize_t>(text.size())));
    EXPECT_EQ(sleeper.get(), Done(1));
  }
  int Poll() const {
    pollfd entry{receiver_.fd(), POLLIN, 0};
    return poll(&entry, 1, kSoonMs);
  }
  void Send(const std::string& text) {
    EXPECT_EQ(sender_.Send(text), Done(static_cast<ssize_t>(text.size())));
  }
  // An option that says how datagrams are sent.
  void SetOption() const {
    const int on = 1;
    EXPECT_EQ(setsockopt(sender_.fd(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
  }
  std::string All() {
    std::string all;
    for (std::string next = receiver_.Receive(); next != "EAGAIN"; next = receiver_.Receive())
      all += next + " ";
    return all;
  }

  UdpSocket receiver_;
  UdpSocket sender_;
};

TEST_P(DatagramOrderTest, WhatWasUnreadWhenThePairMetComesFirst) {
  Send("1");
  Send("2");
  Meet(sender_, receiver_);
  Send("3");
  Send("4");
  SetOption();
  Send("5");
  EXPECT_EQ(All(), "1 2 3 4 5 ");
}

TEST_P(DatagramOrderTest, WhatHasWokenASleeperComesFirst) {
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  Send("3");
  SetOption();
  Send("4");
  EXPECT_EQ(All(), "1 2 3 4 ");
}

TEST_P(DatagramOrderTest, AReceiverThatConnectsKeepsTheOrder) {
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  EXPECT_EQ(receiver_.Connect(sender_.Port()), Done(0));
  Send("3");
  EXPECT_EQ(All(), "1 2 3 ");
}

TEST_P(DatagramOrderTest, AReceiverThatConnectsElsewhereKeepsWhatHasCome) {
  UdpSocket other;
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  EXPECT_EQ(receiver_.Connect(other.Port()), Done(0));
  EXPECT_EQ(All(), "1 2 ");
}

TEST_P(DatagramOrderTest, ASenderThatClosesIsFollowedByTheNextOfItsName) {
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  const uint16_t port = sender_.Port();
  sender_.Close();
  UdpSocket next(false);
  ASSERT_EQ(next.Bind(port), 0);
  next.SendTo(receiver_.Port(), "3");
  EXPECT_EQ(All(), "1 2 3 ");
}

TEST_P(DatagramOrderTest, ASenderThatNamesItsDestinationKeepsTheOrder) {
  UdpSocket other;
  sender_.Disconnect();
  for (int i = 0; i < 80; ++i) {
    sender_.SendTo(receiver_.Port(), "hot");
    EXPECT_EQ(receiver_.Receive(), "hot");
  }
  sender_.SendTo(receiver_.Port(), "1");
  Meet(sender_, receiver_);
  sender_.SendTo(receiver_.Port(), "2");
  sender_.SendTo(other.Port(), "others");
  sender_.SendTo(receiver_.Port(), "3");
  EXPECT_EQ(All(), "1 2 3 ");
  EXPECT_EQ(other.Receive(), "others");
}

TEST_P(DatagramOrderTest, WhatAPeekHasShownStaysTheFirst) {
  UdpSocket stranger;
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  EXPECT_EQ(receiver_.Receive(), "1");
  EXPECT_EQ(receiver_.Receive(MSG_PEEK), "2");
  stranger.SendTo(receiver_.Port(), "stranger");
  SetOption();
  Send("3");
  EXPECT_EQ(All(), "2 stranger 3 ");
}

TEST_P(DatagramOrderTest, TheNextOwnerOfThePortGetsNothingOld) {
  UdpSocket next(false);
  Meet(sender_, receiver_);
  SendToASleeper("1");
  Send("2");
  const uint16_t port = receiver_.Port();
  receiver_.Close();
  ASSERT_EQ(next.Bind(port), 0);
  SetOption();
  Send("3");
  EXPECT_EQ(next.Receive(), "3");
  EXPECT_EQ(next.Receive(), "EAGAIN");
}

FOR_ALL_UDP_FAMILIES(DatagramOrderTest);

}  // namespace
}  // namespace conformance
