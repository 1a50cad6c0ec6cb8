// The datagrams of one sender are received in the order in which they were sent, also while none of
// them has been read yet and an end turns elsewhere: a sender that sets an option, closes or sends
// to others, a receiver that connects or hands its socket on.

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <future>
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
  // A socket without a peer is met when it is ready to receive: what it sends follows soon.
  for (int i = 0; i < 400 && CurrentMode() == Mode::kLocal; ++i) {
    UpgradeIfWanted(receiver_.fd());
    UpgradeIfWanted(sender_.fd());
    if ((Routes(sender_.fd()) & kSendsByFifo) != 0) break;
    usleep(5000);
  }
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

// A receiver that is another process: a letter is an order, a line of text the answer.
class OtherReceiver {
 public:
  OtherReceiver() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    child_ = fork();
    if (child_ == 0) {
      close(ends[0]);
      UdpSocket socket;
      std::promise<void> end_of_first;
      std::thread server([&] {
        Serve(socket, ends[1], end_of_first);
        _exit(0);
      });
      end_of_first.get_future().wait();
      syscall(SYS_exit, 0);
    }
    close(ends[1]);
    ours_ = FileDescriptor(ends[0]);
  }
  ~OtherReceiver() {
    ours_.Close();
    waitpid(child_, nullptr, 0);
  }
  OtherReceiver(const OtherReceiver&) = delete;
  OtherReceiver& operator=(const OtherReceiver&) = delete;

  std::string Do(char what) const {
    EXPECT_EQ(send(ours_.get(), &what, 1, 0), 1);
    return Answer();
  }
  std::string Answer() const {
    char answer[200];
    const ssize_t n = recv(ours_.get(), answer, sizeof answer, 0);
    return std::string(answer, n > 0 ? static_cast<size_t>(n) : 0);
  }

 private:
  // "p": its port; "h": receives one; "m": lets itself be found; "s": sleeps until one comes, and
  // says so once more; "e": its first thread ends; "a": receives all.
  static void Serve(UdpSocket& socket, int fd, std::promise<void>& end_of_first) {
    pollfd entry{socket.fd(), POLLIN, 0};
    char order;
    while (recv(fd, &order, 1, 0) == 1) {
      std::string answer = "done";
      if (order == 'p') answer = std::to_string(socket.Port());
      if (order == 'h') answer = poll(&entry, 1, kSoonMs) == 1 ? socket.Receive() : "nothing";
      if (order == 'm') answer = UpgradeIfWanted(socket.fd()) ? "done" : "alone";
      if (order == 'e') {
        end_of_first.set_value();
        const std::string number = "/proc/self/fd/" + std::to_string(socket.fd());
        while (access(number.c_str(), F_OK) == 0) std::this_thread::yield();
      }
      if (order == 'a') {
        answer.clear();
        for (std::string next = socket.Receive(); next != "EAGAIN"; next = socket.Receive())
          answer += next + " ";
      }
      send(fd, answer.data(), answer.size(), 0);
      if (order != 's') continue;
      answer = poll(&entry, 1, kSoonMs) == 1 ? "woken" : "nothing";
      send(fd, answer.data(), answer.size(), 0);
    }
  }
  pid_t child_ = -1;
  FileDescriptor ours_;
};

// What the kernel shows of a process under its number is that thread's.
TEST_P(DatagramOrderTest, AReceiverWhoseFirstThreadHasEndedGetsAll) {
  const OtherReceiver other;
  UdpSocket sender;
  const auto port = static_cast<uint16_t>(std::stoi(other.Do('p')));
  EXPECT_EQ(sender.Connect(port), Done(0));
  for (int i = 0; i < 80; ++i) {
    EXPECT_EQ(sender.Send("hot"), Done(3));
    EXPECT_EQ(other.Do('h'), "hot");
  }
  EXPECT_EQ(other.Do('m'), "done");
  EXPECT_TRUE(UpgradeIfWanted(sender.fd()));
  EXPECT_EQ(other.Do('s'), "done");
  poll(nullptr, 0, 20);  // it is asleep, or finds the first awake: both are right
  EXPECT_EQ(sender.Send("1"), Done(1));
  EXPECT_EQ(other.Answer(), "woken");
  EXPECT_EQ(sender.Send("2"), Done(1));
  EXPECT_EQ(other.Do('e'), "done");
  const int on = 1;
  EXPECT_EQ(setsockopt(sender.fd(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
  EXPECT_EQ(sender.Send("3"), Done(1));
  EXPECT_EQ(other.Do('a'), "1 2 3 ");
}

// The sender is another process, which has ended or is stopped when the receiver connects.
class DatagramEndTest : public UdpFamilyTest {
 protected:
  static void Say(int fd, uint16_t what = 0) {
    EXPECT_EQ(send(fd, &what, sizeof what, 0), ssize_t{sizeof what});
  }
  static uint16_t Hear(int fd) {
    uint16_t what = 0;
    EXPECT_EQ(recv(fd, &what, sizeof what, 0), ssize_t{sizeof what});
    return what;
  }
  // "1" wakes a sleeper, "2" comes behind it, then the sender gets the signal.
  void Begin(int signal) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    const FileDescriptor ours(ends[0]);
    const FileDescriptor theirs(ends[1]);
    sender_ = fork();
    if (sender_ == 0) {
      UdpSocket sender;
      sender.Connect(Hear(theirs.get()));
      for (int i = 0; i < 80; ++i) {
        sender.Send("hot");
        Hear(theirs.get());
      }
      UpgradeIfWanted(sender.fd());
      Say(theirs.get());
      Hear(theirs.get());
      sender.Send("1");
      Hear(theirs.get());
      sender.Send("2");
      raise(signal);
      _exit(0);
    }
    receiver_ = UdpSocket();
    Say(ours.get(), receiver_.Port());
    for (int i = 0; i < 80; ++i) {
      EXPECT_EQ(Call(Poll()), Done(1));
      EXPECT_EQ(receiver_.Receive(), "hot");
      const bool last = i == 79;
      EXPECT_TRUE(!last || UpgradeIfWanted(receiver_.fd()));
      Say(ours.get());
    }
    Hear(ours.get());
    auto sleeper = InThread([&] { return Call(Poll()); });
    EXPECT_TRUE(StillBlocked(sleeper));
    Say(ours.get());
    EXPECT_EQ(sleeper.get(), Done(1));
    Say(ours.get());
    int status;
    EXPECT_EQ(waitpid(sender_, &status, WUNTRACED), sender_);
  }
  std::string ConnectAndReceive() {
    EXPECT_EQ(receiver_.Connect(UdpSocket().Port()), Done(0));
    std::string all;
    for (std::string next = receiver_.Receive(); next != "EAGAIN"; next = receiver_.Receive())
      all += next + " ";
    return all;
  }
  int Poll() const {
    pollfd entry{receiver_.fd(), POLLIN, 0};
    return poll(&entry, 1, kSoonMs);
  }

  UdpSocket receiver_{false};
  pid_t sender_ = -1;
};

TEST_P(DatagramEndTest, WhatADeadSenderHasSentStaysWhenTheReceiverConnects) {
  Begin(SIGKILL);
  EXPECT_EQ(ConnectAndReceive(), "1 2 ");
}

TEST_P(DatagramEndTest, WhatAStoppedSenderHasSentStaysWhenTheReceiverConnects) {
  Begin(SIGSTOP);
  EXPECT_EQ(ConnectAndReceive(), "1 2 ");
  kill(sender_, SIGKILL);
  waitpid(sender_, nullptr, 0);
}

FOR_ALL_UDP_FAMILIES(DatagramOrderTest);
FOR_ALL_UDP_FAMILIES(DatagramEndTest);

}  // namespace
}  // namespace conformance
