// Signal handlers that do socket I/O of their own, driven by a fast timer, while the interrupted
// thread is in the middle of its calls.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kSignal = SIGUSR2;
constexpr size_t kTableBytes = 1 << 20;

// What the handler works with. Static: a handler has no arguments. Bytes are made beforehand, since
// a handler must not allocate.
int handler_fd;
std::vector<char> handler_out, handler_expected;
std::atomic<size_t> handler_sent, handler_received, handler_wrong;
bool handler_receives;

extern "C" void DoSocketInputAndOutput(int) {
  const int saved_errno = errno;
  char byte;
  if (handler_receives) {
    while (recv(handler_fd, &byte, 1, MSG_DONTWAIT) == 1) {
      if (byte != handler_expected[handler_received]) handler_wrong++;
      handler_received++;
    }
  }
  if (handler_sent < kTableBytes &&
      send(handler_fd, &handler_out[handler_sent], 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    handler_sent++;
  }
  errno = saved_errno;
}

// Runs the handler in this thread every 300 microseconds while it lives.
class HandlerTimer {
 public:
  HandlerTimer(int fd, const ByteStream& out, const ByteStream& expected, bool receives) {
    handler_fd = fd;
    handler_out.resize(kTableBytes);
    handler_expected.resize(kTableBytes);
    out.Fill(handler_out.data(), kTableBytes);
    expected.Fill(handler_expected.data(), kTableBytes);
    handler_sent = handler_received = handler_wrong = 0;
    handler_receives = receives;
    struct sigaction action {};
    action.sa_handler = DoSocketInputAndOutput;
    action.sa_flags = SA_RESTART;
    sigaction(kSignal, &action, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kSignal;
    event._sigev_un._tid = gettid();
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer_), 0);
    const itimerspec interval{{0, 300 * 1000}, {0, 300 * 1000}};
    EXPECT_EQ(timer_settime(timer_, 0, &interval, nullptr), 0);
  }
  ~HandlerTimer() {
    timer_delete(timer_);
    sigaction(kSignal, &before_, nullptr);
  }

 private:
  timer_t timer_{};
  struct sigaction before_ {};
};

class SignalIoTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, SignalIoTest, AllVariants(), VariantName);

TEST_P(SignalIoTest, HandlerOnAnotherConnection) {
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  other->peer().Start(Op::kEcho, kToEnd);
  constexpr size_t kBytes = 200 * 1000;
  {
    const HandlerTimer timer(other->fd(), other->sent, other->received, /*receives=*/true);
    peer().Start(Op::kEcho, kBytes, 0, 5);
    for (size_t moved = 0; moved < kBytes; moved += 100) {
      pair().Send(100);
      pair().Receive(100);
      if (moved % 40000 == 0) Mark();
    }
    peer().ExpectMoved(kBytes);
    const Stopwatch stopwatch;
    while (handler_received < 50 && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 5);
  }
  EXPECT_EQ(handler_wrong.load(), 0u);
  EXPECT_GE(handler_received.load(), 50u);
  shutdown(other->fd(), SHUT_WR);
  other->peer().ExpectMoved(handler_sent);
}

TEST_P(SignalIoTest, HandlerOnAnotherConnectionDuringLargeCalls) {
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  other->peer().Start(Op::kEcho, kToEnd);
  constexpr size_t kBytes = 5 * 1000 * 1000;
  {
    const HandlerTimer timer(other->fd(), other->sent, other->received, /*receives=*/true);
    peer().StartReceive(kBytes, {100000, 5});
    pair().Send(kBytes, {0, 5});
    peer().ExpectMoved(kBytes);
    peer().StartSend(kBytes, {100000, 5});
    pair().Receive(kBytes, {0, 5});
    peer().ExpectMoved(kBytes);
  }
  EXPECT_EQ(handler_wrong.load(), 0u);
  shutdown(other->fd(), SHUT_WR);
  other->peer().ExpectMoved(handler_sent);
}

// The thread only receives, the handler only sends, on one connection.
TEST_P(SignalIoTest, HandlerSendsWhileItsThreadReceives) {
  constexpr size_t kBytes = 300;
  peer().Start(Op::kEcho, kToEnd);
  {
    const HandlerTimer timer(fd(), pair().sent, pair().received, /*receives=*/false);
    pair().Receive(kBytes, {0, 5});
  }
  EXPECT_GE(handler_sent.load(), kBytes);
  shutdown(fd(), SHUT_WR);
  pair().Receive(handler_sent - kBytes);
  peer().ExpectMoved(handler_sent);
}

}  // namespace
}  // namespace conformance
