// Conversations with agents of every manner: no answer of one may harm that of another.

#include "tools/agent_client.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::ElementsAre;

const std::vector<std::string> kGoodAnswer = {
    ProcessPacket("fake"), StreamPacket("127.0.0.1:1", "127.0.0.1:2", "local", ""), EndPacket()};

AskLimits Hasty() {
  AskLimits limits;
  limits.silence_ms = 500;
  return limits;
}

TEST(AgentClient, TakesAWholeAnswerAndLearnsFromTheKernelWhoGaveIt) {
  const FakeAgent agent(FreshAddress(), Manner::kAnswers, kGoodAnswer);
  const auto answers = AskAgents({agent.address()}, "STAT\n", AskLimits());
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].outcome, AskOutcome::kComplete);
  EXPECT_EQ(answers[0].packets, kGoodAnswer);
  EXPECT_EQ(answers[0].pid, getpid());
  EXPECT_EQ(answers[0].uid, geteuid());
  EXPECT_THAT(agent.requests(), ElementsAre("STAT\n"));
}

TEST(AgentClient, AgentInARealmAnswers) {
  const TemporaryDirectory realm;
  const FakeAgent agent(FreshRealmAddress(realm.path()), Manner::kAnswers, kGoodAnswer);
  EXPECT_EQ(AskAgents({agent.address()}, "STAT\n", AskLimits())[0].outcome, AskOutcome::kComplete);
}

TEST(AgentClient, BadAgentsCostTheirOwnAnswerOnly) {
  const FakeAgent silent(FreshAddress(), Manner::kSilent);
  const FakeAgent deaf(FreshAddress(), Manner::kNeverAccepts);
  const FakeAgent hangs_up(FreshAddress(), Manner::kHangsUp, {kGoodAnswer[0]});
  const FakeAgent half(FreshAddress(), Manner::kAnswers, {kGoodAnswer[0], kGoodAnswer[1]});
  const FakeAgent floods(FreshAddress(), Manner::kFloods, {std::string(60000, 'x')});
  const FakeAgent good(FreshAddress(), Manner::kAnswers, kGoodAnswer);
  const AgentAddress gone = FreshAddress();
  const auto start = std::chrono::steady_clock::now();
  const auto answers = AskAgents({silent.address(), deaf.address(), hangs_up.address(),
                                  half.address(), floods.address(), gone, good.address()},
                                 "STAT\n", Hasty());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
  ASSERT_EQ(answers.size(), 7u);
  EXPECT_EQ(answers[0].outcome, AskOutcome::kSilent);
  EXPECT_EQ(answers[1].outcome, AskOutcome::kSilent);
  EXPECT_EQ(answers[2].outcome, AskOutcome::kCutShort);
  EXPECT_EQ(answers[2].packets.size(), 1u);
  EXPECT_EQ(answers[3].outcome, AskOutcome::kSilent);
  EXPECT_EQ(answers[3].packets.size(), 2u);
  EXPECT_EQ(answers[4].outcome, AskOutcome::kCutShort);  // by the limit of its bytes
  EXPECT_EQ(answers[5].outcome, AskOutcome::kGone);
  EXPECT_EQ(answers[6].outcome, AskOutcome::kComplete);
}

TEST(AgentClient, FloodOfSmallPacketsEndsAtTheLimitOfTime) {
  const FakeAgent floods(FreshAddress(), Manner::kFloods, {"{}"});
  AskLimits limits;
  limits.agent_ms = 200;
  const auto answer = AskAgents({floods.address()}, "STAT\n", limits)[0];
  EXPECT_NE(answer.outcome, AskOutcome::kComplete);
  EXPECT_LE(answer.packets.size() * sizeof(std::string), limits.agent_bytes);
}

TEST(AgentClient, PacketLongerThanAnyRealOneEndsTheAnswer) {
  const FakeAgent agent(FreshAddress(), Manner::kAnswers, {std::string(70000, 'x'), EndPacket()});
  const auto answer = AskAgents({agent.address()}, "STAT\n", Hasty())[0];
  EXPECT_EQ(answer.outcome, AskOutcome::kCutShort);
  EXPECT_TRUE(answer.packets.empty());
}

TEST(AgentClient, NameOfAnotherUserIsNotAsked) {
  // Whoever runs this test does not have this number.
  const std::string name = "@xenloop/4000000000/0123456789abcdef";
  const FakeAgent impostor(*ParseAgentName(name), Manner::kAnswers, kGoodAnswer);
  const auto answer = AskAgents({impostor.address()}, "STAT\n", Hasty())[0];
  EXPECT_EQ(answer.outcome, AskOutcome::kImpostor);
  EXPECT_TRUE(answer.packets.empty());
  EXPECT_TRUE(impostor.requests().empty());
}

TEST(AgentClient, ManyAgentsAreAskedAtTheSameTime) {
  std::vector<std::unique_ptr<FakeAgent>> agents;
  std::vector<AgentAddress> addresses;
  for (int i = 0; i < 40; ++i) {
    const bool good = i % 2 == 0;
    agents.push_back(std::make_unique<FakeAgent>(
        FreshAddress(), good ? Manner::kAnswers : Manner::kSilent, kGoodAnswer));
    addresses.push_back(agents.back()->address());
  }
  AskLimits limits = Hasty();
  limits.concurrent_agents = 7;
  const auto answers = AskAgents(addresses, "STAT\n", limits);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].outcome, i % 2 == 0 ? AskOutcome::kComplete : AskOutcome::kSilent) << i;
  }
}

TEST(AgentClient, TotalTimeIsLimitedHoweverManyAreSilent) {
  const FakeAgent silent(FreshAddress(), Manner::kSilent);
  AskLimits limits;
  limits.concurrent_agents = 1;
  limits.total_ms = 300;
  const std::vector<AgentAddress> many(50, silent.address());
  const auto start = std::chrono::steady_clock::now();
  const auto answers = AskAgents(many, "STAT\n", limits);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_EQ(answers.size(), 50u);
  EXPECT_EQ(answers[49].outcome, AskOutcome::kSilent);
}

TEST(AgentClient, WithoutFreeDescriptorsNobodyAnswersAndNothingBreaks) {
  const FakeAgent good(FreshAddress(), Manner::kAnswers, kGoodAnswer);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto answer = AskAgents({good.address()}, "STAT\n", Hasty())[0];
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(answer.outcome, AskOutcome::kSilent);
}

}  // namespace
}  // namespace xenloop::tools
