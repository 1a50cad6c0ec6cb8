// The agent's one list of timers: what is due when, how long the agent may sleep, and that it
// sleeps for ever while there is nothing to wait for.
#include "preload/agent/timers.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "preload/agent/agent_tasks.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

enum class Name : uint32_t { kFirst, kSecond, kThird, kCount };

class TimerListTest : public ::testing::Test {
 protected:
  using Ran = std::vector<std::pair<Name, uint64_t>>;

  // What ran, with the pause that was over; each pauses for `next` then.
  Ran RunAt(uint64_t now_ns, uint64_t next = kNotAgain) {
    Ran ran;
    timers_.Run(now_ns, [&](Name name, uint64_t now, uint64_t pause_ns) {
      EXPECT_EQ(now, now_ns);
      ran.emplace_back(name, pause_ns);
      return next;
    });
    return ran;
  }

  static constexpr uint64_t kNow = 1000 * kNsPerSecond;
  TimerList<Name> timers_;
};

TEST_F(TimerListTest, NothingIsDueAndNobodyWakesWhileNoneIsSet) {
  EXPECT_EQ(timers_.WaitMs(kNow), -1);
  EXPECT_THAT(RunAt(~0ull - 1), IsEmpty());
}

TEST_F(TimerListTest, RunsWhatIsDueOnceInTheOrderOfTheNames) {
  timers_.StartWithin(Name::kThird, kNow, 5 * kNsPerMs);
  timers_.StartWithin(Name::kFirst, kNow, 7 * kNsPerMs);
  EXPECT_THAT(RunAt(kNow + 5 * kNsPerMs - 1), IsEmpty());
  EXPECT_THAT(RunAt(kNow + 8 * kNsPerMs),
              ElementsAre(Pair(Name::kFirst, 7 * kNsPerMs), Pair(Name::kThird, 5 * kNsPerMs)));
  EXPECT_THAT(RunAt(kNow + kNsPerSecond), IsEmpty());
  EXPECT_EQ(timers_.WaitMs(kNow + kNsPerSecond), -1);
}

TEST_F(TimerListTest, WaitsForTheEarliestAndNotShorter) {
  timers_.StartWithin(Name::kFirst, kNow, 2 * kNsPerSecond);
  timers_.StartWithin(Name::kSecond, kNow, 3 * kNsPerMs + 1);
  EXPECT_EQ(timers_.WaitMs(kNow), 4);
  EXPECT_EQ(timers_.WaitMs(kNow + 1), 3);
  EXPECT_EQ(timers_.WaitMs(kNow + 4 * kNsPerMs), 0);
  RunAt(kNow + 4 * kNsPerMs);
  EXPECT_EQ(timers_.WaitMs(kNow + kNsPerSecond), 1000);
}

TEST_F(TimerListTest, StartingAgainMakesItEarlierAndNeverLater) {
  timers_.StartWithin(Name::kFirst, kNow, kNsPerSecond);
  timers_.StartWithin(Name::kFirst, kNow, 2 * kNsPerSecond);
  EXPECT_EQ(timers_.WaitMs(kNow), 1000);
  timers_.StartWithin(Name::kFirst, kNow, kNsPerMs);
  EXPECT_THAT(RunAt(kNow + kNsPerMs), ElementsAre(Pair(Name::kFirst, kNsPerMs)));
}

TEST_F(TimerListTest, NextPauseIsWhatTheWorkSays) {
  timers_.StartWithin(Name::kSecond, kNow, kNsPerMs);
  const uint64_t then = kNow + kNsPerMs;
  EXPECT_THAT(RunAt(then, 20 * kNsPerMs), ElementsAre(Pair(Name::kSecond, kNsPerMs)));
  EXPECT_EQ(timers_.WaitMs(then), 20);
  EXPECT_THAT(RunAt(then + 20 * kNsPerMs), ElementsAre(Pair(Name::kSecond, 20 * kNsPerMs)));
}

TEST_F(TimerListTest, WhatIsDueAgainAtOnceWaitsForTheNextRun) {
  timers_.StartWithin(Name::kFirst, kNow, 0);
  EXPECT_THAT(RunAt(kNow, 0), ElementsAre(Pair(Name::kFirst, 0)));
  EXPECT_EQ(timers_.WaitMs(kNow), 0);
  EXPECT_THAT(RunAt(kNow), ElementsAre(Pair(Name::kFirst, 0)));
}

TEST_F(TimerListTest, WorkMayStartItselfAndOthers) {
  timers_.StartWithin(Name::kFirst, kNow, 0);
  timers_.Run(kNow, [this](Name name, uint64_t now, uint64_t) {
    timers_.StartWithin(name, now, 9 * kNsPerMs);
    timers_.StartWithin(Name::kThird, now, 11 * kNsPerMs);
    return kNotAgain;
  });
  EXPECT_EQ(timers_.WaitMs(kNow), 9);
  EXPECT_THAT(RunAt(kNow + kNsPerSecond),
              ElementsAre(Pair(Name::kFirst, 9 * kNsPerMs), Pair(Name::kThird, 11 * kNsPerMs)));
}

TEST_F(TimerListTest, WhatIsStoppedDoesNotRun) {
  timers_.StartWithin(Name::kFirst, kNow, kNsPerMs);
  timers_.Stop(Name::kFirst);
  EXPECT_EQ(timers_.WaitMs(kNow), -1);
  EXPECT_THAT(RunAt(kNow + kNsPerSecond), IsEmpty());
}

TEST_F(TimerListTest, ClockThatStandsStillKeepsNobodyRunning) {
  timers_.StartWithin(Name::kFirst, kNow, kNsPerSecond);
  EXPECT_THAT(RunAt(kNow), IsEmpty());
  EXPECT_EQ(timers_.WaitMs(kNow), 1000);
  EXPECT_EQ(timers_.WaitMs(0), 1001000);  // nor one that was set back
}

TEST_F(TimerListTest, LongestWaitFitsAnInt) {
  timers_.StartWithin(Name::kFirst, kNow, 1ull << 60);
  EXPECT_EQ(timers_.WaitMs(kNow), 1000000000);
}

TEST(AgentTimersTest, NoneIsSetInAFreshAgentNorInAForkedChild) {
  EXPECT_EQ(InForkedChild([] {
              agent.timers.StartWithin(Timer::kPairings, 0, kNsPerMs);
              if (agent.timers.WaitMs(0) != 1) return 1;
              agent.Renew();
              return agent.timers.WaitMs(0) == -1 ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace xenloop
