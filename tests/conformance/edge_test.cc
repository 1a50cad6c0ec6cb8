// Lengths and times at the edge of their types, and stacks at the edge of what a thread may have.

#include <gtest/gtest.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <functional>
#include <limits>

#include "tests/conformance/pair.h"

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#endif

namespace conformance {
namespace {

constexpr time_t kCenturies = 1'000'000'000'000;
constexpr time_t kLongest = std::numeric_limits<time_t>::max();

class LengthTest : public PairTest {
 protected:
  void Come(size_t bytes) {
    peer().Send(bytes);
    ASSERT_TRUE(WaitForBytes(fd(), static_cast<int>(bytes)));
  }
  char buffer_[64];
};
INSTANTIATE_TEST_SUITE_P(, LengthTest, OneOfEachPlace(), VariantName);

TEST_P(LengthTest, MoreThanAnythingCanHold) {
  for (const size_t length : {static_cast<size_t>(0x7ffff001), static_cast<size_t>(SSIZE_MAX),
                              static_cast<size_t>(SIZE_MAX)}) {
    Come(5);
    EXPECT_EQ(Call(recv(fd(), buffer_, length, 0)), Done(5));
    EXPECT_TRUE(pair().received.Take(buffer_, 5));
    Come(5);
    EXPECT_EQ(Call(recvfrom(fd(), buffer_, length, 0, nullptr, nullptr)), Done(5));
    EXPECT_TRUE(pair().received.Take(buffer_, 5));
    Mark();
  }
  Come(5);
  EXPECT_EQ(Call(read(fd(), buffer_, 0x7ffff001)), Done(5));
  EXPECT_TRUE(pair().received.Take(buffer_, 5));
  Come(5);
  EXPECT_EQ(Call(read(fd(), buffer_, SSIZE_MAX)), Failed(EFAULT));
  EXPECT_EQ(recv(fd(), buffer_, 0, 0), 0);
  iovec pieces[2] = {{buffer_, SSIZE_MAX}, {buffer_, SSIZE_MAX}};
  EXPECT_EQ(Call(readv(fd(), pieces, 2)), Failed(EFAULT));
  pieces[0].iov_len = 3;
  pieces[1].iov_len = SIZE_MAX;
  EXPECT_EQ(Call(readv(fd(), pieces, 2)), Failed(EINVAL));
  EXPECT_EQ(Call(writev(fd(), pieces, 2)), Failed(EINVAL));
  pair().Receive(5);
}

class TimeTest : public PairTest {
 protected:
  // `wait` sleeps until a byte comes, however long it would have had.
  void ExpectWokenByAByte(const std::function<int()>& wait) {
    auto sleeper = InThread(wait);
    EXPECT_TRUE(StillBlocked(sleeper));
    peer().Send(1);
    EXPECT_EQ(sleeper.get(), 1);
    pair().Receive(1);
    Mark();
  }
};
INSTANTIATE_TEST_SUITE_P(, TimeTest, OneOfEachPlace(), VariantName);

TEST_P(TimeTest, CenturiesInPoll) {
  for (const time_t seconds : {kCenturies, kLongest}) {
    ExpectWokenByAByte([&] {
      pollfd entry{fd(), POLLIN, 0};
      const timespec timeout{seconds, 999999999};
      return ppoll(&entry, 1, &timeout, nullptr);
    });
  }
}

TEST_P(TimeTest, CenturiesInSelect) {
  for (const time_t seconds : {kCenturies, kLongest}) {
    timeval timeout{seconds, 999999};
    ExpectWokenByAByte([&] {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(fd(), &set);
      return select(fd() + 1, &set, nullptr, nullptr, &timeout);
    });
    EXPECT_GT(timeout.tv_sec, seconds / 2);  // the end, and so the rest, has a limit, too
    ExpectWokenByAByte([&] {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(fd(), &set);
      const timespec most{seconds, 999999999};
      return pselect(fd() + 1, &set, nullptr, nullptr, &most, nullptr);
    });
  }
}

TEST_P(TimeTest, CenturiesInEpoll) {
  const FileDescriptor set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
  ExpectWokenByAByte([&] { return epoll_wait(set.get(), &event, 1, INT_MAX); });
  for (const time_t seconds : {kCenturies, kLongest}) {
    ExpectWokenByAByte([&] {
      const timespec timeout{seconds, 999999999};
      return epoll_pwait2(set.get(), &event, 1, &timeout, nullptr);
    });
  }
}

TEST_P(TimeTest, CenturiesInOptions) {
  for (const time_t seconds : {kCenturies, kLongest}) {
    const timeval timeout{seconds, 999999};
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout), 0);
    ExpectWokenByAByte([&] {
      char byte;
      return static_cast<int>(recv(fd(), &byte, 1, MSG_PEEK));
    });
  }
}

// Paints a stack, has `work` run on it, and tells how much of it was used.
class PaintedStack {
 public:
  explicit PaintedStack(size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<unsigned char*>(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    memset(memory_, kPaint, bytes_);
  }
  ~PaintedStack() { munmap(memory_, bytes_); }
  void* get() const { return memory_; }
  size_t size() const { return bytes_; }
  // Below `top`, an address on it.
  size_t UsedBelow(const void* top) const {
    const unsigned char* lowest = memory_;
    while (lowest < memory_ + bytes_ && *lowest == kPaint) ++lowest;
    return static_cast<size_t>(static_cast<const unsigned char*>(top) - lowest);
  }

 private:
  static constexpr unsigned char kPaint = 0xa5;
  const size_t bytes_;
  unsigned char* const memory_;
};

std::function<void()> in_handler;
const void* handlers_frame;
void Handle(int) {
  handlers_frame = __builtin_frame_address(0);
  in_handler();
}

// A handler on an alternate stack: what it uses below its own frame. An 8 KiB stack holds the
// kernel's frame (up to 3.5 KiB with AVX-512), the handler's own, and this.
constexpr size_t kMostOnAStack = 4096;

class StackTest : public PairTest {
 protected:
  void ExpectSmall(const char* what, const std::function<void()>& work) {
    in_handler = work;
    PaintedStack stack(256 * 1024);
    stack_t ours{}, before{};
    ours.ss_sp = stack.get();
    ours.ss_size = stack.size();
    ASSERT_EQ(sigaltstack(&ours, &before), 0);
    struct sigaction action {
    }, old{};
    action.sa_handler = Handle;
    action.sa_flags = SA_ONSTACK;
    ASSERT_EQ(sigaction(SIGUSR2, &action, &old), 0);
    raise(SIGUSR2);
    sigaction(SIGUSR2, &old, nullptr);
    sigaltstack(&before, nullptr);
    EXPECT_LT(stack.UsedBelow(handlers_frame), kMostOnAStack) << what;
  }
};
INSTANTIATE_TEST_SUITE_P(, StackTest, OneOfEachPlace(), VariantName);

TEST_P(StackTest, SmallInAHandler) {
  FILE* const file = tmpfile();
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(write(fileno(file), "0123456789", 10), 10);
  const FileDescriptor set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
  char byte[8];
  ssize_t result = 0;
  const auto is = [&result](ssize_t expected) { EXPECT_EQ(result, expected); };
  peer().Send(4);
  ASSERT_TRUE(WaitForBytes(fd(), 4));
  pollfd entries[200];
  for (pollfd& entry : entries) entry = {fd(), POLLIN, 0};
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(fd(), &reads);
  iovec piece{byte, 1};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ExpectSmall("poll", [&] { result = poll(entries, 1, 1); });
  is(1);
  ExpectSmall("poll of many", [&] { result = poll(entries, 200, 1); });
  is(200);
  ExpectSmall("select", [&] { result = select(fd() + 1, &reads, nullptr, nullptr, nullptr); });
  is(1);
  ExpectSmall("epoll_wait", [&] { result = epoll_wait(set.get(), &event, 1, 1); });
  is(1);
  ExpectSmall("recv", [&] { result = recv(fd(), byte, 1, 0); });
  is(1);
  ExpectSmall("read", [&] { result = read(fd(), byte, 1); });
  is(1);
  ExpectSmall("recvmsg", [&] { result = recvmsg(fd(), &message, 0); });
  is(1);
  ExpectSmall("readv", [&] { result = readv(fd(), &piece, 1); });
  is(1);
  char text[64];
  pair().sent.Fill(text, 10);
  ASSERT_EQ(pwrite(fileno(file), text, 10, 0), 10);
  off_t offset = 0;
  ExpectSmall("sendfile", [&] { result = sendfile(fd(), fileno(file), &offset, 10); });
  is(10);
  pair().sent.Advance(10);
  pair().sent.Fill(text, 10);
  ExpectSmall("send", [&] { result = send(fd(), text, 10, 0); });
  is(10);
  pair().sent.Advance(10);
  peer().Receive(20);
  int duplicate = -1;
  ExpectSmall("dup", [&] { duplicate = dup(fd()); });
  ExpectSmall("close", [&] { result = close(duplicate); });
  is(0);
  fclose(file);
}

// A thread with the smallest stack that there is.
TEST_P(StackTest, SmallestThread) {
  peer().Send(4);
  ASSERT_TRUE(WaitForBytes(fd(), 4));
  const auto run = [](void* number) -> void* {
    const int fd = static_cast<int>(reinterpret_cast<intptr_t>(number));
    char bytes[4];
    pollfd entry{fd, POLLIN, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    const bool good = poll(&entry, 1, -1) == 1 &&
                      select(fd + 1, &set, nullptr, nullptr, nullptr) == 1 &&
                      recv(fd, bytes, 4, MSG_PEEK) == 4;
    return reinterpret_cast<void*>(static_cast<intptr_t>(good));
  };
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, static_cast<size_t>(PTHREAD_STACK_MIN)), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, run,
                           reinterpret_cast<void*>(static_cast<intptr_t>(fd()))),
            0);
  void* good = nullptr;
  ASSERT_EQ(pthread_join(thread, &good), 0);
  EXPECT_NE(good, nullptr);
  pair().Receive(4);
}

}  // namespace
}  // namespace conformance
