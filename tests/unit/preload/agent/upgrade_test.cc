// Which reason a side shows that is not to be upgraded.
#include "gtest/gtest.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
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

}  // namespace
}  // namespace xenloop
