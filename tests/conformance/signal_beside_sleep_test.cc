// A signal that comes while a wait has begun and does not sleep in the kernel: the library may be
// looking at FIFOs then, and the kernel has nothing to interrupt. Where the wait is one of the
// library's, a test point of it sends the signal just there; in any case a timer sends it later, to
// end the call that sleeps natively, or that has missed the other.

#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "tests/conformance/datagram.h"
#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

#ifndef sigev_notify_thread_id  // glibc before 2.40
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace conformance {
namespace {

constexpr int kSignal = SIGUSR2;
constexpr int kLaterMs = 50;
// See preload/socket/test_points.h.
constexpr int kMarkedPointOption = 0x786C;
constexpr int kSignalPoint = 1000;

class RepeatingTimer {
 public:
  RepeatingTimer() {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kSignal;
    event.sigev_notify_thread_id = gettid();
    made_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    EXPECT_TRUE(made_);
  }
  ~RepeatingTimer() {
    if (made_) timer_delete(timer_);
  }
  // Again and again: one signal might come just before the call that it is to interrupt.
  void Start(int ms) const {
    const itimerspec when{{0, ms * 1000000L}, {0, ms * 1000000L}};
    timer_settime(timer_, 0, &when, nullptr);
  }
  void Stop() const {
    const itimerspec never{};
    timer_settime(timer_, 0, &never, nullptr);
  }

 private:
  timer_t timer_{};
  bool made_ = false;
};

// The next wait of the library that is about to sleep gets the signal. (Natively nothing happens.)
class Planted {
 public:
  explicit Planted(int fd) : fd_(fd) { Again(); }
  ~Planted() { Plant(0); }
  void Again() const { Plant(kSignal); }

 private:
  void Plant(int signal) const {
    const int point = kSignalPoint + signal;
    setsockopt(fd_, SOL_SOCKET, kMarkedPointOption, &point, sizeof point);
  }
  const int fd_;
};

// One call that a signal must end. A slow machine is told from a lost signal by trying again.
struct Nothing {
  void operator()() const {}
};
template <typename MakeCall, typename Prepare = Nothing>
void ExpectEnded(int fd, const CountingHandler& handler, const char* what, MakeCall call,
                 bool may_move_bytes = false, Prepare prepare = {}) {
  constexpr int kTries = 3;
  const RepeatingTimer timer;
  int lost = 0;
  for (int i = 0; i <= lost && i < kTries; ++i) {
    prepare();
    const Planted planted(fd);
    const int before = handler.count();
    timer.Start(kLaterMs);
    const Outcome outcome = call();
    if (outcome.value <= 0 || !may_move_bytes) {
      EXPECT_EQ(outcome, Failed(EINTR)) << what;
    }
    const int signals = handler.count() - before;
    timer.Stop();
    lost += signals > 1 ? 1 : 0;
  }
  EXPECT_LT(lost, kTries) << what << " slept on";
}

class SignalBesideSleepTest : public PairTest {
 protected:
  template <typename MakeCall>
  void Ends(const char* what, const CountingHandler& handler, MakeCall call) {
    ExpectEnded(fd(), handler, what, call);
  }
  void LimitTime(int option) {
    const timeval limit{kSoonMs / 1000, 0};
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, option, &limit, sizeof limit), 0);
  }
  char buffer_[1000] = {};
};
INSTANTIATE_TEST_SUITE_P(, SignalBesideSleepTest, OneOfEachPlace(), VariantName);

TEST_P(SignalBesideSleepTest, EndsReceiving) {
  const CountingHandler handler(kSignal);
  iovec piece = {buffer_, 100};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  Ends("recv", handler, [&] { return Call(recv(fd(), buffer_, 100, 0)); });
  Ends("peek", handler, [&] { return Call(recv(fd(), buffer_, 100, MSG_PEEK)); });
  Mark();
  Ends("all", handler, [&] { return Call(recv(fd(), buffer_, 100, MSG_WAITALL)); });
  Ends("read", handler, [&] { return Call(read(fd(), buffer_, 100)); });
  Mark();
  Ends("readv", handler, [&] { return Call(readv(fd(), &piece, 1)); });
  Ends("recvmsg", handler, [&] { return Call(recvmsg(fd(), &message, 0)); });
  const int low = 50;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low), 0);
  Ends("low-water mark", handler, [&] { return Call(recv(fd(), buffer_, 100, 0)); });
}

TEST_P(SignalBesideSleepTest, EndsReceivingWithATimeOutAlsoUnderSaRestart) {
  LimitTime(SO_RCVTIMEO);
  for (const int flags : {0, SA_RESTART}) {
    const CountingHandler handler(kSignal, flags);
    Ends("recv", handler, [&] { return Call(recv(fd(), buffer_, 100, 0)); });
    Mark();
  }
  pair().ExpectBothWaysWork();
}

TEST_P(SignalBesideSleepTest, EndsSending) {
  std::vector<char> bytes(16 << 20);  // more than there is room for
  size_t taken = 0;
  const auto fill = [&] { pair().sent.Fill(bytes.data(), bytes.size()); };
  const auto send_all = [&] {
    const Outcome outcome = Call(send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    if (outcome.value > 0) {
      pair().sent.Advance(static_cast<size_t>(outcome.value));
      taken += static_cast<size_t>(outcome.value);
    }
    return outcome;
  };
  const auto ends = [&](const char* what, const CountingHandler& handler) {
    ExpectEnded(fd(), handler, what, send_all, /*may_move_bytes=*/true, fill);
  };
  {
    const CountingHandler handler(kSignal, SA_RESTART);
    ends("send that has taken some", handler);
  }
  {
    const CountingHandler handler(kSignal);
    ends("send", handler);
  }
  Mark();
  LimitTime(SO_SNDTIMEO);
  const CountingHandler handler(kSignal, SA_RESTART);
  ends("send with a time-out", handler);
  peer().Receive(taken);
}

TEST_P(SignalBesideSleepTest, EndsPollAndSelect) {
  const auto another = AnotherPair();
  ASSERT_NE(another, nullptr);
  const timespec limit{kSoonMs / 1000, 0};
  sigset_t open;
  sigemptyset(&open);
  for (const int flags : {0, SA_RESTART}) {  // these are never restarted
    const CountingHandler handler(kSignal, flags);
    pollfd both[] = {{fd(), POLLIN, 0}, {another->fd(), POLLIN, 0}};
    Ends("poll of one", handler, [&] { return Call(poll(both, 1, -1)); });
    Ends("poll of two", handler, [&] { return Call(poll(both, 2, -1)); });
    Mark();
    Ends("ppoll", handler, [&] { return Call(ppoll(both, 1, &limit, nullptr)); });
    Ends("ppoll, mask", handler, [&] { return Call(ppoll(both, 2, nullptr, &open)); });
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd(), &readable);  // stays set: an interrupted select has no answer
    Ends("select", handler,
         [&] { return Call(select(fd() + 1, &readable, nullptr, nullptr, nullptr)); });
    Ends("pselect", handler,
         [&] { return Call(pselect(fd() + 1, &readable, nullptr, nullptr, &limit, &open)); });
    EXPECT_TRUE(FD_ISSET(fd(), &readable));
  }
}

TEST_P(SignalBesideSleepTest, EndsEpollWait) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  const timespec limit{kSoonMs / 1000, 0};
  sigset_t open;
  sigemptyset(&open);
  for (const int flags : {0, SA_RESTART}) {
    const CountingHandler handler(kSignal, flags);
    epoll_event event;
    Ends("epoll_wait", handler, [&] { return Call(epoll_wait(set.fd(), &event, 1, -1)); });
    Mark();
    Ends("epoll_pwait", handler,
         [&] { return Call(epoll_pwait(set.fd(), &event, 1, kSoonMs, &open)); });
    Ends("epoll_pwait2", handler,
         [&] { return Call(epoll_pwait2(set.fd(), &event, 1, &limit, nullptr)); });
    pollfd outer{set.fd(), POLLIN, 0};
    Ends("poll of a set", handler, [&] { return Call(poll(&outer, 1, -1)); });
    Ends("epoll_wait of a watched set", handler,
         [&] { return Call(epoll_wait(set.fd(), &event, 1, -1)); });
  }
}

// What the call's own mask keeps out does not end it.
TEST_P(SignalBesideSleepTest, OutsideTheMaskItEndsNothing) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  const CountingHandler handler(kSignal);
  sigset_t shut;
  sigemptyset(&shut);
  sigaddset(&shut, kSignal);
  const timespec brief{0, 20000000};
  pollfd entry{fd(), POLLIN, 0};
  epoll_event event;
  const Planted planted(fd());
  EXPECT_EQ(Call(ppoll(&entry, 1, &brief, &shut)), Done(0));
  planted.Again();
  EXPECT_EQ(Call(epoll_pwait2(set.fd(), &event, 1, &brief, &shut)), Done(0));
  Mark();
  planted.Again();
  EXPECT_EQ(Call(epoll_pwait(set.fd(), &event, 1, 20, &shut)), Done(0));
}

// A call without any time to wait lets in what it has unmasked: programs that never sleep take
// their signals so. (epoll_pwait does not.)
TEST_P(SignalBesideSleepTest, ALookUnderAMaskLetsItIn) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  const CountingHandler handler(kSignal);
  sigset_t shut;
  sigset_t open;
  sigemptyset(&open);
  sigemptyset(&shut);
  sigaddset(&shut, kSignal);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &shut, nullptr), 0);
  const timespec at_once{0, 0};
  pollfd entry{fd(), POLLIN, 0};
  fd_set readable;
  epoll_event event;
  const auto look = [&] { return Call(ppoll(&entry, 1, &at_once, &open)); };
  const auto select_now = [&] {
    FD_ZERO(&readable);
    FD_SET(fd(), &readable);
    return Call(pselect(fd() + 1, &readable, nullptr, nullptr, &at_once, &open));
  };
  EXPECT_EQ(look(), Done(0));
  pthread_kill(pthread_self(), kSignal);
  EXPECT_EQ(look(), Failed(EINTR));
  EXPECT_EQ(handler.count(), 1);
  Mark();
  pthread_kill(pthread_self(), kSignal);
  EXPECT_EQ(select_now(), Failed(EINTR));
  EXPECT_TRUE(FD_ISSET(fd(), &readable));
  EXPECT_EQ(handler.count(), 2);
  pthread_kill(pthread_self(), kSignal);
  EXPECT_EQ(Call(epoll_pwait(set.fd(), &event, 1, 0, &open)), Done(0));
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(look(), Done(1));
  EXPECT_EQ(select_now(), Done(1));
  EXPECT_EQ(handler.count(), 2);
  ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &shut, nullptr), 0);
  EXPECT_EQ(handler.count(), 3);
}

// Ready data come first, and a look that does not wait is not interrupted.
TEST_P(SignalBesideSleepTest, EndsNoCallThatNeedNotWait) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  const CountingHandler handler(kSignal);
  epoll_event event;
  pollfd entry{fd(), POLLIN, 0};
  const Planted planted(fd());
  EXPECT_EQ(Call(poll(&entry, 1, 0)), Done(0));
  EXPECT_EQ(Call(epoll_wait(set.fd(), &event, 1, 0)), Done(0));
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  planted.Again();
  EXPECT_EQ(Call(poll(&entry, 1, -1)), Done(1));
  EXPECT_EQ(Call(epoll_wait(set.fd(), &event, 1, -1)), Done(1));
  EXPECT_EQ(Call(recv(fd(), buffer_, 100, 0)), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  EXPECT_EQ(handler.count(), 0);
}

TEST_P(SignalBesideSleepTest, DoesNotEndWhatIsRestarted) {
  const CountingHandler handler(kSignal, SA_RESTART);
  const RepeatingTimer timer;
  for (int i = 0; i < 4; ++i) {
    const Planted planted(fd());
    timer.Start(kBlockedMs / 2);
    auto sending = InThread([this] {
      poll(nullptr, 0, kBlockedMs);
      peer().Send(10);
    });
    EXPECT_EQ(Call(recv(fd(), buffer_, 100, 0)), Done(10));
    timer.Stop();
    sending.get();
    EXPECT_TRUE(pair().received.Take(buffer_, 10));
    Mark();
  }
}

// The handler waits itself, for what does not come: the call that it has interrupted ends as well.
std::atomic<int> waited{0};
void WaitsForNothing(int) {
  const int kept = errno;
  poll(nullptr, 0, 1);
  ++waited;
  errno = kept;
}

TEST_P(SignalBesideSleepTest, AHandlerThatWaitsItselfEndsTheCallAllTheSame) {
  const CountingHandler restored_at_the_end(kSignal);
  struct sigaction action = {};
  action.sa_handler = WaitsForNothing;
  ASSERT_EQ(sigaction(kSignal, &action, nullptr), 0);
  const RepeatingTimer timer;
  pollfd entry{fd(), POLLIN, 0};
  waited = 0;
  const Planted planted(fd());
  timer.Start(kLaterMs);
  EXPECT_EQ(Call(recv(fd(), buffer_, 100, 0)), Failed(EINTR));
  EXPECT_EQ(waited, 1);
  planted.Again();
  EXPECT_EQ(Call(poll(&entry, 1, -1)), Failed(EINTR));
}

class SignalBesideDatagramSleepTest : public UdpFamilyTest {
 protected:
  SignalBesideDatagramSleepTest() {
    Heat(sender_, receiver_);
    Meet(sender_, receiver_);
  }
  UdpSocket receiver_;
  UdpSocket sender_;
};

TEST_P(SignalBesideDatagramSleepTest, EndsEveryWaitForADatagram) {
  const CountingHandler handler(kSignal);
  char buffer[100];
  iovec piece{buffer, sizeof buffer};
  mmsghdr messages[2] = {};
  messages[0].msg_hdr.msg_iov = messages[1].msg_hdr.msg_iov = &piece;
  messages[0].msg_hdr.msg_iovlen = messages[1].msg_hdr.msg_iovlen = 1;
  EpollSet set;
  ASSERT_EQ(set.Add(receiver_.fd(), EPOLLIN), Done(0));
  pollfd entry{receiver_.fd(), POLLIN, 0};
  epoll_event event;
  const int fd = receiver_.fd();
  ExpectEnded(fd, handler, "recv", [&] { return Call(recv(fd, buffer, sizeof buffer, 0)); });
  ExpectEnded(fd, handler, "recvmmsg", [&] { return Call(recvmmsg(fd, messages, 2, 0, nullptr)); });
  ExpectEnded(fd, handler, "poll", [&] { return Call(poll(&entry, 1, -1)); });
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(fd, &readable);
  ExpectEnded(fd, handler, "select",
              [&] { return Call(select(fd + 1, &readable, nullptr, nullptr, nullptr)); });
  EXPECT_TRUE(FD_ISSET(fd, &readable));
  ExpectEnded(fd, handler, "epoll_wait", [&] { return Call(epoll_wait(set.fd(), &event, 1, -1)); });
}
FOR_ALL_UDP_FAMILIES(SignalBesideDatagramSleepTest);

}  // namespace
}  // namespace conformance
