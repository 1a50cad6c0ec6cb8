// poll and select on a followed socket: asleep with a bell of their own; what a forked child hears.
#include "preload/ready/poll.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "preload/ready/lent_bell.h"
#include "preload/ready/select.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/wait.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

short PollFor(int fd, int timeout_ms, short events = POLLIN) {
  pollfd entry{fd, events, 0};
  const timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000000};
  return Poll(&entry, 1, &timeout, nullptr, PollCall::kPpoll) == 1 ? entry.revents
                                                                   : static_cast<short>(0);
}

TEST(PollTest, SeesWhatTheFifoHolds) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(PollFor(socket.fd(), 0), 0);
  socket.PeerSends("x");
  EXPECT_EQ(PollFor(socket.fd(), 0), POLLIN);
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(socket.fd(), &readable);
  const timespec now{0, 0};
  EXPECT_EQ(Select(SelectName::kSelect, socket.fd() + 1, &readable, nullptr, nullptr, &now, nullptr,
                   nullptr),
            1);
}

// Who waits for one connection sleeps on its FIFO, and no doorbell is rung for him; also if urgent
// data would do.
TEST(PollTest, SleeperOnOneIsWokenByItsFifo) {
  for (const int events : {POLLIN, POLLIN | POLLPRI, POLLIN | POLLRDHUP}) {
    FollowedSocket socket;
    FollowedSocket other;
    ASSERT_TRUE(socket.Attach() && other.Attach());
    std::atomic<int> tid{0};
    std::atomic<int> found{0};
    std::thread sleeper([&] {
      tid = gettid();
      found = PollFor(socket.fd(), 5000, static_cast<short>(events));
    });
    while (tid == 0) std::this_thread::yield();
    AwaitSleeperOnFifo(tid, socket.side());
    EXPECT_EQ(agent_shared.doorbell.page->sleepers.load(), 0u);
    other.PeerSends("x");
    EXPECT_TRUE(IsAsked(socket.side()));
    socket.PeerSends("x");
    sleeper.join();
    EXPECT_EQ(found, POLLIN);
  }
}

// A thread that waits for two connections of its own.
class SleeperOnTwo {
 public:
  SleeperOnTwo() : thread_([this] { Wait(); }) {
    while (tid_ == 0) std::this_thread::yield();
    AwaitSleeper(tid_);
  }
  ~SleeperOnTwo() { thread_.join(); }
  FollowedSocket& first() { return sockets_[0]; }
  short Found() {
    while (found_ < 0) std::this_thread::yield();
    return static_cast<short>(found_);
  }
  bool Sleeps() const { return found_ < 0; }
  uint32_t bell() const { return PollBellOf(sockets_[0].side()); }

 private:
  void Wait() {
    if (!sockets_[0].Attach() || !sockets_[1].Attach()) abort();
    tid_ = gettid();
    pollfd entries[] = {{sockets_[0].fd(), POLLIN, 0}, {sockets_[1].fd(), POLLIN, 0}};
    const timespec timeout{5, 0};
    const int ready = Poll(entries, 2, &timeout, nullptr, PollCall::kPpoll);
    found_ = ready == 1 ? entries[0].revents : 0;
  }
  FollowedSocket sockets_[2];
  std::atomic<int> tid_{0};
  std::atomic<int> found_{-1};
  std::thread thread_;
};

TEST(PollTest, SleeperOnSeveralIsWokenByTheDoorbell) {
  SleeperOnTwo sleeper;
  sleeper.first().PeerSends("x");
  EXPECT_EQ(sleeper.Found(), POLLIN);
}

// And each by a bell of its own: nobody else is woken for what comes to one of them.
TEST(PollTest, SleepersOnSeveralAreWokenOneByOne) {
  SleeperOnTwo one;
  SleeperOnTwo other;
  ASSERT_GT(one.bell(), kCommonBell);
  ASSERT_GT(other.bell(), kCommonBell);
  EXPECT_NE(one.bell(), other.bell());
  const uint64_t slept = LineOfOwnBell(other.bell())->changes.load();
  one.first().PeerSendsByName("x");
  EXPECT_EQ(one.Found(), POLLIN);
  EXPECT_EQ(LineOfOwnBell(other.bell())->changes.load(), slept) << "it has neither woken nor slept";
  EXPECT_TRUE(other.Sleeps());
  other.first().PeerSendsByName("x");
  EXPECT_EQ(other.Found(), POLLIN);
}

// Two who wait for one connection are both woken for it.
TEST(PollTest, SleepersOnTheSameAreAllWoken) {
  SleeperOnTwo one;
  std::atomic<int> tid{0};
  std::atomic<int> found{0};
  FollowedSocket more;
  ASSERT_TRUE(more.Attach());
  std::thread other([&] {
    tid = gettid();
    pollfd entries[] = {{more.fd(), POLLIN, 0}, {one.first().fd(), POLLIN, 0}};
    const timespec timeout{5, 0};
    if (Poll(entries, 2, &timeout, nullptr, PollCall::kPpoll) == 1) found = entries[1].revents;
  });
  while (tid == 0) std::this_thread::yield();
  AwaitSleeper(tid);
  one.first().PeerSendsByName("x");
  EXPECT_EQ(one.Found(), POLLIN);
  other.join();
  EXPECT_EQ(found, POLLIN);
}

TEST(PollTest, TimeOutEndsAndIsNotBegunAnew) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(PollFor(socket.fd(), 20), 0);
}

// The FIFO rings the parent's doorbell, which a child hears beside its own.
TEST(PollForkTest, ChildWaitsByTheParentsDoorbell) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(InForkedChild([&] {
              StartDoorbell();
              if (PollFor(socket.fd(), 20) != 0) return 1;
              if (!socket.OnFifos()) return 2;
              std::thread peer([&socket, sleeper = gettid()] {
                AwaitSleeper(sleeper);
                socket.PeerSends("x", agent_shared.parents_doorbell);
              });
              const int found = PollFor(socket.fd(), 5000);
              peer.join();
              return found == POLLIN ? 0 : 3;
            }),
            0);
}

// A child of that child does not, and must not wait for it.
TEST(PollForkTest, GrandchildWaitsByTcp) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const auto grandchild = [&] {
    StartDoorbell();
    if (PollFor(socket.fd(), 20) != 0) return 1;
    if (socket.OnFifos()) return 2;
    socket.PeerSendsByTcp("x");
    return PollFor(socket.fd(), 5000) == POLLIN ? 0 : 3;
  };
  EXPECT_EQ(InForkedChild([&] {
              StartDoorbell();
              return InForkedChild(grandchild);
            }),
            0);
}

TEST(LentBellTest, EachSleeperHasItsOwnUntilItIsGivenBack) {
  StartDoorbell();
  int last_fd;
  {
    const LentBell first;
    const LentBell second;
    last_fd = second.fd();
    ASSERT_GE(first.fd(), 0);
    ASSERT_GE(second.fd(), 0);
    EXPECT_NE(first.fd(), second.fd());
    EXPECT_NE(first.number(), second.number());
    EXPECT_TRUE(FdTable::IsPrivate(first.fd()));
  }
  const LentBell again;
  EXPECT_EQ(again.fd(), last_fd) << "the name that is known to peers";
}

TEST(LentBellTest, RingIsHeardOnceByEachSleeper) {
  StartDoorbell();
  const LentBell first;
  const LentBell second;
  const auto rung = [](const LentBell& bell) {
    pollfd entry{bell.fd(), POLLIN, 0};
    return poll(&entry, 1, 0) == 1;
  };
  for (const LentBell* bell : {&first, &second}) bell->Swallow();  // the state at the beginning
  RingOwnDoorbellAnyway();
  EXPECT_TRUE(rung(first));
  first.Swallow();
  EXPECT_FALSE(rung(first));
  EXPECT_TRUE(rung(second));
}

TEST(LentBellTest, ChildHasNoneOfItsParents) {
  StartDoorbell();
  const LentBell parents;
  EXPECT_EQ(InForkedChild([&] {
              if (fcntl(parents.fd() < 0 ? -1 : parents.fd(), F_GETFD) >= 0) return 1;
              StartDoorbell();
              const LentBell own;
              return own.fd() >= 0 ? 0 : 2;
            }),
            0);
}

// A count is taken back where it was made, or it would end below zero, and nobody would ring.
TEST(SleeperCountTest, DoorbellThatIsMadeDuringASleepIsNotCountedDown) {
  StartDoorbell();
  EXPECT_EQ(InForkedChild([] {
              {
                const SleeperCount sleeper(kCommonBell);  // in a child without an agent
                StartDoorbell();                          // started by another thread
              }
              return agent_shared.doorbell.page->sleepers.load() == 0 ? 0 : 1;
            }),
            0);
}

TEST(SleeperCountTest, ChildForkedInASleepLeavesItsParentsCountAlone) {
  StartDoorbell();
  auto* const sleeper = new SleeperCount(kCommonBell);
  const uint32_t before = agent_shared.doorbell.page->sleepers.load();
  EXPECT_EQ(InForkedChild([&] {
              delete sleeper;
              return 0;
            }),
            0);
  EXPECT_EQ(agent_shared.doorbell.page->sleepers.load(), before);
  delete sleeper;
  EXPECT_EQ(agent_shared.doorbell.page->sleepers.load(), before - 1);
}

}  // namespace
}  // namespace xenloop
