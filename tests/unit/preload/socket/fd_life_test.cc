// The last close of a side: when there is more than one number to close, what epoll sets tell of it
// behind that, and when it was not seen.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "preload/process/process.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/side/unseen_holders.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_set.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(FdLifeTest, TwoThreadsThatCloseBothNumbersAtOnceFreeTheSide) {
  constexpr int kRounds = 400;
  std::atomic<int> round{0};
  std::atomic<int> done{0};
  std::atomic<int> copy{-1};
  std::thread other([&] {
    for (int mine = 1; mine <= kRounds; ++mine) {
      while (round.load() < mine) {
      }
      BeforeClose(copy.load());
      done.store(mine);
    }
  });
  int left = 0;
  for (int i = 1; i <= kRounds; ++i) {
    FollowedSocket socket;
    Side* const side = socket.side();
    const int number = dup(socket.fd());
    Duplicated(socket.fd(), number);
    copy.store(number);
    round.store(i);
    // From before the other's close to behind it.
    for (volatile int pause = (i % 64) * 8; pause > 0;) pause = pause - 1;
    BeforeClose(socket.fd());
    while (done.load() < i) std::this_thread::yield();
    if (side->in_use.load() != 0) ++left;
    close(number);
    close(socket.fd());
  }
  other.join();
  EXPECT_EQ(left, 0);
}

// The agent looks under the lock whether the number means the side, and then writes there: it must
// not mean another file of the program's by then.
TEST(FdLifeTest, NumberIsNotGivenBackWhileItIsUsedUnderALock) {
  FollowedSocket socket;
  Side* const side = socket.side();
  const int number = dup(socket.fd());
  Duplicated(socket.fd(), number);
  std::atomic<bool> looked{false};
  std::atomic<bool> closed{false};
  std::thread agent([&] {
    const LockScope scope(side->send.lock, CurrentTid());
    ASSERT_EQ(FindSide(number), side);
    looked = true;
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    EXPECT_FALSE(closed);
  });
  while (!looked) std::this_thread::yield();
  BeforeClose(number);
  closed = true;
  agent.join();
  close(number);
}

// A child has left our sight with the socket (unseen_holders.h), and ends after our close.
// `holders`: we, it, and perhaps others.
void CloseBeforeAnUnseenChildEnds(const FollowedSocket& socket, int holders) {
  Side* const side = socket.side();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    close(ends[1]);
    _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
  }
  side->unseen_parent.store(process_state.pid);
  side->unseen_references.store(1);
  side->unseen_pid.store(child);
  side->references.store(holders);
  side->holders.store(holders);
  BeforeClose(socket.fd());
  close(socket.fd());
  UpdateLeftToUnseen();
  EXPECT_EQ(side->in_use.load(), 1u);  // it is there
  close(ends[1]);
  close(ends[0]);
  EXPECT_EQ(WaitForExit(child), 0);
}

TEST(FdLifeTest, WhatAnUnseenChildHadAloneIsFreedBeforeAFork) {
  FollowedSocket socket;
  Side* const side = socket.side();
  CloseBeforeAnUnseenChildEnds(socket, 2);
  EXPECT_EQ(InForkedChild([] { return 0; }), 0);
  EXPECT_EQ(side->in_use.load(), 0u);
}

// Another child has it as well: what the agent knows of the options is not true any longer.
TEST(FdLifeTest, WhatAnUnseenChildMayHaveChangedIsAskedAgain) {
  FollowedSocket socket;
  Side* const side = socket.side();
  side->options_asked.store(1);
  CloseBeforeAnUnseenChildEnds(socket, 3);
  EXPECT_EQ(InForkedChild([] { return 0; }), 0);
  EXPECT_EQ(side->holders.load(), 1);
  EXPECT_EQ(side->options_asked.load(), 0u);
  side->references.store(0);
  FreeSide(side);
}

// As a server does that forks for each connection, and closes it: with children that end by
// themselves, or are killed while they are inside a call, and never close.
void ForkForAConnection(const FollowedSocket& socket, bool is_killed) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (!is_killed) _exit(0);
    socket.side()->receive.kernel_users.count.fetch_add(1);
    if (write(ends[1], "x", 1) == 1) pause();
    _exit(1);
  }
  BeforeClose(socket.fd());
  close(socket.fd());
  char byte;
  if (is_killed) {
    ASSERT_EQ(read(ends[0], &byte, 1), 1);
    kill(child, SIGKILL);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  close(ends[0]);
  close(ends[1]);
}

int SlotsInUse() {
  int count = 0;
  for (const auto& word : Arena()->used.words) count += __builtin_popcountll(word.load());
  return count;
}

TEST(FdLifeTest, WhatChildrenHadAloneWhenTheyEndedIsFreedAndUsedAgain) {
  for (const bool is_killed : {false, true}) {
    EXPECT_EQ(InForkedChild([is_killed] {
                const int before = SlotsInUse();
                uint32_t highest = 0;
                for (int i = 0; i < 200; ++i) {
                  FollowedSocket socket;
                  highest = std::max(highest, SlotOf(socket.side()));
                  ForkForAConnection(socket, is_killed);
                }
                return SlotsInUse() - before > 100 ? 1 : highest > 150 ? 2 : 0;
              }),
              0)
        << (is_killed ? "killed" : "ended");
  }
}

// It is still there, or somebody else has it as well.
TEST(FdLifeTest, WhatAChildStillHasIsNotFreed) {
  FollowedSocket socket;
  Side* const side = socket.side();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[1]);
    char byte;
    const bool told = read(ends[0], &byte, 1) == 1;
    _exit(told && FindSide(socket.fd()) == side && side->holders.load() == 1 ? 0 : 1);
  }
  const uint32_t generation = side->generation.load();
  BeforeClose(socket.fd());
  close(socket.fd());
  for (int i = 0; i < 100; ++i) {
    FollowedSocket other;
    EXPECT_NE(other.side(), side);
    ForkForAConnection(other, false);
  }
  EXPECT_EQ(side->in_use.load(), 1u);
  EXPECT_EQ(side->generation.load(), generation);
  EXPECT_EQ(write(ends[1], "x", 1), 1);
  EXPECT_EQ(WaitForExit(child), 0);
  close(ends[0]);
  close(ends[1]);
}

// Nobody else has it, also in a process that has forked: the kernel drops the registration with the
// socket, and until then it must not be made anew, which would tell an edge that is known.
TEST(FdLifeTest, LastCloseTellsNothingAnewInAProcessThatHasForked) {
  for (const uint32_t how : {uint32_t{EPOLLET}, uint32_t{EPOLLONESHOT}}) {
    FollowedSocket socket;
    Set set;
    ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLOUT | how), 0);
    ASSERT_TRUE(socket.Attach());
    EXPECT_EQ(set.Wait(0).events, uint32_t{EPOLLOUT});
    while (set.Wait(0).events != 0) {  // room may be told once more (D-4)
    }
    ASSERT_EQ(InForkedChild([] {
                BeforeExit();
                return 0;
              }),
              0);
    ASSERT_TRUE(process_state.forks);
    BeforeClose(socket.fd());
    epoll_event told{};
    EXPECT_EQ(epoll_wait(set.fd(), &told, 1, 0), 0) << how;
    close(socket.fd());
  }
}

// Of a program that was started it is known that it may have it, and it is counted by nobody.
TEST(FdLifeTest, LastCloseOfWhatAStartedProgramMayHaveGivesRegistrationsBack) {
  FollowedSocket socket;
  Set set;
  ASSERT_EQ(set.Control(EPOLL_CTL_ADD, socket.fd(), EPOLLIN | EPOLLET), 0);
  ASSERT_TRUE(socket.Attach());
  const int programs = dup(socket.fd());
  socket.side()->kept.store(1);
  BeforeClose(socket.fd());
  close(socket.fd());
  socket.PeerSendsByTcp("x");
  EXPECT_EQ(set.Wait(5000).data.u64, 7u);
  close(programs);
}

// A file has the number: nothing of the connection may touch it.
TEST(FdLifeTest, NumberThatWasClosedUnseenMeansNothing) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  Side* const side = socket.side();
  NumberIsNew(socket.fd());
  EXPECT_EQ(FindSide(socket.fd()), nullptr);
  EXPECT_EQ(side->send.route.load(), SendRoute::kTcp);
  EXPECT_EQ(side->references.load(), 0);
  side->attached.store(0);  // as the agent does
  FreeSide(side);
}

TEST(FdLifeTest, OtherNumberOfWhatWasClosedUnseenIsLeft) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const int other = dup(socket.fd());
  Duplicated(socket.fd(), other);
  NumberIsNew(socket.fd());
  EXPECT_EQ(FindSide(socket.fd()), nullptr);
  EXPECT_EQ(FindSide(other), socket.side());
  EXPECT_EQ(socket.side()->fd.load(), other);
  EXPECT_EQ(socket.side()->references.load(), 1);
  EXPECT_TRUE(socket.OnFifos());
  NumberIsNew(other);
  socket.side()->attached.store(0);
  FreeSide(socket.side());
  close(other);
}

enum class SealedBefore { kNothing, kOurs, kTheirs };

// What the last close finds, and whether it wakes the agent.
struct LastClose {
  explicit LastClose(SealedBefore sealed) {
    FollowedSocket socket;
    EXPECT_TRUE(socket.Attach());
    Side* const side = socket.side();
    if (sealed == SealedBefore::kOurs) side->send.fifo.Seal();
    if (sealed == SealedBefore::kTheirs) side->receive.fifo.Seal();
    side->owner_pid.store(process_state.pid);
    const int poke = eventfd(0, EFD_NONBLOCK);
    const int before = agent_shared.poke_fd.exchange(poke);
    BeforeClose(socket.fd());
    uint64_t pokes = 0;
    woken = read(poke, &pokes, sizeof pokes) == sizeof pokes;
    asked = Arena()->service.Contains(SlotOf(side));
    Arena()->service.Remove(SlotOf(side));
    agent_shared.poke_fd.store(before);
    close(poke);
    side->references.store(1);  // for the agent's part, which the fixture does
    FdTable::SetSide(socket.fd(), side);
  }
  bool asked;
  bool woken;
};

TEST(FdLifeTest, TheFirstToCloseLeavesItToThePeersAgentToWakeOurs) {
  const LastClose first(SealedBefore::kNothing);
  EXPECT_TRUE(first.asked);
  EXPECT_FALSE(first.woken);
}

// Two who close at once may each be the first on one FIFO: nobody would be woken.
TEST(FdLifeTest, WhoFindsEitherFifoEndedWakesTheAgent) {
  for (const SealedBefore sealed : {SealedBefore::kOurs, SealedBefore::kTheirs}) {
    const LastClose second(sealed);
    EXPECT_TRUE(second.asked);
    EXPECT_TRUE(second.woken);
  }
}

}  // namespace
}  // namespace xenloop
