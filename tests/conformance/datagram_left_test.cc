// Calls on UDP sockets beside others: a wait whose datagram another thread takes, a wait that is
// left for good, datagrams that libc or the kernel cuts, errors that nobody must lose, and a user
// that changes.

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/conformance/datagram.h"
#include "tests/conformance/inline_call.h"

namespace conformance {
namespace {

constexpr int kSoMemInfo = 55;

class DatagramLeftTest : public UdpFamilyTest {
 protected:
  DatagramLeftTest() { Heat(sender_, receiver_); }

  // What the kernel's own queue of the receiver is charged with.
  uint32_t InKernel() const {
    uint32_t memory[9] = {};
    socklen_t length = sizeof memory;
    EXPECT_EQ(getsockopt(receiver_.fd(), SOL_SOCKET, kSoMemInfo, memory, &length), 0);
    return memory[0];
  }
  // `wait` has no time limit, and a thread beside it takes what comes.
  void NeverEndsWithNothing(const std::function<int()>& wait) {
    constexpr int kWaits = 10000;
    const Stopwatch stopwatch;  // the taker may come first nearly always, which is 1 ms each time
    std::atomic<bool> over{false};
    std::thread taker([&] {
      while (!over) receiver_.Receive();
    });
    std::thread giver([&] {
      for (; !over; poll(nullptr, 0, 1)) sender_.Send("x");
    });
    int empty = 0;
    for (int i = 0; i < kWaits && stopwatch.ElapsedMs() < 2000; ++i) {
      if (i % 10 == 0) UpgradeIfWanted(receiver_.fd());
      if (i % 10 == 0) UpgradeIfWanted(sender_.fd());
      sender_.Send("x");
      empty += wait() == 0 ? 1 : 0;
    }
    over = true;
    taker.join();
    giver.join();
    EXPECT_EQ(empty, 0);
  }
  int Poll(int timeout_ms = -1) const {
    pollfd entry{receiver_.fd(), POLLIN, 0};
    return poll(&entry, 1, timeout_ms);
  }
  int Select() const {
    fd_set read;
    FD_ZERO(&read);
    FD_SET(receiver_.fd(), &read);
    return select(receiver_.fd() + 1, &read, nullptr, nullptr, nullptr);
  }
  int EpollWait() {
    if (set_.get() < 0) {
      set_ = FileDescriptor(epoll_create1(0));
      epoll_event event{};
      event.events = EPOLLIN;
      EXPECT_EQ(epoll_ctl(set_.get(), EPOLL_CTL_ADD, receiver_.fd(), &event), 0);
    }
    epoll_event events[2];
    return epoll_wait(set_.get(), events, 2, -1);
  }
  void NothingIsLeft() {
    Meet(sender_, receiver_);
    for (int i = 0; i < 3; ++i) {
      sender_.Send("x");
      if (CurrentMode() == Mode::kLocal) {
        EXPECT_EQ(InKernel(), 0u) << "somebody seems to sleep";
      }
      EXPECT_EQ(receiver_.Receive(), "x");
    }
  }

  UdpSocket receiver_;
  UdpSocket sender_;
  FileDescriptor set_;
};

TEST_P(DatagramLeftTest, APollWithoutALimitEndsWithSomething) {
  NeverEndsWithNothing([this] { return Poll(); });
}
TEST_P(DatagramLeftTest, ASelectWithoutALimitEndsWithSomething) {
  NeverEndsWithNothing([this] { return Select(); });
}
TEST_P(DatagramLeftTest, AnEpollWaitWithoutALimitEndsWithSomething) {
  NeverEndsWithNothing([this] { return EpollWait(); });
}
TEST_P(DatagramLeftTest, AWaitWithALimitEndsAtIt) {
  Meet(sender_, receiver_);
  const Stopwatch stopwatch;
  EXPECT_EQ(Poll(30), 0);
  EXPECT_GE(stopwatch.ElapsedMs(), 29);
}

// ---- waits that are left ----

TEST_P(DatagramLeftTest, WhoIsCancelledInAWaitSleepsNoMore) {
  const auto cancelled = [](const std::function<void()>& wait) {
    std::atomic<pid_t> tid{0};
    std::thread thread([&] {
      tid = gettid();
      wait();
    });
    while (tid == 0) poll(nullptr, 0, 1);
    WaitUntilAsleep(tid);
    pthread_cancel(thread.native_handle());
    thread.join();
  };
  for (int round = 0; round < 2; ++round) {
    char byte;
    cancelled([&] { recv(receiver_.fd(), &byte, 1, 0); });
    cancelled([&] { Poll(); });
    cancelled([&] { Select(); });
    cancelled([&] { EpollWait(); });
    NothingIsLeft();
  }
}

thread_local sigjmp_buf way_out;
extern "C" void JumpOut(int) { siglongjmp(way_out, 1); }

TEST_P(DatagramLeftTest, WhoJumpsOutOfAWaitSleepsNoMore) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = JumpOut;
  sigaction(SIGUSR2, &action, &before);
  const auto left = [](const std::function<void()>& wait) {
    std::atomic<pid_t> tid{0};
    std::thread thread([&] {
      if (sigsetjmp(way_out, 1) != 0) return;
      tid = gettid();
      wait();
    });
    while (tid == 0) poll(nullptr, 0, 1);
    WaitUntilAsleep(tid);
    pthread_kill(thread.native_handle(), SIGUSR2);
    thread.join();
  };
  for (int round = 0; round < 2; ++round) {
    char byte;
    left([&] { recv(receiver_.fd(), &byte, 1, 0); });
    left([&] { Poll(); });
    left([&] { Select(); });
    left([&] { EpollWait(); });
    NothingIsLeft();
  }
  sigaction(SIGUSR2, &before, nullptr);
}

// ---- datagrams of other calls ----

TEST_P(DatagramLeftTest, WhatIsPrintedComesInItsTurn) {
  Meet(sender_, receiver_);
  sender_.Send("one");
  EXPECT_EQ(dprintf(sender_.fd(), "tw%c", 'o'), 3);
  sender_.Send("three");
  EXPECT_EQ(receiver_.Receive(), "one");
  EXPECT_EQ(receiver_.Receive(), "two");
  EXPECT_EQ(receiver_.Receive(), "three");
}

TEST_P(DatagramLeftTest, WhatSendfileSendsComesInItsTurn) {
  const FileDescriptor file(fileno(tmpfile()));
  ASSERT_EQ(write(file.get(), "two", 3), 3);
  Meet(sender_, receiver_);
  sender_.Send("one");
  off_t offset = 0;
  EXPECT_EQ(sendfile(sender_.fd(), file.get(), &offset, 3), 3);
  sender_.Send("three");
  EXPECT_EQ(receiver_.Receive(), "one");
  EXPECT_EQ(receiver_.Receive(), "two");
  EXPECT_EQ(receiver_.Receive(), "three");
}

TEST_P(DatagramLeftTest, AVectorOfNothingIsNoDatagramAndAMessageOfNothingIsOne) {
  Meet(sender_, receiver_);
  iovec nothing[2] = {};
  sender_.Send("one");
  EXPECT_EQ(Call(writev(sender_.fd(), nothing, 2)), Done(0));
  EXPECT_EQ(Call(writev(sender_.fd(), nothing, 0)), Done(0));
  const msghdr message{};
  EXPECT_EQ(Call(sendmsg(sender_.fd(), &message, 0)), Done(0));
  EXPECT_EQ(Call(write(sender_.fd(), "", 0)), Done(0));
  sender_.Send("two");
  for (const char* text : {"one", "", "", "two"}) EXPECT_EQ(receiver_.Receive(), text);
  EXPECT_EQ(receiver_.Receive(), "EAGAIN");
}

// ---- errors, users ----

// Each round is a race with whoever lets go of the FIFO that has ended.
TEST_P(DatagramLeftTest, AskingForALengthTakesNoError) {
  for (int round = 0; round < 20; ++round) {
    UdpSocket near;
    UdpSocket far;
    near.Connect(far.Port());
    far.Connect(near.Port());
    for (int i = 0; i < 200; ++i) {  // both are hot receivers, too
      near.Send("n");
      far.Send("f");
      EXPECT_EQ(near.Receive(), "f");
      EXPECT_EQ(far.Receive(), "n");
    }
    EXPECT_TRUE(UpgradeIfWanted(near.fd()));
    EXPECT_TRUE(UpgradeIfWanted(far.fd()));
    far.Close();
    near.Send("x");
    // On a machine that is busy the refusal comes when the kernel gets to it.
    pollfd refusal{near.fd(), POLLIN, 0};
    EXPECT_EQ(poll(&refusal, 1, kSoonMs), 1);
    int bytes = -1;
    EXPECT_EQ(ioctl(near.fd(), FIONREAD, &bytes), 0);
    EXPECT_EQ(bytes, 0);
    EXPECT_EQ(near.Receive(), "ECONNREFUSED");
  }
}

TEST_P(DatagramLeftTest, TheTimeOfTheLastOneIsTheLastOnes) {
  timeval before{};
  timeval after{};
  EXPECT_EQ(ioctl(receiver_.fd(), SIOCGSTAMP, &before), 0);
  for (const int fd : {receiver_.fd(), sender_.fd()}) static_cast<void>(UpgradeIfWanted(fd));
  poll(nullptr, 0, 20);
  sender_.Send("x");
  EXPECT_EQ(receiver_.Receive(), "x");
  EXPECT_EQ(ioctl(receiver_.fd(), SIOCGSTAMP, &after), 0);
  EXPECT_TRUE(timercmp(&before, &after, <));
}

// A port that can be shared has the newest of its sockets that fit best.
TEST_P(DatagramLeftTest, ALaterSocketConnectedToTheSameTakesOver) {
  const int on = 1;
  UdpSocket sender;
  UdpSocket first(/*bound=*/false);
  UdpSocket later(/*bound=*/false);
  for (const int fd : {first.fd(), later.fd()})
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  EXPECT_EQ(first.Bind(0), 0);
  first.Connect(sender.Port());
  Heat(sender, first);
  for (const int fd : {first.fd(), sender.fd()}) static_cast<void>(UpgradeIfWanted(fd));
  EXPECT_EQ(later.Bind(first.Port()), 0);
  later.Connect(sender.Port());
  EXPECT_EQ(sender.Send("whose?"), Done(6));
  EXPECT_EQ(later.Receive(), "whose?");
  EXPECT_EQ(first.Receive(), "EAGAIN");
}

// By calls that no library in front of libc sees.
TEST_P(DatagramLeftTest, WhoReadsUnseenGetsThemAllInOrder) {
  constexpr int kMany = 20;
  UdpSocket near;
  UdpSocket far;
  Heat(near, far);
  Meet(near, far);
  const timeval limit{kSoonMs / 1000, 0};
  setsockopt(far.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  for (int i = 0; i < kMany; ++i)
    EXPECT_EQ(near.Send(std::string(1, static_cast<char>('a' + i))), Done(1));
  for (int i = 0; i < kMany; ++i) {
    char what = 0;
    EXPECT_EQ(InlineCall(SYS_recvfrom, far.fd(), &what, 1, 0), 1);
    EXPECT_EQ(what, 'a' + i);
  }
  EXPECT_EQ(near.Send("by the kernel"), Done(13));
  char text[20] = {};
  EXPECT_EQ(InlineCall(SYS_recvfrom, far.fd(), text, sizeof text, 0), 13);
  EXPECT_EQ(near.Send("last"), Done(4));
  EXPECT_EQ(far.Receive(), "last");
}

// One that reads, but seldom: what several have sent comes in the order in which it was sent, and
// first what a peek has shown.
TEST_P(DatagramLeftTest, WhoIsSlowGetsThemAllInOrder) {
  constexpr int kMany = 20;
  constexpr int kSlowMs = 1300;
  UdpSocket senders[2];
  UdpSocket far;
  for (UdpSocket& near : senders) {
    Heat(near, far);
    Meet(near, far);
  }
  for (int i = 0; i < kMany; ++i)
    EXPECT_EQ(senders[i % 2].Send(std::string(1, static_cast<char>('a' + i))), Done(1));
  EXPECT_EQ(far.Receive(MSG_PEEK), "a");
  poll(nullptr, 0, kSlowMs);
  for (int i = 0; i < kMany; ++i)
    EXPECT_EQ(far.Receive(), std::string(1, static_cast<char>('a' + i)));
}

// Each end in a process of its own, of which the receiver's changes its user with datagrams unread.
TEST_P(DatagramLeftTest, AnotherUserReadsWhatHasCome) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may";
  int to_child[2];
  int to_parent[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(to_parent), 0);
  const auto step = [](int fd) {
    char byte;
    return read(fd, &byte, 1) == 1;
  };
  ChildProcess child([&] {
    UdpSocket receiver;
    const uint16_t port = receiver.Port();
    CHILD_CHECK(write(to_parent[1], &port, sizeof port) == sizeof port);
    for (int i = 0; i < 80; ++i) {
      CHILD_CHECK(BecomesReadable(receiver.fd()));
      CHILD_CHECK(receiver.Receive() == "hot");
      CHILD_CHECK(write(to_parent[1], "n", 1) == 1);
    }
    CHILD_CHECK(UpgradeIfWanted(receiver.fd()));
    CHILD_CHECK(write(to_parent[1], "m", 1) == 1);
    CHILD_CHECK(step(to_child[0]));
    CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
    poll(nullptr, 0, 20);  // whatever that has set going
    for (const char* text : {"one", "two", "three"}) CHILD_CHECK(receiver.Receive() == text);
    CHILD_CHECK(receiver.Receive() == "EAGAIN");
    CHILD_CHECK(write(to_parent[1], "r", 1) == 1);
    CHILD_CHECK(BecomesReadable(receiver.fd()));
    CHILD_CHECK(receiver.Receive() == "four");
    return true;
  });
  uint16_t port = 0;
  ASSERT_EQ(read(to_parent[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  UdpSocket sender;
  ASSERT_EQ(sender.Connect(port), Done(0));
  for (int i = 0; i < 80; ++i) {
    ASSERT_EQ(sender.Send("hot"), Done(3));
    ASSERT_TRUE(step(to_parent[0]));
  }
  ASSERT_TRUE(step(to_parent[0]));
  EXPECT_TRUE(UpgradeIfWanted(sender.fd()));
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_EQ(Routes(sender.fd()), kSendsByFifo);
  }
  for (const char* text : {"one", "two", "three"}) sender.Send(text);
  ASSERT_EQ(write(to_child[1], "u", 1), 1);
  if (step(to_parent[0])) sender.Send("four");
  EXPECT_TRUE(child.Succeeded());
  for (const int fd : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) close(fd);
}

// A socket of IPv6 that is bound to no address, and one of IPv4: each is told the other's name in
// its own form.
TEST(DatagramFamiliesTest, ASocketOfIpv4AndOneOfBoth) {
  udp_family = &kUdpFamilies[1];
  UdpSocket both(false);
  UdpAddress anywhere;
  anywhere.storage.sin6_family = AF_INET6;
  ASSERT_EQ(bind(both.fd(), anywhere.get(), anywhere.length), 0);
  udp_family = &kUdpFamilies[0];
  UdpSocket v4;
  const UdpAddress told_to_both(kUdpFamilies[2], v4.Port());
  const UdpAddress told_to_v4(kUdpFamilies[0], both.Port());
  EXPECT_EQ(v4.Connect(both.Port()), Done(0));
  UdpAddress from;
  for (int i = 0; i < 80; ++i) {
    EXPECT_EQ(v4.Send("question"), Done(8));
    EXPECT_EQ(both.ReceiveFrom(&from), "question");
    EXPECT_EQ(both.SendTo(from, "answer"), Done(6));
    EXPECT_EQ(v4.Receive(), "answer");
  }
  Meet(v4, both);
  EXPECT_EQ(v4.Send("question"), Done(8));
  EXPECT_EQ(both.ReceiveFrom(&from), "question");
  EXPECT_TRUE(from == told_to_both);
  EXPECT_EQ(both.Connect(told_to_both), Done(0));
  Meet(both, v4);
  EXPECT_EQ(both.Send("answer"), Done(6));
  EXPECT_EQ(v4.ReceiveFrom(&from), "answer");
  EXPECT_TRUE(from == told_to_v4);
}

FOR_ALL_UDP_FAMILIES(DatagramLeftTest);

}  // namespace
}  // namespace conformance
