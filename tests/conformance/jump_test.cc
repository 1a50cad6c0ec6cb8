// Signal handlers that leave the interrupted call for good, by siglongjmp and by setcontext in
// turn. What a kernel call promises then: a call that only waits has done nothing; a call that was
// about to return has taken its bytes (or its edge), and the program does not learn how many. So
// after a jump out of a wait everything must be as if the call had not been made, and after a jump
// at any moment the stream goes on with a byte of that call or the one after it, whoever uses the
// connection next.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kSignal = SIGUSR2;

thread_local sigjmp_buf way_out;
thread_local ucontext_t context_out;
thread_local volatile sig_atomic_t may_jump = 0, by_context = 0, has_jumped = 0;

extern "C" void Jump(int) {
  if (may_jump == 0) return;
  may_jump = 0;
  has_jumped = 1;
  if (by_context != 0) setcontext(&context_out);
  siglongjmp(way_out, 1);
}

class JumpingHandler {
 public:
  JumpingHandler() {
    struct sigaction action {};
    action.sa_handler = Jump;
    sigaction(kSignal, &action, &before_);
  }
  ~JumpingHandler() { sigaction(kSignal, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

// True if the handler jumped out of `call`. No destructors in it: they would not run.
template <typename Call>
__attribute__((noinline)) bool JumpedOutOf(Call& call) {
  static std::atomic<int> turn{0};
  by_context = turn++ % 2;
  has_jumped = 0;
  if (by_context != 0) {
    getcontext(&context_out);
  } else {
    sigsetjmp(way_out, 1);
  }
  if (has_jumped != 0) return true;
  may_jump = 1;
  call();
  may_jump = 0;
  return false;
}

// Blocks in `call` in a thread of its own, and makes the handler jump out of it.
template <typename Call>
void LeaveOnce(Call call) {
  std::atomic<pid_t> tid{0};
  std::atomic<bool> left{false};
  std::thread thread([&] {
    tid = gettid();
    EXPECT_TRUE(JumpedOutOf(call));
    left = true;
  });
  while (tid == 0) poll(nullptr, 0, 1);
  while (!left) {
    WaitUntilAsleep(tid);
    if (!left) pthread_kill(thread.native_handle(), kSignal);
    poll(nullptr, 0, 1);
  }
  thread.join();
}

// Sends the signal to this thread again and again while it lives.
class Storm {
 public:
  explicit Storm(long period_ns) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kSignal;
    event._sigev_un._tid = gettid();
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer_), 0);
    const itimerspec interval{{0, period_ns}, {0, period_ns}};
    EXPECT_EQ(timer_settime(timer_, 0, &interval, nullptr), 0);
  }
  ~Storm() { timer_delete(timer_); }

 private:
  timer_t timer_{};
};

class JumpTest : public PairTest {
 protected:
  const JumpingHandler handler_;
};
INSTANTIATE_TEST_SUITE_P(, JumpTest, AllVariants(), VariantName);

TEST_P(JumpTest, OutOfABlockedReceiveNothingIsLost) {
  const int fd = this->fd();
  char buffer[100];
  for (int round = 0; round < 5; ++round) {
    LeaveOnce([&] { recv(fd, buffer, sizeof(buffer), 0); });
    LeaveOnce([&] { recv(fd, buffer, sizeof(buffer), MSG_PEEK); });
    LeaveOnce([&] { (void)!read(fd, buffer, sizeof(buffer)); });
    peer().Send(100);
    pair().Receive(100);
    Mark();
  }
  pair().ExpectBothWaysWork();
}

TEST_P(JumpTest, OutOfABlockedSendNothingIsLost) {
  FillUp(fd(), &pair().sent);
  const int fd = this->fd();
  const auto send_more = [&] {  // a little may fit after all
    for (char byte;;) {
      pair().sent.Fill(&byte, 1);
      if (send(fd, &byte, 1, 0) == 1) pair().sent.Advance(1);
    }
  };
  for (int round = 0; round < 3; ++round) LeaveOnce(send_more);
  peer().Receive(pair().sent.offset() - 1);  // one byte has gone before the test
  pair().ExpectBothWaysWork();
}

TEST_P(JumpTest, OutOfABlockedWaitNothingIsLost) {
  const int fd = this->fd();
  EpollSet set;
  ASSERT_EQ(set.Add(fd, EPOLLIN | EPOLLET), Done(0));
  epoll_event event;
  pollfd entry{fd, POLLIN, 0};
  // More often than any table of waiters is long.
  for (int round = 0; round < 80; ++round) LeaveOnce([&] { poll(&entry, 1, -1); });
  for (int round = 0; round < 10; ++round) LeaveOnce([&] { epoll_wait(set.fd(), &event, 1, -1); });
  LeaveOnce([&] {
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    select(fd + 1, &readable, nullptr, nullptr, nullptr);
  });
  Mark();
  peer().Send(10);
  EXPECT_EQ(Call(epoll_wait(set.fd(), &event, 1, kSoonMs)), Done(1));
  EXPECT_TRUE(BecomesReadable(fd));
  pair().Receive(10);
  auto waiting = InThread([&] { return Call(poll(&entry, 1, kSoonMs)); });
  EXPECT_TRUE(StillBlocked(waiting));
  peer().Send(10);
  EXPECT_EQ(waiting.get(), Done(1));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

// The call that was left no longer keeps the connection open.
TEST_P(JumpTest, CloseAfterAJumpIsTheEnd) {
  const int fd = this->fd();
  char byte;
  for (int round = 0; round < 4; ++round) LeaveOnce([&] { recv(fd, &byte, 1, 0); });
  pair().Close();
  peer().ReceiveEndOfStream();
}

// A jump within the handler is not one out of the call that it interrupted.
TEST_P(JumpTest, WithinTheHandlerChangesNothing) {
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {
    sigjmp_buf here;
    if (sigsetjmp(here, 1) == 0) siglongjmp(here, 1);
  };
  action.sa_flags = SA_RESTART;
  sigaction(kSignal, &action, &before);
  constexpr size_t kBytes = 3000000;
  {
    const Storm storm(300 * 1000);
    peer().StartSend(kBytes, {50000, 5});
    pair().Receive(kBytes, {0, 5});
    peer().ExpectMoved(kBytes);
    peer().StartReceive(kBytes, {50000, 5});
    pair().Send(kBytes, {0, 5});
    peer().ExpectMoved(kBytes);
  }
  sigaction(kSignal, &before, nullptr);
  pair().ExpectBothWaysWork();
}

// A handler that goes on with something else on a stack of its own, and comes back.
ucontext_t interrupted, elsewhere;
std::function<void()> what_else;

__attribute__((noinline)) void PrepareElsewhere(void* stack, size_t size) {
  getcontext(&elsewhere);
  elsewhere.uc_stack.ss_sp = stack;
  elsewhere.uc_stack.ss_size = size;
  elsewhere.uc_link = nullptr;
  const auto work = [] {
    what_else();
    setcontext(&interrupted);
  };
  makecontext(&elsewhere, work, 0);
}

TEST_P(JumpTest, ToAnotherStackAndBackChangesNothing) {
  const auto another = AnotherPair();
  ASSERT_NE(another, nullptr);
  constexpr size_t kStack = 1 << 20;
  void* const stack =
      mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(stack, MAP_FAILED);
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { swapcontext(&interrupted, &elsewhere); };
  action.sa_flags = SA_RESTART;
  sigaction(kSignal, &action, &before);
  for (int round = 0; round < 10; ++round) {
    what_else = [&] { another->ExpectBothWaysWork(100); };
    PrepareElsewhere(stack, kStack);
    std::atomic<pid_t> tid{0};
    std::thread thread([&] {
      tid = gettid();
      pair().Receive(100);
    });
    while (tid == 0) poll(nullptr, 0, 1);
    WaitUntilAsleep(tid);
    pthread_kill(thread.native_handle(), kSignal);
    WaitUntilAsleep(tid);
    peer().Send(100);
    thread.join();
    Mark();
  }
  sigaction(kSignal, &before, nullptr);
  munmap(stack, kStack);
  pair().ExpectBothWaysWork();
}

// Receives and looks of every kind, left at any moment: what a receive took goes with it, as a
// prefix of what it would have taken; a look takes nothing.
TEST_P(JumpTest, AtAnyMomentOfReceiving) {
  constexpr size_t kBytes = 20000000, kLargest = 20000, kMatched = 32;
  const int fd = this->fd();
  EpollSet set;
  ASSERT_EQ(set.Add(fd, EPOLLIN), Done(0));
  std::vector<char> buffer(kLargest), expected(kLargest + kMatched);
  peer().Start(Op::kSend, kBytes, 9000, 20);
  int jumps = 0, turn = 0;
  pollfd entry{fd, POLLIN, 0};
  epoll_event event;
  const size_t end = pair().received.offset() + kBytes;
  while (end - pair().received.offset() > kLargest + kMatched) {
    ssize_t got = -1;
    const size_t length = 1 + (turn * 7919u) % kLargest;
    bool jumped;
    {
      const Storm storm(50 * 1000 + turn % 7 * 40000);
      for (int looks = 0; looks < 20; ++looks) {
        auto look = [&] {
          if (turn % 3 == 0) poll(&entry, 1, 20);
          if (turn % 3 == 1) epoll_wait(set.fd(), &event, 1, 20);
          if (turn % 3 == 2) recv(fd, buffer.data(), length, MSG_PEEK | MSG_DONTWAIT);
        };
        if (JumpedOutOf(look)) ++jumps;
      }
      auto receive = [&] { got = recv(fd, buffer.data(), length, 0); };
      jumped = JumpedOutOf(receive);
    }
    ++turn;
    if (!jumped) {
      if (got < 0 && errno == EINTR) continue;
      ASSERT_GT(got, 0);
      ASSERT_TRUE(pair().received.Take(buffer.data(), static_cast<size_t>(got))) << "turn " << turn;
      continue;
    }
    ++jumps;
    // Where is the stream now? The next bytes say it.
    const ssize_t seen = recv(fd, buffer.data(), kMatched, MSG_WAITALL);
    pair().received.Fill(expected.data(), expected.size());
    ASSERT_EQ(seen, static_cast<ssize_t>(kMatched));
    const auto at =
        std::search(expected.begin(), expected.end(), buffer.begin(), buffer.begin() + seen);
    ASSERT_NE(at, expected.end()) << "not a byte of the call that was left, turn " << turn;
    pair().received.Advance(static_cast<size_t>(at - expected.begin() + seen));
  }
  EXPECT_GT(jumps, 0);
  pair().Receive(end - pair().received.offset());
  peer().ExpectMoved(kBytes);
  pair().ExpectBothWaysWork();
}

// Lines of text, each sent by one call that may be left at any moment: every line arrives whole, or
// as a beginning if the call was left.
TEST_P(JumpTest, AtAnyMomentOfSending) {
  const Address any = Loopback(GetParam().family);
  const FileDescriptor listener = ListenOn(any);
  const Address name = LocalName(listener.get());
  const FileDescriptor sender(socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Call(connect(sender.get(), name.get(), name.length)), Done(0));
  const FileDescriptor receiver(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(receiver.get(), 0);
  const int on = 1;
  setsockopt(sender.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ASSERT_TRUE(UpgradeIfWanted(sender.get()));
  const auto line = [](int number) {
    return std::to_string(number) + std::string(static_cast<size_t>(number) * 7919 % 30000,
                                                static_cast<char>('a' + number % 26));
  };
  // On a busy machine few signals meet a call: then there are more lines.
  constexpr int kLines = 800, kMostLines = 20000, kJumps = 3;
  std::atomic<int> jumps{0};
  struct Seen {
    int whole = 0, torn = 0, wrong = 0;
  };
  auto reading = InThread([&]() -> Seen {
    Seen seen;
    std::string text;
    std::vector<char> buffer(60000);
    int number = 0;
    for (ssize_t got; (got = recv(receiver.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(got));
      size_t at = 0;
      for (size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
        const std::string whole = line(number);
        const std::string_view one(text.data() + at, end - at);
        if (one == whole) {
          ++seen.whole;
        } else if (one == std::string_view(whole).substr(0, one.size())) {
          ++seen.torn;
        } else {
          ++seen.wrong;
        }
        ++number;
      }
      text.erase(0, at);
    }
    return seen;
  });
  int lines = 0;
  for (; lines < kLines || (jumps < kJumps && lines < kMostLines); ++lines) {
    const int number = lines;
    const std::string text = line(number);
    ssize_t sent = -1;
    bool jumped;
    {
      const Storm storm(15 * 1000 + number % 9 * 20000);
      auto call = [&] { sent = send(sender.get(), text.data(), text.size(), 0); };
      jumped = JumpedOutOf(call);
      if (jumped) ++jumps;
    }
    if (number % 50 == 0) MarkedPoint(sender.get());
    if (!jumped && sent >= 0) {
      for (size_t at = static_cast<size_t>(sent); at < text.size();) {
        const ssize_t more = send(sender.get(), text.data() + at, text.size() - at, 0);
        ASSERT_GT(more, 0);
        at += static_cast<size_t>(more);
      }
    }
    ASSERT_EQ(Call(send(sender.get(), "\n", 1, 0)), Done(1));
  }
  shutdown(sender.get(), SHUT_WR);
  const Seen seen = reading.get();
  EXPECT_EQ(seen.wrong, 0);
  EXPECT_EQ(seen.whole + seen.torn, lines);
  EXPECT_LE(seen.torn, jumps.load() + 1);
  EXPECT_GT(jumps.load(), 0);
}

// epoll_ctl left at any moment has been done or not; another try makes sure, and then it works.
TEST_P(JumpTest, AtAnyMomentOfEpollCtl) {
  const int fd = this->fd();
  EpollSet set;
  int jumps = 0;
  for (int round = 0; round < 300 || (jumps < 20 && round < 10000); ++round) {
    const Storm storm(20 * 1000 + round % 13 * 3000);
    epoll_event event{};
    event.events = EPOLLIN | (round % 2 != 0 ? static_cast<uint32_t>(EPOLLET) : 0);
    event.data.u64 = static_cast<uint64_t>(round);
    for (int operation : {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL}) {
      for (int again = 0; again < 5; ++again) {
        auto call = [&] { epoll_ctl(set.fd(), operation, fd, &event); };
        if (JumpedOutOf(call)) ++jumps;
      }
    }
  }
  epoll_ctl(set.fd(), EPOLL_CTL_DEL, fd, nullptr);
  ASSERT_EQ(set.Add(fd, EPOLLIN, 4711), Done(0));
  epoll_event event;
  for (int round = 0; round < 20; ++round) {
    auto waiting = InThread([&] { return Call(epoll_wait(set.fd(), &event, 1, kSoonMs)); });
    if (round % 4 == 0) {
      EXPECT_TRUE(StillBlocked(waiting));
    }
    peer().Send(10);
    ASSERT_EQ(waiting.get(), Done(1));
    EXPECT_EQ(event.data.u64, 4711u);
    EXPECT_EQ(event.events, static_cast<uint32_t>(EPOLLIN));
    pair().Receive(10);
    Mark();
  }
  EXPECT_GT(jumps, 0);
}

}  // namespace
}  // namespace conformance
