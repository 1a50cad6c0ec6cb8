// Calls that no library in front of libc sees: system calls made in line, and functions taken from
// libc's own handle. Who waits or reads by them finds what the peer sends, and in the right order,
// also where others of the program's calls are seen.

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/inline_call.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr long kBytes = 100;

class UnseenTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    // What never comes is a failure, and no hang.
    const timeval limit{kSoonMs / 1000, 0};
    ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  }

  // `wait` is asleep when the peer sends; then it returns 1, and the bytes are there. Twice: what
  // is found once must be found again.
  template <typename Wait>
  void ExpectToBeTold(Wait wait) {
    for (int i = 0; i < 2; ++i) {
      auto call = InThread([&wait] { return wait(); });
      EXPECT_TRUE(StillBlocked(call));
      Mark();
      peer().Send(kBytes);
      EXPECT_EQ(call.get(), 1);
      pair().Receive(kBytes);
    }
    pair().ExpectBothWaysWork();
  }

  // The same with what this libc has, and answers that come behind what we have sent.
  void ExpectToBeToldThrough(void* libc) {
    ASSERT_NE(libc, nullptr) << dlerror();
    const auto receive = reinterpret_cast<decltype(&::recv)>(dlsym(libc, "recv"));
    const auto answer = reinterpret_cast<decltype(&::send)>(dlsym(libc, "send"));
    for (int i = 0; i < 2; ++i) {
      char byte = 0;
      auto call = InThread([&] { return receive(fd(), &byte, 1, 0); });
      EXPECT_TRUE(StillBlocked(call));
      Mark();
      peer().SendText("?");
      ASSERT_EQ(call.get(), 1);
      EXPECT_EQ(answer(fd(), "a", 1, 0), 1);
      EXPECT_EQ(write(fd(), "b", 1), 1);
      peer().ReceiveText("ab");
    }
    dlclose(libc);
  }
};
INSTANTIATE_TEST_SUITE_P(, UnseenTest, AllVariants(), VariantName);

TEST_P(UnseenTest, Poll) {
  const timespec limit{kSoonMs / 1000, 0};
  ExpectToBeTold([&] {
    pollfd entry{fd(), POLLIN, 0};
    timespec left = limit;
    return InlineCall(SYS_ppoll, &entry, 1, &left, 0, 8);
  });
}

TEST_P(UnseenTest, Select) {
  ExpectToBeTold([&] {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd(), &set);
    timespec left{kSoonMs / 1000, 0};
    return InlineCall(SYS_pselect6, fd() + 1, &set, 0, 0, &left);
  });
}

// Nothing of the set is seen but its descriptor.
TEST_P(UnseenTest, EpollSet) {
  const FileDescriptor set(static_cast<int>(InlineCall(SYS_epoll_create1, 0, 0, 0)));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(InlineCall(SYS_epoll_ctl, set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
  ExpectToBeTold([&] {
    epoll_event found{};
    return InlineCall(SYS_epoll_pwait, set.get(), &found, 1, kSoonMs, 0, 8);
  });
}

TEST_P(UnseenTest, RegistrationInAnEpollSetThatIsSeen) {
  const FileDescriptor set(epoll_create1(0));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = 7;
  ASSERT_EQ(InlineCall(SYS_epoll_ctl, set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
  ExpectToBeTold([&] {
    epoll_event found{};
    const int count = epoll_wait(set.get(), &found, 1, kSoonMs);
    EXPECT_EQ(found.data.u64, 7u);
    return count;
  });
}

TEST_P(UnseenTest, BlockingReceive) {
  for (int i = 0; i < 2; ++i) {
    char buffer[kBytes];
    auto call =
        InThread([&] { return InlineCall(SYS_recvfrom, fd(), buffer, kBytes, MSG_WAITALL); });
    EXPECT_TRUE(StillBlocked(call));
    Mark();
    peer().Send(kBytes);
    ASSERT_EQ(call.get(), kBytes);
    EXPECT_TRUE(pair().received.Take(buffer, kBytes));
  }
  pair().ExpectBothWaysWork();
}

// It never sleeps in a call on the socket.
TEST_P(UnseenTest, ReceiveAgainAndAgain) {
  Mark();
  peer().Send(kBytes);
  const Stopwatch stopwatch;
  for (long got = 0; got < kBytes;) {
    char buffer[kBytes];
    const long found = InlineCall(SYS_recvfrom, fd(), buffer, kBytes, MSG_DONTWAIT);
    ASSERT_TRUE(found > 0 || found == -EAGAIN) << found;
    ASSERT_LT(stopwatch.ElapsedMs(), kSoonMs) << "never found";
    if (found > 0) {
      EXPECT_TRUE(pair().received.Take(buffer, static_cast<size_t>(found)));
      got += found;
    }
    poll(nullptr, 0, 1);
  }
  pair().ExpectBothWaysWork();
}

// Some of it is read by calls that are seen.
TEST_P(UnseenTest, ReceivesOfBothKinds) {
  for (int i = 0; i < 3; ++i) {
    peer().Send(2 * kBytes);
    pair().Receive(kBytes);
    char buffer[kBytes];
    ASSERT_EQ(InlineCall(SYS_recvfrom, fd(), buffer, kBytes, MSG_WAITALL), kBytes);
    EXPECT_TRUE(pair().received.Take(buffer, kBytes));
    Mark();
  }
  pair().ExpectBothWaysWork();
}

// What was asked unseen is answered unseen, and followed by what is seen.
TEST_P(UnseenTest, AnswersBeforeWhatFollows) {
  char byte = 0;
  auto call = InThread([&] { return InlineCall(SYS_read, fd(), &byte, 1); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().SendText("?");
  ASSERT_EQ(call.get(), 1);
  EXPECT_EQ(InlineCall(SYS_write, fd(), "a", 1), 1);
  EXPECT_EQ(write(fd(), "b", 1), 1);
  peer().ReceiveText("ab");
}

// What is written unseen is read before anything that is sent when it has been read.
TEST_P(UnseenTest, WritesOfBothKinds) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(write(fd(), "a", 1), 1);
    EXPECT_EQ(InlineCall(SYS_write, fd(), "b", 1), 1);
    peer().ReceiveText("ab");
    Mark();
  }
  pair().ExpectBothWaysWork();
}

// Python's ctypes, Java's JNA and others look a function up in the handle of libc itself.
TEST_P(UnseenTest, FunctionsOfLibcsOwnHandle) {
  ExpectToBeToldThrough(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD));
}

// A plugin in a namespace of its own has a libc of its own.
TEST_P(UnseenTest, FunctionsOfAnotherNamespace) {
  ExpectToBeToldThrough(dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW));
}

// Makes descriptors until one has that number; the lowest may be in use for moments (D-5).
template <typename Make>
int MadeAs(int number, Make make) {
  std::vector<FileDescriptor> others;
  int made = make();
  for (; made >= 0 && made != number && others.size() < 100; made = make())
    others.emplace_back(made);
  return made;
}

// A ring or an inline call has closed it; what is written by its number goes to whose it is now.
TEST_P(UnseenTest, NumberClosedInLineIsAFilesNow) {
  char temporary[] = "/tmp/unseen_test.XXXXXX";
  const FileDescriptor file(mkstemp(temporary));
  ASSERT_EQ(unlink(temporary), 0);
  const std::string name = "/proc/self/fd/" + std::to_string(file.get());
  using Open = int (*)(const char*);
  const Open ways[] = {
      [](const char* path) { return open(path, O_RDWR); },
      [](const char* path) { return openat(AT_FDCWD, path, O_RDWR); },
      [](const char* path) { return creat(path, 0600); },
      [](const char* path) { return static_cast<int>(syscall(SYS_openat, -1, path, O_RDWR)); },
  };
  for (const Open way : ways) {
    const auto closed = AnotherPair();
    ASSERT_NE(closed, nullptr);
    Mark();
    const int number = closed->fd();
    ASSERT_EQ(InlineCall(SYS_close, number, 0, 0), 0);
    ASSERT_EQ(MadeAs(number, [&] { return way(name.c_str()); }), number);
    EXPECT_EQ(Call(write(number, "line", 4)), Done(4));
    struct stat written {};
    ASSERT_EQ(fstat(file.get(), &written), 0);
    EXPECT_EQ(written.st_size, 4);
    ASSERT_EQ(ftruncate(file.get(), 0), 0);
    closed->peer().ReceiveEndOfStream();
  }
  pair().ExpectBothWaysWork();
}

TEST_P(UnseenTest, NumberClosedInLineIsOfAnotherKindNow) {
  using Make = int (*)();
  const Make ways[] = {
      [] { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); },
      [] { return static_cast<int>(syscall(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK)); },
      [] {
        sigset_t none;
        sigemptyset(&none);
        return signalfd(-1, &none, SFD_NONBLOCK);
      },
      [] { return inotify_init1(IN_NONBLOCK); },
      [] { return memfd_create("empty", 0); },
      [] {
        char path[] = "/tmp/unseen_test.XXXXXX";
        const int fd = mkstemp(path);
        unlink(path);
        return fd;
      },
      [] { return fileno(fopen("/dev/null", "re")); },
      [] { return fileno(tmpfile()); },
  };
  for (const Make way : ways) {
    const auto closed = AnotherPair();
    ASSERT_NE(closed, nullptr);
    Mark();
    const int number = closed->fd();
    ASSERT_EQ(InlineCall(SYS_close, number, 0, 0), 0);
    ASSERT_EQ(MadeAs(number, way), number);
    char bytes[200];
    const ssize_t got = read(number, bytes, sizeof bytes);
    EXPECT_TRUE(got == 0 || (got == -1 && errno == EAGAIN)) << got << ' ' << errno;
    int type = 0;
    socklen_t length = sizeof type;
    EXPECT_EQ(Call(getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &length)), Failed(ENOTSOCK));
    const FileDescriptor copy(dup(number));
    const ssize_t of_copy = read(copy.get(), bytes, sizeof bytes);
    EXPECT_EQ(of_copy, got);
    closed->peer().ReceiveEndOfStream();
  }
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
