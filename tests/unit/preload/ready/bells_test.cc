// By which bell a connection wakes those who wait for it: what its FIFOs say.
#include "preload/side/bells.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"
#include "tests/unit/preload/followed_set.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

uint32_t BellNamed(const FollowedSocket& socket) {
  const uint32_t bell = socket.side()->receive.fifo.header->consumer_bell.load();
  EXPECT_EQ(socket.side()->send.fifo.header->producer_bell.load(), bell);
  return bell;
}

TEST(BellsTest, ConnectionNamesTheBellOfItsOneSet) {
  FollowedSocket socket;
  Set set, other;
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(BellNamed(socket), kCommonBell);
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  const uint32_t bell = set.set()->bell.load();
  EXPECT_GT(bell, kCommonBell);
  EXPECT_EQ(BellNamed(socket), bell);
  EXPECT_TRUE(SetHolds(set.fd(), OwnBellFd(bell)));
  ASSERT_EQ(other.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  EXPECT_NE(other.set()->bell.load(), bell);
  EXPECT_EQ(BellNamed(socket), kAnyBell) << "whoever sleeps in either is to be woken";
  ASSERT_EQ(set.Control(EPOLL_CTL_DEL, socket.fd(), 0), 0);
  EXPECT_EQ(BellNamed(socket), other.set()->bell.load());
  ASSERT_EQ(other.Control(EPOLL_CTL_DEL, socket.fd(), 0), 0);
  other.Wait(0);  // settles what is taken out
  EXPECT_EQ(BellNamed(socket), kCommonBell);
}

TEST(BellsTest, ConnectionThatIsRegisteredFirstNamesTheBellWhenItIsAttached) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(socket.Attach());
  EXPECT_GT(BellNamed(socket), kCommonBell);
  EXPECT_EQ(BellNamed(socket), set.set()->bell.load());
}

TEST(BellsTest, WatchedSetHasNoBellAndItsConnectionsNameNone) {
  FollowedSocket socket;
  Set set;
  ASSERT_TRUE(socket.Attach());
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  const int bell = OwnBellFd(set.set()->bell.load());
  ASSERT_TRUE(SetHolds(set.fd(), bell));
  EpollSetIsWatched(set.set());
  EXPECT_EQ(BellNamed(socket), kAnyBell);
  EXPECT_FALSE(SetHolds(set.fd(), bell));
  EXPECT_FALSE(SetHolds(set.fd(), OwnDoorbellFd()));
  socket.PeerSends("x");
  EXPECT_EQ(set.Wait(0).data.u64, 7u);
}

TEST(BellsTest, PollHasItsBellRungAsWell) {
  for (const bool own : {false, true}) {
    FollowedSocket socket;
    Set set;
    ASSERT_TRUE(socket.Attach());
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
    const uint32_t bell = own ? LendOwnBell(BellFor::kSleeper) : kCommonBell;
    BellForPoll(socket.side(), bell, CurrentSelf());
    EXPECT_EQ(BellNamed(socket), TwoBells(set.set()->bell.load(), bell));
    ASSERT_EQ(set.Control(EPOLL_CTL_DEL, socket.fd(), 0), 0);
    set.Wait(0);  // settles what is taken out
    EXPECT_EQ(BellNamed(socket), bell);
    socket.Detach();
    ASSERT_TRUE(socket.Attach());
    EXPECT_EQ(BellNamed(socket), bell) << "of the new FIFOs";
    if (own) GiveBackOwnBell(bell);
  }
}

TEST(BellsTest, BellOfWhoSleepsInPollIsNotTakenFromHim) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const uint32_t his = LendOwnBell(BellFor::kSleeper);
  const uint32_t mine = LendOwnBell(BellFor::kSleeper);
  ASSERT_NE(his, mine);
  const Self self = CurrentSelf();
  BellForPoll(socket.side(), his, self);
  BellForPoll(socket.side(), mine, self);
  EXPECT_EQ(BellNamed(socket), mine) << "nobody sleeps by the other one";
  {
    const SleeperCount sleeper(kCommonBell, mine);
    BellForPoll(socket.side(), his, self);
    EXPECT_EQ(BellNamed(socket), kCommonBell);
  }
  BellForPoll(socket.side(), his, self);
  EXPECT_EQ(BellNamed(socket), kCommonBell) << "it does not know who else may sleep for it";
  GiveBackOwnBell(his);
  GiveBackOwnBell(mine);
}

TEST(BellsTest, ConnectionThatThreadsWaitForInTurnNamesTheCommonBellInTheEnd) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const uint32_t bells[] = {LendOwnBell(BellFor::kSleeper), LendOwnBell(BellFor::kSleeper)};
  for (int turn = 0; turn < 20; ++turn) BellForPoll(socket.side(), bells[turn % 2], CurrentSelf());
  EXPECT_EQ(BellNamed(socket), kCommonBell);
  for (const uint32_t bell : bells) GiveBackOwnBell(bell);
}

TEST(BellsTest, BellOfAClosedSetServesTheNext) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  uint32_t bell = kAnyBell;
  for (int i = 0; i < 3; ++i) {
    Set set;
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
    if (i > 0) {
      EXPECT_EQ(set.set()->bell.load(), bell);
    }
    bell = set.set()->bell.load();
    EXPECT_EQ(BellNamed(socket), bell);
  }
}

// As where so many sets are there already that have one.
TEST(BellsTest, SetForWhichThereIsNoBellHasTheDoorbell) {
  FollowedSocket socket;
  Set set;
  ASSERT_TRUE(socket.Attach());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{32, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  EXPECT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(set.set()->bell.load(), kAnyBell);
  EXPECT_EQ(BellNamed(socket), kAnyBell);
  EXPECT_TRUE(SetHolds(set.fd(), OwnDoorbellFd()));
  socket.PeerSends("x");
  EXPECT_EQ(set.Wait(0).data.u64, 7u);
}

}  // namespace
}  // namespace xenloop
