// What a forked child has of its parent: how many processes hold a side, and which of the parent's
// descriptors, words and pokes are not the child's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "preload/process/process.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(HoldersTest, ForkAddsAHolderAndAReferenceForEachDescriptor) {
  FollowedSocket socket;
  const int copy = dup(socket.fd());
  Duplicated(socket.fd(), copy);
  ASSERT_EQ(socket.side()->references.load(), 2);
  EXPECT_EQ(InForkedChild([&] {
              if (socket.side()->holders.load() != 2) return 1;
              if (socket.side()->references.load() != 4) return 2;
              BeforeClose(copy);
              if (socket.side()->holders.load() != 2) return 3;
              BeforeClose(socket.fd());
              return socket.side()->holders.load() == 1 ? 0 : 4;
            }),
            0);
  EXPECT_EQ(socket.side()->holders.load(), 1);
  EXPECT_EQ(socket.side()->references.load(), 2);
  BeforeClose(copy);
  close(copy);
}

TEST(HoldersTest, ChildThatEndsGivesItsShareBack) {
  FollowedSocket socket;
  EXPECT_EQ(InForkedChild([] {
              BeforeExit();
              return 0;
            }),
            0);
  EXPECT_EQ(socket.side()->holders.load(), 1);
  EXPECT_EQ(socket.side()->references.load(), 1);
}

TEST(HoldersTest, ProgramOutsideTheFamilyKeepsASideFromBeingFreedTwice) {
  FollowedSocket socket;
  Side* const side = socket.side();
  side->holders.store(2);  // we, and a program that came by exec
  side->outside.store(1);
  side->references.store(2);
  EndShare(side);
  EXPECT_EQ(FindSide(socket.fd()), nullptr);
  EXPECT_EQ(side->in_use.load(), 0u) << "nobody who shares the arena has it";
}

TEST(HoldersTest, StandardStreamIsKnownByItsNumber) {
  Side* const side = AllocateSide();
  EXPECT_FALSE(IsStandardStream(side));
  FdTable::SetSide(2, side);
  EXPECT_TRUE(IsStandardStream(side));
  FdTable::Clear(2);
  FreeSide(side);
}

TEST(ForkTest, ChildIsAnotherProcessAndItsThreadAnotherThread) {
  const uint32_t tid = CurrentTid();
  EXPECT_EQ(InForkedChild([&] {
              if (process_state.pid != getpid()) return 1;
              return CurrentTid() != tid && CurrentTid() == static_cast<uint32_t>(gettid()) ? 0 : 2;
            }),
            0);
}

// A lingering duplicate that owes a residue, among others: with a copy of it in the child the
// connection would not end.
TEST(ForkTest, ChildHasNoneOfTheDescriptorsOfItsParentsAgent) {
  StartDoorbell();
  const int lingering = MakePrivate(eventfd(0, EFD_CLOEXEC));
  const int bell = agent_shared.doorbell.fd;
  EXPECT_EQ(InForkedChild([&] {
              if (IsOpen(lingering) || FdTable::IsPrivate(lingering)) return 1;
              if (IsOpen(bell)) return 2;
              return agent_shared.started.load() == 0 ? 0 : 3;
            }),
            0);
  EXPECT_TRUE(IsOpen(lingering));
  ClosePrivate(lingering);
}

TEST(ForkTest, NumberOfOursThatTheProgramHasTakenStaysOpenInTheChild) {
  StartDoorbell();
  const int taken = MakePrivate(eventfd(0, EFD_CLOEXEC));
  FdTable::Clear(taken);
  EXPECT_EQ(InForkedChild([&] { return IsOpen(taken) ? 0 : 1; }), 0);
  close(taken);
}

// A thread of the parent sleeps in a call on a socket that the program has closed: the child has
// neither, and must not keep the connection open.
TEST(ForkTest, ChildDropsSocketsThatLiveOnlyForABlockedCallOfItsParent) {
  FollowedSocket socket;
  const int number = socket.fd();
  socket.side()->blocked_calls.store(1);
  ASSERT_EQ(BeforeClose(number), 0);
  const int orphan = socket.side()->fd.load();
  ASSERT_NE(orphan, number);
  close(number);
  EXPECT_EQ(InForkedChild([&] { return IsOpen(orphan) || FindSide(orphan) != nullptr ? 1 : 0; }),
            0);
  EXPECT_EQ(socket.side()->references.load(), 1);
  socket.side()->blocked_calls.store(0);
  BeforeClose(orphan);
  close(orphan);
}

// Nobody could take it back: the child has no agent that could be told.
TEST(ForkTest, WhatTheParentsAgentWasToldIsNotTheChilds) {
  StartDoorbell();
  for (const Switch told : {Switch::kToldOff, Switch::kLeft}) {
    agent_shared.refused_for_now.store(told);
    EXPECT_EQ(
        InForkedChild([] { return agent_shared.refused_for_now.load() == Switch::kOn ? 0 : 1; }),
        0);
  }
  agent_shared.refused_for_now.store(Switch::kOn);
}

// A side that the grandparent's agent looks after, used by its grandchild, whose parent has an
// agent as well.
TEST(ForkTest, PokeReachesTheAgentOfAGrandparent) {
  StartDoorbell();
  const int32_t grandparent = getpid();
  uint64_t count;
  while (read(agent_shared.poke_fd.load(), &count, sizeof count) > 0) {
  }
  EXPECT_EQ(InForkedChild([&] {
              StartDoorbell();
              const int32_t parent = getpid();
              const int own = agent_shared.poke_fd.load();
              const int result = InForkedChild([&] {
                StartDoorbell();
                Poke(grandparent);
                return 0;
              });
              pollfd rung{own, POLLIN, 0};
              if (poll(&rung, 1, 0) != 0) return 1;  // not this one
              if (result != 0) return 2;
              return InForkedChild([&] {
                       Poke(parent);
                       return 0;
                     }) == 0 &&
                             poll(&rung, 1, 0) == 1
                         ? 0
                         : 3;
            }),
            0);
  EXPECT_EQ(read(agent_shared.poke_fd.load(), &count, sizeof count), 8);
}

}  // namespace
}  // namespace xenloop
