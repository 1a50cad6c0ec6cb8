// Registrations in epoll sets: how they are converted and given back, one-shots, repair after a
// call that was left half done, and what of it is true in the child of a fork.
#include "preload/ready/epoll.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

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

TEST(EpollTest, RegistrationIsConvertedWithItsSocketAndGivenBack) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  EXPECT_EQ(set.Converted(), 0u);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(set.Converted(), 1u);
  EXPECT_TRUE(SetHolds(set.fd(), OwnDoorbellFd()));
  EXPECT_EQ(set.Wait(0).events, 0u);
  socket.PeerSends("x");
  EXPECT_EQ(set.Wait(0).data.u64, 7u);
  socket.Detach();
  EXPECT_EQ(set.Converted(), 0u);
  socket.PeerSendsByTcp("y");
  EXPECT_EQ(set.Wait(5000).data.u64, 7u);
}

TEST(EpollTest, RegistrationOfASocketThatIsOnFifosIsConvertedAtOnce) {
  FollowedSocket socket;
  Set set;
  ASSERT_TRUE(socket.Attach());
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  EXPECT_EQ(set.Converted(), 1u);
  EXPECT_TRUE(SetHolds(set.fd(), OwnDoorbellFd()));
  EXPECT_TRUE(socket.OnFifos());
}

TEST(EpollTest, OneShotFiresOnceUntilItIsArmedAgain) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLONESHOT), 0);
  ASSERT_TRUE(socket.Attach());
  socket.PeerSends("x");
  EXPECT_EQ(set.Wait(0).data.u64, 7u);
  EXPECT_EQ(set.Wait(0).data.u64, 0u);
  ASSERT_EQ(set.Control(EPOLL_CTL_MOD, socket.fd(), EPOLLIN | EPOLLONESHOT, 8), 0);
  EXPECT_EQ(set.Wait(0).data.u64, 8u);
}

TEST(EpollTest, OneShotThatHasFiredOnTcpStaysSilentWhenItIsConverted) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLONESHOT), 0);
  socket.PeerSendsByTcp("x");
  EXPECT_EQ(set.Wait(5000).data.u64, 7u);
  char byte;
  ASSERT_EQ(read(socket.fd(), &byte, 1), 1);
  ASSERT_TRUE(socket.Attach());
  socket.PeerSends("y");
  EXPECT_EQ(set.Wait(0).data.u64, 0u);
  ASSERT_EQ(set.Control(EPOLL_CTL_MOD, socket.fd(), EPOLLIN | EPOLLONESHOT), 0);
  EXPECT_EQ(set.Wait(0).data.u64, 7u);
}

TEST(EpollTest, ExclusiveRegistrationKeepsItsSocketOnTcp) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLEXCLUSIVE), 0);
  EXPECT_FALSE(socket.Attach());
  EXPECT_EQ(set.Converted(), 0u);
}

TEST(EpollTest, SocketThatGoesToFifosTwiceIsReportedTwice) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLET), 0);
  for (const char* text : {"x", "y"}) {
    ASSERT_TRUE(socket.Attach());
    socket.PeerSends(text);
    EXPECT_EQ(set.Wait(0).data.u64, 7u);
    EXPECT_EQ(set.Wait(0).data.u64, 0u) << "an edge is told once";
    socket.Detach();
  }
}

// One of which nothing was to be told is left alone until its FIFO's word changes. Whatever else
// makes it worth a look must say so.
TEST(EpollTest, QuietOneIsLookedAtWhenMoreIsWantedOfIt) {
  FollowedSocket socket;
  Set set;
  ASSERT_TRUE(socket.Attach());
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  for (int look = 0; look < 2; ++look) EXPECT_EQ(set.Wait(0).events, 0u);
  EXPECT_NE(RegistrationAt(set.set()->first_converted - 1)->quiet_word, nullptr);
  ASSERT_EQ(set.Control(EPOLL_CTL_MOD, socket.fd(), EPOLLIN | EPOLLOUT), 0);
  EXPECT_EQ(set.Wait(0).events, static_cast<uint32_t>(EPOLLOUT));
  ASSERT_EQ(set.Control(EPOLL_CTL_MOD, socket.fd(), EPOLLIN), 0);
  EXPECT_EQ(set.Wait(0).events, 0u);
  socket.PeerSends("x");
  EXPECT_EQ(set.Wait(0).events, static_cast<uint32_t>(EPOLLIN));
  EXPECT_EQ(set.Wait(0).events, static_cast<uint32_t>(EPOLLIN));  // until it is read
}

TEST(EpollTest, QuietOneIsForgottenWithItsFifo) {
  for (const uint32_t kind : {0u, static_cast<uint32_t>(EPOLLET)}) {
    FollowedSocket socket;
    Set set;
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | kind), 0);
    for (int life = 0; life < 2; ++life) {
      ASSERT_TRUE(socket.Attach());
      EXPECT_EQ(set.Wait(0).events, 0u);
      EXPECT_NE(RegistrationAt(set.set()->first_converted - 1)->quiet_word, nullptr);
      socket.Detach();
      EXPECT_EQ(set.Wait(0).events, 0u);  // not of memory that is gone
    }
    ASSERT_TRUE(socket.Attach());
    socket.PeerSends("x");
    EXPECT_EQ(set.Wait(0).events, static_cast<uint32_t>(EPOLLIN));
  }
}

TEST(EpollTest, ClosedSetLeavesNoRegistration) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  {
    Set set;
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
    EXPECT_NE(Of(socket.side()).first, 0u);
  }
  EXPECT_EQ(Of(socket.side()).first, 0u);
}

TEST(EpollTest, RepairMakesAHalfDoneRegistrationPlainAndKeepsTheOthers) {
  FollowedSocket first;
  FollowedSocket second;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, first.fd(), EPOLLIN, 1), 0);
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, second.fd(), EPOLLIN, 2), 0);
  ASSERT_TRUE(first.Attach());
  ASSERT_TRUE(second.Attach());
  in_doubt = IndexOfRegistration(Find(set.set(), first.fd(), first.side())) + 1;
  RepairRegistrations();
  EXPECT_EQ(set.Converted(), 1u);
  EXPECT_FALSE(first.OnFifos()) << "nobody would look at its FIFO";
  EXPECT_TRUE(second.OnFifos());
  second.PeerSends("x");
  EXPECT_EQ(set.Wait(0).data.u64, 2u);
}

// ---- the child of a fork ----

// The parent has upgraded the socket and hands it over; the child registers it in a set of its own
// while the parent still has it, then attaches it itself.
TEST(EpollForkTest, SetOfTheChildGetsTheChildsDoorbell) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(InForkedChild([&] {
              Set set;
              if (set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN) != 0) return 1;
              if (socket.OnFifos()) return 2;  // they ring the parent's doorbell
              if (set.Converted() != 0) return 3;
              socket.Detach();
              if (!socket.Attach()) return 4;
              if (set.Converted() != 1) return 5;
              if (!SetHolds(set.fd(), OwnDoorbellFd())) return 6;
              const uint64_t told = WokenByPeer(set, socket);
              socket.Detach();
              return told == 7 ? 0 : 7;
            }),
            0);
}

TEST(EpollForkTest, SetOfTheParentKeepsTheSocketOnTcpInTheChild) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(InForkedChild([&] {
              socket.Detach();
              // The kernel's set is the parent's too, and rings for it.
              return socket.Attach() ? 1 : 0;
            }),
            0);
}

TEST(EpollForkTest, WaitInTheParentsSetSendsItsSocketsToTcp) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(InForkedChild([&] {
              if (set.Wait(0).events != 0) return 1;
              return socket.OnFifos() ? 2 : 0;
            }),
            0);
}

TEST(EpollForkTest, ChangeInTheParentsSetSendsTheSocketToTcp) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(InForkedChild([&] {
              if (set.Control(EPOLL_CTL_MOD, socket.fd(), EPOLLIN, 9) != 0) return 1;
              if (socket.OnFifos()) return 2;
              socket.PeerSendsByTcp("x");
              return set.Wait(5000).data.u64 == 9 ? 0 : 3;
            }),
            0);
}

TEST(EpollForkTest, LocksOfOtherThreadsAreFree) {
  Set set;
  constexpr uint32_t kAnotherThread = 0x3fffffff;
  ASSERT_EQ(registrations_lock.Acquire(kAnotherThread), LockResult::kAcquired);
  ASSERT_EQ(set.set()->lock.Acquire(kAnotherThread), LockResult::kAcquired);
  EXPECT_EQ(
      InForkedChild([&] { return registrations_lock.Held() || set.set()->lock.Held() ? 1 : 0; }),
      0);
  set.set()->lock.Release();
  registrations_lock.Release();
}

TEST(EpollForkTest, SocketsMadeInTheChildAreItsOwn) {
  StartDoorbell();
  EXPECT_EQ(InForkedChild([] {
              FollowedSocket socket;
              Set set;
              if (set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN) != 0) return 1;
              if (!socket.Attach() || set.Converted() != 1) return 2;
              socket.PeerSends("x");
              return set.Wait(0).data.u64 == 7 ? 0 : 3;
            }),
            0);
}

// However many sets of others somebody has waited in, of owners that have ended since: the next
// one's are not taken for shared.
TEST(EpollTest, OwnersThatHaveEndedLeaveNothingBehind) {
  constexpr int kOwners = 40, kSets = 32;
  FollowedSocket socket;
  for (int i = 0; i < kOwners; ++i) {
    const int failed = InForkedChild([&] {  // an owner, whose child waits in all of its sets
      Set sets[kSets];
      EpollBeforeFork();
      for (const Set& set : sets) {
        if (IsShared(set.set())) return 1;
      }
      InForkedChild([&] {
        for (const Set& set : sets) NoteShared(set.set());
        return 0;
      });
      for (const Set& set : sets) {
        if (!IsShared(set.set())) return 2;
      }
      _exit(0);
    });
    ASSERT_EQ(failed, 0) << i;
  }
}

}  // namespace
}  // namespace xenloop
