// What one process has sent, and nobody has read yet, while another has the connection, too: it
// comes also when the first has closed its number or was killed, before anything that the second
// sends.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

// In mode switching: the kernel's room, and a FIFO's behind it.
size_t FillAll(int fd, ByteStream* sent) {
  MarkedPoint(fd);
  const size_t first = FillUp(fd, sent);
  MarkedPoint(fd);
  return first + FillUp(fd, sent);
}

// Two ends of a pipe, by which one process tells another to go on.
class Gate {
 public:
  Gate() { EXPECT_EQ(pipe(ends_), 0); }
  ~Gate() {
    close(ends_[0]);
    close(ends_[1]);
  }
  bool Tell(size_t number = 0) const {
    return write(ends_[1], &number, sizeof number) == sizeof number;
  }
  // False: nobody tells for long.
  bool Await(size_t* number = nullptr) const {
    size_t told = 0;
    pollfd asked{ends_[0], POLLIN, 0};
    if (poll(&asked, 1, 20000) != 1 || read(ends_[0], &told, sizeof told) != sizeof told)
      return false;
    if (number != nullptr) *number = told;
    return true;
  }

 private:
  int ends_[2];
};

class HeirTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, HeirTest, ProcessVariants(), VariantName);

TEST_P(HeirTest, ParentClosesWhatTheChildNeverTouches) {
  const Gate gate;
  const size_t sent = FillAll(fd(), &pair().sent);
  ChildProcess child([&] { return gate.Await(); });
  EXPECT_EQ(pair().Close(), 0);
  peer().Receive(sent);
  gate.Tell();
  EXPECT_TRUE(child.Succeeded());
  peer().ReceiveEndOfStream();
}

enum class Touch { kRecv, kPoll, kEpoll };
constexpr const char* kNames[] = {"Recv", "Poll", "Epoll"};

bool IsReadable(int fd, Touch touch) {
  if (touch == Touch::kRecv) return true;  // the receive waits
  if (touch == Touch::kPoll) {
    pollfd asked[2] = {{fd, POLLIN, 0}, {-1, 0, 0}};
    return poll(asked, 2, 10000) == 1;
  }
  const FileDescriptor set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  return epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &event) == 0 &&
         epoll_wait(set.get(), &event, 1, 10000) == 1;
}

// It has become another program.
bool IsNow(pid_t pid, const std::string& name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/comm";
  for (const Stopwatch stopwatch; stopwatch.ElapsedMs() < 20000; poll(nullptr, 0, 5)) {
    std::string found;
    if (std::getline(std::ifstream(path), found) && found == name) return true;
  }
  return false;
}

class OwnerTest : public testing::TestWithParam<Touch> {
 protected:
  enum class Before { kNothing, kMark };  // the fork; kMark: in mode switching, a fallback
  enum class End { kKilled, kExec, kExecMeanwhile };  // before, or while the grandchild waits
  static void Run(Before before, End end = End::kKilled);
};
INSTANTIATE_TEST_SUITE_P(, OwnerTest, testing::Values(Touch::kRecv, Touch::kPoll, Touch::kEpoll),
                         [](const auto& touch) { return kNames[static_cast<int>(touch.param)]; });

// The child that has made the connection is killed; the grandchild touches it afterwards.
void OwnerTest::Run(Before before, End end) {
  constexpr size_t kLastWords = 3000;
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Gate sent, killed, done;
  ChildProcess owner([&] {
    const Address there = LocalName(listener.get());
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHILD_CHECK(connect(fd, there.get(), there.length) == 0);
    CHILD_CHECK(UpgradeIfWanted(fd));
    ByteStream all(kSeedToPeer);
    const size_t bytes = FillAll(fd, &all);
    if (before == Before::kMark) MarkedPoint(fd);
    if (fork() == 0) {
      char byte;
      const bool good = killed.Await() && IsReadable(fd, GetParam()) &&
                        recv(fd, &byte, 1, 0) == 1 &&
                        SendBytes(fd, &all, kLastWords).bytes == kLastWords;
      done.Tell(good ? 1 : 0);
      _exit(0);
    }
    sent.Tell(bytes);
    if (end != End::kKilled) {
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      execlp("sleep", "sleep", "30", nullptr);
    }
    pause();
    return true;
  });
  const FileDescriptor fd(accept(listener.get(), nullptr, nullptr));
  ASSERT_GE(fd.get(), 0);
  UpgradeIfWanted(fd.get());
  size_t bytes = 0;
  ASSERT_TRUE(sent.Await(&bytes));
  if (end == End::kExecMeanwhile) killed.Tell();
  if (end != End::kKilled) {
    ASSERT_TRUE(IsNow(owner.pid(), "sleep"));
  } else {
    owner.Kill();
    EXPECT_FALSE(owner.Succeeded());
  }
  if (end != End::kExecMeanwhile) killed.Tell();
  poll(nullptr, 0, 50);  // its first touch comes before anything is read, mostly
  const timeval limit{10, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ByteStream received(kSeedToPeer);
  ASSERT_EQ(ReceiveBytes(fd.get(), &received, bytes).bytes, bytes);
  EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
  EXPECT_EQ(ReceiveBytes(fd.get(), &received, kLastWords).bytes, kLastWords);
  size_t good = 0;
  EXPECT_TRUE(done.Await(&good));
  EXPECT_EQ(good, 1u);
  if (end != End::kKilled) owner.Kill();
}

TEST_P(OwnerTest, KilledWithMuchUnread) { Run(Before::kNothing); }
TEST_P(OwnerTest, ExecedWithMuchUnread) { Run(Before::kNothing, End::kExec); }
TEST_P(OwnerTest, ExecsWhileItIsWaitedFor) { Run(Before::kNothing, End::kExecMeanwhile); }
TEST_P(OwnerTest, KilledWhileItOwesMuch) { Run(Before::kMark); }

}  // namespace
}  // namespace conformance
