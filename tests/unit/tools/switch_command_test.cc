// OFF and ON, to agents that obey and agents that do not. Only fakes are told: a real OFF would
// disturb other tests on the machine.

#include "tools/switch_command.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

AskLimits Hasty() {
  AskLimits limits;
  limits.silence_ms = 500;
  return limits;
}

TEST(SwitchCommand, TellsEachAgent) {
  const FakeAgent agent(FreshAddress(), Manner::kAnswers, {R"({"ok":true})"});
  SwitchOutcome outcome = SwitchAgents({agent.address()}, /*on=*/false, Hasty());
  EXPECT_TRUE(outcome.all_obeyed);
  EXPECT_EQ(outcome.text, "1 process back on TCP\n");
  outcome = SwitchAgents({agent.address()}, /*on=*/true, Hasty());
  EXPECT_EQ(outcome.text, "1 process may use shared memory again\n");
  EXPECT_THAT(agent.requests(), ElementsAre("OFF\n", "ON\n"));
}

TEST(SwitchCommand, WhoDoesNotObeyIsNamed) {
  const FakeAgent refuses(FreshAddress(), Manner::kAnswers, {R"({"error":"not your process"})"});
  const FakeAgent mute(FreshAddress(), Manner::kSilent);
  const FakeAgent mad(FreshAddress(), Manner::kAnswers, {R"({"ok":"perhaps"})"});
  const SwitchOutcome outcome = SwitchAgents(
      {refuses.address(), mute.address(), mad.address(), FreshAddress()}, /*on=*/false, Hasty());
  EXPECT_FALSE(outcome.all_obeyed);
  EXPECT_THAT(outcome.text, HasSubstr("refused: not your process"));
  EXPECT_THAT(outcome.text, HasSubstr(mute.address().name));
  EXPECT_THAT(outcome.text, HasSubstr("does not answer"));
  EXPECT_THAT(outcome.text, HasSubstr("makes no sense"));
  EXPECT_THAT(outcome.text, HasSubstr("0 processes back on TCP"));
}

TEST(SwitchCommand, NobodyThereIsNoFailure) {
  EXPECT_TRUE(SwitchAgents({}, /*on=*/false, Hasty()).all_obeyed);
  EXPECT_TRUE(SwitchAgents({FreshAddress()}, /*on=*/false, Hasty()).all_obeyed);
}

TEST(SwitchCommand, OnlyOwnAgentsUnlessRoot) {
  const AgentAddress mine = *ParseAgentName("@xenloop/1000/0123456789abcdef");
  const AgentAddress yours = *ParseAgentName("@xenloop/1001/0123456789abcdef");
  EXPECT_THAT(AgentsThatObey({mine, yours}, 1000), SizeIs(1));
  EXPECT_THAT(AgentsThatObey({mine, yours}, 0), SizeIs(2));
  EXPECT_THAT(AgentsThatObey({yours}, 1000), IsEmpty());
}

}  // namespace
}  // namespace xenloop::tools
