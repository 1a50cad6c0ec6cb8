// Threads that sleep in an epoll set: how they are counted and woken, and that a set that is closed
// leaves none of them to the next one in its place.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "preload/ready/epoll.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/ready/readiness.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_set.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

// A handler may have left it by ways that nobody sees (D-11): with that count the next set in its
// place would ring for a sleeper whom it has not, for ever.
TEST(EpollSleepersTest, CountsOfAClosedSetAreNotThoseOfTheNextInItsPlace) {
  const EpollSet* place = nullptr;
  {
    Set left;
    place = left.set();
    EXPECT_TRUE(left.set()->sleepers.Add(left.set()->serial, /*unaware=*/true));
  }
  Set next;
  ASSERT_EQ(next.set(), place);
  EXPECT_FALSE(next.set()->sleepers.AnyUnaware());
  EXPECT_FALSE(next.set()->sleepers.Any());
}

TEST(EpollSleepersTest, WhoSleepsInASetThatIsClosedIsNotTakenFromTheCountOfTheNext) {
  auto closed = std::make_unique<Set>();
  EpollSet* const place = closed->set();
  const int epfd = closed->fd();
  std::thread sleeper([place, epfd] {
    epoll_event event{};
    const timespec timeout{0, 200000000};
    EpollWait(epfd, place, &event, 1, &timeout, nullptr, EpollCall::kPwait2);
  });
  while (!place->sleepers.Any()) std::this_thread::yield();
  closed.reset();
  const Set next;
  ASSERT_EQ(next.set(), place);
  sleeper.join();
  EXPECT_FALSE(next.set()->sleepers.AnyUnaware());
  EXPECT_FALSE(next.set()->sleepers.Any());
}

// Closed just before it is counted, or just before it comes out.
TEST(EpollSleepersTest, ASleeperIsCountedInItsOwnSetOnly) {
  SetSleepers sleepers;
  sleepers.Begin(1);
  EXPECT_TRUE(sleepers.Add(1, /*unaware=*/true));
  EXPECT_TRUE(sleepers.Add(1, /*unaware=*/false));
  EXPECT_TRUE(sleepers.AnyUnaware());
  sleepers.Remove(1, true);
  EXPECT_FALSE(sleepers.AnyUnaware());
  EXPECT_TRUE(sleepers.Any());
  sleepers.Begin(2);
  EXPECT_FALSE(sleepers.Any());
  EXPECT_FALSE(sleepers.Add(1, true));
  EXPECT_FALSE(sleepers.Any());
  EXPECT_TRUE(sleepers.Add(2, true));
  sleepers.Remove(1, false);
  EXPECT_TRUE(sleepers.Any());
  EXPECT_TRUE(sleepers.AnyUnaware());
  sleepers.Remove(2, true);
  EXPECT_FALSE(sleepers.Any());
  EXPECT_FALSE(sleepers.AnyUnaware());
}

TEST(EpollSleepersTest, WhoSleepsInAClosedSetIsNotToldOfTheNextOfItsPlace) {
  FollowedSocket old_socket;
  FollowedSocket socket;
  auto closed = std::make_unique<Set>();
  EpollSet* const place = closed->set();
  const int epfd = closed->fd();
  ASSERT_EQ(closed->Control(EPOLL_CTL_ADD, old_socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(old_socket.Attach());
  int result = -1;
  std::atomic<int> tid{0};
  std::thread sleeper([&] {
    tid = gettid();
    epoll_event event{};
    const timespec timeout{0, 300000000};
    result = EpollWait(epfd, place, &event, 1, &timeout, nullptr, EpollCall::kPwait2);
  });
  while (!place->sleepers.Any()) std::this_thread::yield();
  AwaitSleeper(tid);
  closed.reset();
  Set next;
  ASSERT_EQ(next.set(), place);
  ASSERT_EQ(next.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN, 9), 0);
  ASSERT_TRUE(socket.Attach());
  socket.PeerSends("x");
  RingOwnDoorbellAnyway();
  sleeper.join();
  EXPECT_EQ(result, 0);
  EXPECT_EQ(next.Wait(0).data.u64, 9u);
}

TEST(EpollSleepersTest, SleeperIsWokenByTheDoorbell) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(WokenByPeer(set, socket), 7u);
}

// The kernel wakes one sleeper an edge: who comes out tells the next, or he would not be rung for.
TEST(EpollSleepersTest, AllWhoSleptInASetBeforeItsConversionLearnOfIt) {
  constexpr int kThreads = 8;
  StartDoorbell();
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  std::vector<std::thread> sleepers;
  std::atomic<int> tids[kThreads] = {};
  std::atomic<int> told{0};
  for (std::atomic<int>& tid : tids) {
    sleepers.emplace_back([&] {
      tid = gettid();
      told += set.Wait(-1).data.u64 == 7 ? 1 : 0;
    });
  }
  for (const std::atomic<int>& tid : tids) {
    while (tid == 0) std::this_thread::yield();
    AwaitSleep(tid);
  }
  ASSERT_TRUE(socket.Attach());
  uint64_t end = InMs(10000);
  while (agent_shared.doorbell.page->sleepers.load() != kThreads && sys::MonotonicNs() < end)
    std::this_thread::yield();
  EXPECT_EQ(agent_shared.doorbell.page->sleepers.load(), uint32_t{kThreads});
  socket.PeerSends("x");  // level-triggered and not read: for everybody
  for (end = InMs(10000); told != kThreads && sys::MonotonicNs() < end;) std::this_thread::yield();
  EXPECT_EQ(told, kThreads);
  socket.PeerSendsByTcp("y");  // which the kernel tells to all
  for (std::thread& sleeper : sleepers) sleeper.join();
}

TEST(EpollSleepersTest, WhoWaitsInAClosedSetSharesNotTheNextOfItsPlace) {
  auto first = std::make_unique<Set>();
  EpollBeforeFork();
  EpollSet* const place = first->set();
  const uint32_t serial = place->serial;
  first.reset();
  Set second;
  ASSERT_EQ(second.set(), place);
  EpollBeforeFork();
  NoteShared(place);
  ASSERT_TRUE(IsShared(place));
  InForkedChild([&] {  // one that has been there since before the first was closed
    place->serial = serial;
    NoteShared(place);
    return 0;
  });
  EXPECT_TRUE(IsShared(place));
}

}  // namespace
}  // namespace xenloop
