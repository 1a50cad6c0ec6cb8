// When a side is to be upgraded, and which reason one shows that is not.
#include "channel/base/time.h"
#include "gtest/gtest.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/self.h"
#include "preload/side/side.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

class FailedAgentTest : public ::testing::Test {
 protected:
  FailedAgentTest() : side_(AllocateSide()) {
    process_state.ready = true;
    agent_shared.started.store(kAgentFailed);
    agent_shared.start_failure.store(Reason::kAgentNoThread);
  }
  ~FailedAgentTest() override {
    agent_shared.start_failure.store(Reason::kNone);
    agent_shared.started.store(started_);
    process_state.ready = ready_;
    FreeSide(side_);
  }
  const int started_ = agent_shared.started.load();
  const bool ready_ = process_state.ready;
  Side* const side_;
};

TEST_F(FailedAgentTest, SideTellsWhyThereIsNoAgent) {
  EXPECT_EQ(side_->reason.load(), Reason::kNotHotYet);
  ConsiderUpgrade(side_);
  EXPECT_EQ(side_->reason.load(), Reason::kAgentNoThread);
}

TEST_F(FailedAgentTest, WhatIsOnTcpForGoodKeepsItsOwnReason) {
  side_->pinned.store(1);
  side_->reason.store(Reason::kSplice);
  ConsiderUpgrade(side_);
  EXPECT_EQ(side_->reason.load(), Reason::kSplice);
}

// A forked child: what kept the parent's agent from starting is asked about anew.
TEST_F(FailedAgentTest, ForkedChildLooksForObstaclesAgain) {
  EXPECT_EQ(InForkedChild([] {
              agent_shared.obstacle.store(Reason::kAgentNoDescriptors);
              agent_shared.Renew();
              return agent_shared.obstacle.load() == Reason::kFilterUntried ? 0 : 1;
            }),
            0);
  EXPECT_EQ(InForkedChild([] {
              agent_shared.obstacle.store(Reason::kNone);
              agent_shared.Renew();
              return agent_shared.obstacle.load() == Reason::kNone ? 0 : 1;
            }),
            0);
}

// How long it is until a side is offered again whose reader has stood still.
class PutOffTest : public ::testing::Test {
 protected:
  PutOffTest() : side_(AllocateSide()) { note_.attached_at_ns = kStart; }
  ~PutOffTest() override { FreeSide(side_); }

  uint64_t OperationsAfter(uint64_t taken, uint64_t good_ns) {
    CountBypass(note_, taken, 1, kStart + good_ns);
    PutOffAttempt(note_, side_);
    return side_->next_attempt.load();
  }
  static constexpr uint64_t kStart = 1000 * kNsPerSecond;
  static constexpr uint64_t kMost = 16 << 10;
  Side* const side_;
  AgentSide note_;
};

TEST_F(PutOffTest, EachTimeTwiceAsLong) {
  EXPECT_EQ(OperationsAfter(1, 0), 32u);
  EXPECT_EQ(OperationsAfter(1, 0), 64u);
  for (int i = 0; i < 40; ++i) OperationsAfter(1, 0);
  EXPECT_EQ(OperationsAfter(1, 0), kMost);
}

TEST_F(PutOffTest, LessAfterAGoodTimeOnFifos) {
  for (int i = 0; i < 40; ++i) OperationsAfter(1, 0);
  EXPECT_EQ(OperationsAfter(1, 30 * kNsPerSecond), kMost / 4);
  EXPECT_EQ(OperationsAfter(1, 3600 * kNsPerSecond), 32u) << "as for the first time";
}

TEST_F(PutOffTest, ATimeInWhichNothingWasReadIsNone) {
  for (int i = 0; i < 40; ++i) OperationsAfter(1, 0);
  EXPECT_EQ(OperationsAfter(0, 3600 * kNsPerSecond), kMost);
}

}  // namespace
}  // namespace xenloop
