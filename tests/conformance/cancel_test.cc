// pthread_cancel of a thread that is blocked on a connection: the thread ends, the connection does
// not, and no byte is lost; a cancellation that is pending before a call takes no data with it.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/jumping.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

char scratch[4 << 20];  // static: a cancelled thread's stack is gone

class CancelTest : public PairTest {
 protected:
  struct Job {
    std::function<void()> call;
    std::atomic<bool> started{false};
    bool pending_first = false;
  };

  // Runs `call` in a thread, cancels the thread, and returns whether it ended by that.
  static bool CancelledIn(std::function<void()> call, bool pending_first = false) {
    Job job;
    job.call = std::move(call);
    job.pending_first = pending_first;
    pthread_t thread;
    pthread_create(&thread, nullptr, Run, &job);
    while (!job.started.load()) poll(nullptr, 0, 1);
    if (!pending_first) {
      poll(nullptr, 0, kBlockedMs);  // it is blocked by now; if not, the cancellation is pending
      pthread_cancel(thread);
    }
    void* result = nullptr;
    pthread_join(thread, &result);
    return result == PTHREAD_CANCELED;
  }

 private:
  static void* Run(void* argument) {
    auto* job = static_cast<Job*>(argument);
    if (job->pending_first) {
      int before;
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
      job->started = true;
      pthread_cancel(pthread_self());
      pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
    }
    job->started = true;
    job->call();
    return nullptr;
  }
};
INSTANTIATE_TEST_SUITE_P(, CancelTest, AllVariants(), VariantName);

TEST_P(CancelTest, BlockedReceivingCalls) {
  const int fd = this->fd();
  EXPECT_TRUE(CancelledIn([fd] { recv(fd, scratch, 100, 0); }));
  pair().ExpectBothWaysWork();
  EXPECT_TRUE(CancelledIn([fd] { (void)!read(fd, scratch, 100); }));
  Mark();
  EXPECT_TRUE(CancelledIn([fd] {
    iovec piece = {scratch, 100};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    static_cast<void>(recvmsg(fd, &message, 0));
  }));
  EXPECT_TRUE(CancelledIn([fd] { recv(fd, scratch, 100, MSG_PEEK); }));
  pair().ExpectBothWaysWork();
}

TEST_P(CancelTest, BlockedWaits) {
  const int fd = this->fd();
  EpollSet set;
  ASSERT_EQ(set.Add(fd, EPOLLIN), Done(0));
  const int set_fd = set.fd();
  EXPECT_TRUE(CancelledIn([fd] {
    pollfd entry{fd, POLLIN, 0};
    poll(&entry, 1, -1);
  }));
  EXPECT_TRUE(CancelledIn([fd] {
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    select(fd + 1, &readable, nullptr, nullptr, nullptr);
  }));
  Mark();
  EXPECT_TRUE(CancelledIn([set_fd] {
    epoll_event event;
    epoll_wait(set_fd, &event, 1, -1);
  }));
  pair().ExpectBothWaysWork();
}

TEST_P(CancelTest, BlockedSend) {
  const size_t filled = FillUp(fd(), &pair().sent);
  pair().sent.Fill(scratch, sizeof(scratch));
  const int fd = this->fd();
  EXPECT_TRUE(CancelledIn([fd] {
    for (size_t at = 0; at < sizeof(scratch);) {
      at += send(fd, scratch + at, sizeof(scratch) - at, MSG_NOSIGNAL);
    }
  }));
  // Some of the last call may have been taken: right bytes, whatever their number.
  peer().StartReceive(kToEnd);
  shutdown(fd, SHUT_WR);
  const Reply reply = peer().Wait();
  EXPECT_EQ(reply.error, 0) << strerrorname_np(reply.error);
  EXPECT_GE(static_cast<size_t>(reply.result), filled);
  EXPECT_LE(static_cast<size_t>(reply.result), filled + sizeof(scratch));
}

TEST_P(CancelTest, DataAfterACancelledReceiveIsAllThere) {
  const int fd = this->fd();
  for (int round = 0; round < 5; ++round) {
    EXPECT_TRUE(CancelledIn([fd] { recv(fd, scratch, 100, 0); }));
    peer().Send(100);
    pair().Receive(100);
    Mark();
  }
}

// The call that was cancelled no longer keeps the connection open.
TEST_P(CancelTest, CloseAfterACancelledReceiveIsTheEnd) {
  const int fd = this->fd();
  EXPECT_TRUE(CancelledIn([fd] { recv(fd, scratch, 100, 0); }));
  pair().Close();
  peer().ReceiveEndOfStream();
}

// More often than any table of waiters is long.
// The calls that were left are no frames that its end would have to pass.
TEST_P(CancelTest, OfAThreadThatHasJumpedOutOfCalls) {
  const JumpingHandler handler;
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  struct Jumper {
    int fd, set_fd;
    std::atomic<int> left{0};
  } jumper{fd(), set.fd()};
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void* argument) -> void* {
        auto* const self = static_cast<Jumper*>(argument);
        const auto receive = [self] { recv(self->fd, scratch, 100, 0); };
        const auto wait = [self] {
          epoll_event event;
          epoll_wait(self->set_fd, &event, 1, -1);
        };
        const auto ask = [self] {
          pollfd entry{self->fd, POLLIN, 0};
          poll(&entry, 1, -1);
        };
        while (!JumpedOutOf(receive)) continue;
        while (!JumpedOutOf(wait)) continue;
        while (!JumpedOutOf(ask)) continue;
        for (self->left = 1;;) recv(self->fd, scratch, 100, 0);
      },
      &jumper);
  for (; jumper.left == 0; poll(nullptr, 0, kBlockedMs)) pthread_kill(thread, kSignal);
  poll(nullptr, 0, kBlockedMs);
  pthread_cancel(thread);
  void* result = nullptr;
  pthread_join(thread, &result);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  pair().ExpectBothWaysWork();
}

TEST_P(CancelTest, ManyCancelledWaits) {
  const int fd = this->fd();
  for (int round = 0; round < 70; ++round) {
    EXPECT_TRUE(CancelledIn([fd] {
      pollfd entry{fd, POLLIN, 0};
      poll(&entry, 1, -1);
    }));
  }
  peer().Send(10);
  EXPECT_TRUE(BecomesReadable(fd));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

TEST_P(CancelTest, PendingCancellationTakesNoData) {
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  const int fd = this->fd();
  EXPECT_TRUE(CancelledIn([fd] { recv(fd, scratch, 100, 0); }, /*pending_first=*/true));
  EXPECT_TRUE(CancelledIn([fd] { (void)!read(fd, scratch, 100); }, /*pending_first=*/true));
  EXPECT_TRUE(CancelledIn([fd] { send(fd, scratch, 100, 0); }, /*pending_first=*/true));
  pair().Receive(100);
  pair().ExpectBothWaysWork();
}

TEST_P(CancelTest, DisabledCancellationChangesNothing) {
  const int fd = this->fd();
  std::atomic<bool> ready{false};
  std::atomic<pthread_t> thread{};
  auto call = InThread([&, fd] {
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    thread = pthread_self();
    ready = true;
    return Call(recv(fd, scratch, 100, 0));  // stays disabled to the end
  });
  while (!ready) poll(nullptr, 0, 1);
  EXPECT_TRUE(StillBlocked(call));
  pthread_cancel(thread);
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  EXPECT_TRUE(pair().received.Take(scratch, 10));
}

}  // namespace
}  // namespace conformance
