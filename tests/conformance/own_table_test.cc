// A thread with a table of descriptors of its own: from then on one number means two files. Each
// test is a process of its own, which stays as the last call has left it.

#include <gtest/gtest.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kRounds = 400;

bool All(int fd, char* bytes, size_t length, bool write_them) {
  for (size_t done = 0; done < length;) {
    const ssize_t n =
        write_them ? write(fd, bytes + done, length - done) : read(fd, bytes + done, length - done);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

void Echo(int fd) {
  char bytes[64];
  while (All(fd, bytes, sizeof bytes, false) && All(fd, bytes, sizeof bytes, true)) {
  }
  close(fd);
}

// Own bytes come back, whatever others do under the same number.
bool Exchange(const Address& server, char letter, int rounds) {
  const FileDescriptor fd(socket(server.family(), SOCK_STREAM, 0));
  CHILD_CHECK(connect(fd.get(), server.get(), server.length) == 0);
  char sent[64];
  char received[64];
  memset(sent, letter, sizeof sent);
  for (int i = 0; i < rounds; ++i) {
    CHILD_CHECK(All(fd.get(), sent, sizeof sent, true));
    CHILD_CHECK(All(fd.get(), received, sizeof received, false));
    CHILD_CHECK(memcmp(sent, received, sizeof sent) == 0);
  }
  return true;
}

// Two threads at once, the second behind `take_own_table`; the server is another process.
bool TwoThreads(const std::function<bool()>& take_own_table) {
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Address server = LocalName(listener.get());
  ChildProcess echoes([&] {
    std::thread threads[3];
    for (std::thread& thread : threads)
      thread = std::thread(Echo, accept(listener.get(), nullptr, nullptr));
    for (std::thread& thread : threads) thread.join();
    return true;
  });
  const FileDescriptor hot(socket(AF_INET, SOCK_STREAM, 0));
  CHILD_CHECK(connect(hot.get(), server.get(), server.length) == 0);
  char bytes[64] = {};
  for (int i = 0; i < kRounds; ++i)
    CHILD_CHECK(All(hot.get(), bytes, sizeof bytes, true) &&
                All(hot.get(), bytes, sizeof bytes, false));
  bool second = false;
  std::thread other([&] { second = take_own_table() && Exchange(server, 'b', kRounds); });
  const bool first = Exchange(server, 'A', kRounds);
  other.join();
  CHILD_CHECK(first && second);
  CHILD_CHECK(shutdown(hot.get(), SHUT_RDWR) == 0);
  return echoes.Succeeded();
}

TEST(OwnTableTest, Unshare) {
  ChildProcess child([] { return TwoThreads([] { return unshare(CLONE_FILES) == 0; }); });
  EXPECT_TRUE(child.Succeeded());
}

TEST(OwnTableTest, UnshareByNumber) {
  ChildProcess child(
      [] { return TwoThreads([] { return syscall(SYS_unshare, CLONE_FILES) == 0; }); });
  EXPECT_TRUE(child.Succeeded());
}

TEST(OwnTableTest, CloseRangeThatUnshares) {
  ChildProcess child(
      [] { return TwoThreads([] { return close_range(1000, 2000, CLOSE_RANGE_UNSHARE) == 0; }); });
  EXPECT_TRUE(child.Succeeded());
}

}  // namespace
}  // namespace conformance
