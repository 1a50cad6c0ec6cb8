// Signal handlers that leave the interrupted call for good, by siglongjmp and by setcontext in
// turn. What a kernel call promises then: a call that only waits has done nothing; a call that was
// about to return has taken its bytes (or its edge), and the program does not learn how many. So
// after a jump out of a wait everything must be as if the call had not been made, and after a jump
// at any moment the stream goes on with a byte of that call or the one after it, whoever uses the
// connection next.

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/jumping.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

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

}  // namespace
}  // namespace conformance
