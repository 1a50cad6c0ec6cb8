// Sets that a started program may have: on TCP as long as it does, and for good if the set is
// closed meanwhile.
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "channel/base/time.h"
#include "preload/ready/epoll.h"
#include "tests/unit/preload/followed_set.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(EpollInheritedTest, InheritedSetIsNotConvertedUntilNobodyElseHasIt) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
  EpollSetIsInherited(set.set());
  EXPECT_TRUE(IsInInheritedSet(socket.side()));
  EXPECT_FALSE(socket.Attach());
  InheritedSet due;
  uint64_t next = ~0ull;
  ASSERT_EQ(InheritedSetsDue(1, &due, 1, &next), 0u) << "asked for the first time";
  ASSERT_NE(next, ~0ull);
  ASSERT_EQ(InheritedSetsDue(next, &due, 1, &next), 1u);
  EXPECT_EQ(due.set, set.set());
  {
    const ProgramStarts starts;  // which may have it by now
    EXPECT_FALSE(EndInheritance(due, [](Side*) {}));
  }
  EpollSetIsInherited(set.set());
  EXPECT_FALSE(EndInheritance(due, [](Side*) {})) << "one was started while the agent looked";
  ASSERT_EQ(InheritedSetsDue(next + 60 * kNsPerSecond, &due, 1, &next), 1u);
  EXPECT_TRUE(EndInheritance(due, [](Side* side) { side->next_attempt.store(0); }));
  EXPECT_FALSE(IsInInheritedSet(socket.side()));
  EXPECT_EQ(socket.side()->next_attempt.load(), 0u);
  ASSERT_TRUE(socket.Attach());
  EXPECT_EQ(set.Converted(), 1u);
  EpollSetIsInherited(set.set());
  EXPECT_FALSE(EndInheritance(due, [](Side*) {})) << "that was another program";
}

TEST(EpollInheritedTest, WhatWasInAnInheritedSetStaysOnTcpWhenTheSetIsClosed) {
  FollowedSocket socket;
  {
    Set set;
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN), 0);
    EpollSetIsInherited(set.set());
    ASSERT_EQ(socket.side()->pinned.load(), 0u);
  }
  EXPECT_EQ(socket.side()->pinned.load(), 1u);
  EXPECT_EQ(socket.side()->reason.load(), Reason::kEpollInherited);
}

}  // namespace
}  // namespace xenloop
