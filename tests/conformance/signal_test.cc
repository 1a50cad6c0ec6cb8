// Signals and blocking calls: EINTR without SA_RESTART, going on with it, calls that never go on,
// partial results, the signal masks of ppoll, pselect and epoll_pwait.

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

namespace conformance {
namespace {

constexpr int kSignal = SIGUSR1;

class SignalTest : public PairTest {
 protected:
  Outcome Recv(size_t length, int flags = 0) { return Call(recv(fd(), buffer_, length, flags)); }

  // Lets several signals arrive in the test's thread, then runs `then` in a thread of its own.
  template <typename Then>
  BackgroundCall<void> AfterSomeSignals(const CountingHandler& handler, Then then) {
    return InThread([&handler, then] {
      const Stopwatch stopwatch;
      while (handler.count() < 4 && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
      then();
    });
  }

  char buffer_[100000] = {};
};
INSTANTIATE_TEST_SUITE_P(, SignalTest, AllVariants(), VariantName);

TEST_P(SignalTest, EveryReceivingCallIsInterrupted) {
  const CountingHandler handler(kSignal);
  const Pestering pestering(pthread_self(), kSignal);
  iovec piece = {buffer_, 100};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  EXPECT_EQ(Recv(100), Failed(EINTR));
  EXPECT_EQ(Recv(100, MSG_PEEK), Failed(EINTR));
  EXPECT_EQ(Recv(100, MSG_WAITALL), Failed(EINTR));
  Mark();
  EXPECT_EQ(Call(read(fd(), buffer_, 100)), Failed(EINTR));
  EXPECT_EQ(Call(readv(fd(), &piece, 1)), Failed(EINTR));
  EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Failed(EINTR));
  EXPECT_EQ(Call(recvfrom(fd(), buffer_, 100, 0, nullptr, nullptr)), Failed(EINTR));
  EXPECT_GT(handler.count(), 0);
}

TEST_P(SignalTest, EveryWaitIsInterrupted) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  for (const int flags : {0, SA_RESTART}) {  // waits are never restarted
    const CountingHandler handler(kSignal, flags);
    const Pestering pestering(pthread_self(), kSignal);
    pollfd entry{fd(), POLLIN, 0};
    EXPECT_EQ(Call(poll(&entry, 1, -1)), Failed(EINTR));
    EXPECT_EQ(Call(poll(&entry, 1, kSoonMs)), Failed(EINTR));
    EXPECT_EQ(Call(ppoll(&entry, 1, nullptr, nullptr)), Failed(EINTR));
    Mark();
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd(), &readable);
    EXPECT_EQ(Call(select(fd() + 1, &readable, nullptr, nullptr, nullptr)), Failed(EINTR));
    EXPECT_EQ(Call(pselect(fd() + 1, &readable, nullptr, nullptr, nullptr, nullptr)),
              Failed(EINTR));
    epoll_event event;
    EXPECT_EQ(Call(epoll_wait(set.fd(), &event, 1, -1)), Failed(EINTR));
    EXPECT_EQ(Call(epoll_pwait(set.fd(), &event, 1, kSoonMs, nullptr)), Failed(EINTR));
    EXPECT_EQ(Call(epoll_pwait2(set.fd(), &event, 1, nullptr, nullptr)), Failed(EINTR));
  }
}

TEST_P(SignalTest, BlockedSendIsInterrupted) {
  const size_t filled = FillUp(fd(), &pair().sent);
  const CountingHandler handler(kSignal);
  const Pestering pestering(pthread_self(), kSignal);
  Outcome outcome{};
  size_t taken = 0;
  do {  // the first calls may find room for a last piece
    pair().sent.Fill(buffer_, sizeof(buffer_));
    outcome = Call(send(fd(), buffer_, sizeof(buffer_), MSG_NOSIGNAL));
    if (outcome.value > 0) {
      pair().sent.Advance(outcome.value);
      taken += outcome.value;
    }
  } while (outcome.value > 0);
  EXPECT_EQ(outcome, Failed(EINTR));
  Mark();
  peer().Receive(filled + taken);
}

TEST_P(SignalTest, InterruptedSendReturnsWhatWasTaken) {
  std::vector<char> bytes(64 << 20);
  pair().sent.Fill(bytes.data(), bytes.size());
  for (const int flags : {0, SA_RESTART}) {
    const CountingHandler handler(kSignal, flags);
    const Pestering pestering(pthread_self(), kSignal);
    const ssize_t taken = send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ASSERT_GT(taken, 0);
    ASSERT_LT(taken, static_cast<ssize_t>(bytes.size()));
    pair().sent.Advance(taken);
    peer().Receive(taken);
    pair().sent.Fill(bytes.data(), bytes.size());
  }
}

TEST_P(SignalTest, WaitAllReturnsWhatHasCome) {
  for (const int flags : {0, SA_RESTART}) {
    peer().Send(10);
    ASSERT_TRUE(WaitForBytes(fd(), 10));
    const CountingHandler handler(kSignal, flags);
    const Pestering pestering(pthread_self(), kSignal);
    EXPECT_EQ(Recv(100, MSG_WAITALL), Done(10));
    EXPECT_TRUE(pair().received.Take(buffer_, 10));
  }
}

TEST_P(SignalTest, ReceiveGoesOnWithSaRestart) {
  const CountingHandler handler(kSignal, SA_RESTART);
  const Pestering pestering(pthread_self(), kSignal);
  auto sending = AfterSomeSignals(handler, [this] {
    Mark();
    peer().Send(10);
  });
  EXPECT_EQ(Recv(100), Done(10));
  sending.get();
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  EXPECT_GE(handler.count(), 4);
}

TEST_P(SignalTest, SendGoesOnWithSaRestart) {
  const size_t filled = FillUp(fd(), &pair().sent);
  const CountingHandler handler(kSignal, SA_RESTART);
  const Pestering pestering(pthread_self(), kSignal);
  auto receiving = AfterSomeSignals(handler, [this] { peer().StartReceive(kToEnd); });
  size_t taken = 0;
  for (int i = 0; i < 20; ++i) {
    pair().sent.Fill(buffer_, 1000);
    const Outcome outcome = Call(send(fd(), buffer_, 1000, MSG_NOSIGNAL));
    ASSERT_GT(outcome.value, 0) << strerrorname_np(outcome.error);
    pair().sent.Advance(outcome.value);
    taken += outcome.value;
  }
  receiving.get();
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  peer().ExpectMoved(filled + taken);
}

TEST_P(SignalTest, TimeOutPreventsRestart) {
  const timeval limit{kSoonMs / 1000, 0};
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
  const CountingHandler handler(kSignal, SA_RESTART);
  const Pestering pestering(pthread_self(), kSignal);
  EXPECT_EQ(Recv(100), Failed(EINTR));
}

TEST_P(SignalTest, IgnoredSignalsInterruptNothing) {
  struct sigaction ignore {
  }, before;
  ignore.sa_handler = SIG_IGN;
  sigaction(kSignal, &ignore, &before);
  auto call = InThread([this] {
    const Pestering pestering(pthread_self(), kSignal);
    return Recv(100);
  });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(buffer_, 10));
  sigaction(kSignal, &before, nullptr);
}

// A signal that is blocked in the thread, and pending.
class MaskTest : public SignalTest {
 protected:
  void SetUp() override {
    SignalTest::SetUp();
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, kSignal);
    pthread_sigmask(SIG_BLOCK, &only, &before_);
    sigemptyset(&open_);
    handler_ = std::make_unique<CountingHandler>(kSignal);
    MakePending();
    ASSERT_EQ(set_.Add(fd(), EPOLLIN), Done(0));
    FD_ZERO(&readable_);
  }
  void TearDown() override {
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    handler_.reset();
  }

  static void MakePending() { pthread_kill(pthread_self(), kSignal); }
  static bool IsBlocked() {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, kSignal) == 1;
  }
  // One wait of each kind with the mask open; negative time-out: for ever.
  Outcome Wait(int kind, int timeout_ms, const sigset_t* mask) {
    const timespec limit{timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    const timespec* limit_or_none = timeout_ms < 0 ? nullptr : &limit;
    epoll_event event;
    pollfd entry{fd(), POLLIN, 0};
    FD_SET(fd(), &readable_);
    switch (kind) {
      case 0:
        return Call(ppoll(&entry, 1, limit_or_none, mask));
      case 1:
        return Call(pselect(fd() + 1, &readable_, nullptr, nullptr, limit_or_none, mask));
      case 2:
        return Call(epoll_pwait(set_.fd(), &event, 1, timeout_ms, mask));
      default:
        return Call(epoll_pwait2(set_.fd(), &event, 1, limit_or_none, mask));
    }
  }
  static constexpr int kKinds = 4;

  sigset_t before_, open_;
  std::unique_ptr<CountingHandler> handler_;
  EpollSet set_;
  fd_set readable_;
};
INSTANTIATE_TEST_SUITE_P(, MaskTest, AllVariants(), VariantName);

TEST_P(MaskTest, PendingSignalInterruptsAtOnce) {
  for (int kind = 0; kind < kKinds; ++kind) {
    EXPECT_EQ(Wait(kind, -1, &open_), Failed(EINTR)) << kind;
    EXPECT_EQ(handler_->count(), kind + 1);
    EXPECT_TRUE(IsBlocked());
    MakePending();
    Mark();
  }
}

TEST_P(MaskTest, WithoutAMaskItStaysPending) {
  for (int kind = 0; kind < kKinds; ++kind) EXPECT_EQ(Wait(kind, 5, nullptr), Done(0)) << kind;
  EXPECT_EQ(handler_->count(), 0);
}

TEST_P(MaskTest, ReadyDataComesBeforeAPendingSignal) {
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  for (int kind = 0; kind < kKinds; ++kind) {
    EXPECT_EQ(Wait(kind, -1, &open_), Done(1)) << kind;
    EXPECT_EQ(handler_->count(), 0);
    EXPECT_TRUE(IsBlocked());
  }
  pair().Receive(10);
}

TEST_P(MaskTest, MaskedDuringTheWaitOnly) {
  const timespec now{0, 0};
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, kSignal);
  ASSERT_EQ(sigtimedwait(&only, nullptr, &now), kSignal);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  for (int kind = 0; kind < kKinds; ++kind) {
    const Pestering pestering(pthread_self(), kSignal);
    // The mask of the call keeps the signal out; data ends the wait.
    auto sending = InThread([this] {
      poll(nullptr, 0, kBlockedMs);
      peer().Send(1);
    });
    EXPECT_EQ(Wait(kind, -1, &only), Done(1)) << kind;
    sending.get();
    pair().Receive(1);
  }
  EXPECT_FALSE(IsBlocked());
}

}  // namespace
}  // namespace conformance
