// Decoding what agents say, well-formed and not.

#include "tools/agent_answer.h"

#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tools/agent_client.h"
#include "tools/snapshot.h"
#include "tools/stat_command.h"

namespace xenloop::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

AgentAnswer AnswerOf(std::vector<std::string> packets, pid_t pid = 42) {
  AgentAnswer answer;
  answer.agent = *ParseAgentName("@xenloop/1000/0123456789abcdef");
  answer.outcome = AskOutcome::kComplete;
  answer.uid = 1000;
  answer.pid = pid;
  answer.packets = std::move(packets);
  return answer;
}

TEST(AgentAnswer, DecodesProcessAndStreams) {
  const ProcessReport process = DecodeStat(AnswerOf(
      {ProcessPacket("redis-server"), StreamPacket("a:1", "b:2", "tcp", "splice"), EndPacket()}));
  EXPECT_TRUE(process.complete);
  EXPECT_EQ(process.program, "redis-server");
  EXPECT_EQ(process.connections, 5u);
  EXPECT_EQ(process.upgraded, 3u);
  EXPECT_EQ(process.fallbacks.at("splice"), 1u);
  ASSERT_EQ(process.streams.size(), 1u);
  EXPECT_EQ(process.streams[0].fifo_sent, 3000000u);
  EXPECT_EQ(process.streams[0].reason, "splice");
  EXPECT_FALSE(process.streams[0].IsAccelerated());
}

TEST(AgentAnswer, WhatAProcessHasOfXenIsShown) {
  Snapshot snapshot;
  snapshot.processes.push_back(DecodeStat(AnswerOf(
      {R"({"process":{"pid":42,"program":"redis-server","xen":{"domid":2,"granted_pages":66,)"
       R"("may_grant_pages":512,"guest_limit_pages":1024,"event_channels":1}}})",
       EndPacket()})));
  ASSERT_TRUE(snapshot.processes[0].xen.has_value());
  EXPECT_EQ(snapshot.processes[0].xen->domid, 2u);
  EXPECT_THAT(
      SnapshotTable(snapshot, nullptr),
      HasSubstr("redis-server (42) grants 66 of its 512 pages (the guest's limit: 1024) and "
                "has 1 event channel\n"));
  EXPECT_THAT(SnapshotJson(snapshot, false), HasSubstr("\"granted_pages\":66"));
  const ProcessReport without = DecodeStat(AnswerOf({ProcessPacket("x"), EndPacket()}));
  EXPECT_FALSE(without.xen.has_value());
}

TEST(AgentAnswer, WhyShortConnectionsAreNotParkedIsShown) {
  Snapshot snapshot;
  snapshot.processes.push_back(DecodeStat(AnswerOf(
      {R"({"process":{"pid":42,"program":"nginx","not_parked":{"why":2}}})", EndPacket()})));
  EXPECT_EQ(snapshot.processes[0].not_parked.at("why"), 2u);
  EXPECT_THAT(SnapshotTable(snapshot, nullptr),
              HasSubstr("nginx (42) 2 of its listeners and destinations of short connections: "
                        "why\n"));
  EXPECT_THAT(SnapshotJson(snapshot, false), HasSubstr(R"("not_parked":{"why":2})"));
}

TEST(AgentAnswer, TheKernelsPidAndUidCountNotTheAgents) {
  ProcessReport process =
      DecodeStat(AnswerOf({ProcessPacket("x"), StreamPacket("a:1", "b:2", "local", "")}, 42));
  EXPECT_EQ(process.pid, 42u);
  EXPECT_EQ(process.streams[0].pid, 42u);
  EXPECT_EQ(process.streams[0].uid, 1000u);
  EXPECT_FALSE(process.complete);
  // In a pid namespace that we cannot see, only the agent knows.
  process = DecodeStat(AnswerOf({ProcessPacket("x")}, 0));
  EXPECT_EQ(process.pid, 1u);
}

TEST(AgentAnswer, WrongTypesReadAsNothing) {
  const ProcessReport process = DecodeStat(AnswerOf({
      R"({"process":{"program":7,"connections":-1,"upgraded":1.5,"fallbacks":[1]}})",
      R"({"route_send":null,"fd":"nine","local":{},"tcp_sent":1e30,"fifo_sent":-5})",
      R"({"process":"yes"})",
      R"([1,2,3])",
      "not json",
      "",
      std::string("\xff\xfe\x00{", 4),
      std::string(10000, '['),
  }));
  EXPECT_EQ(process.connections, 0u);
  EXPECT_EQ(process.upgraded, 0u);
  EXPECT_EQ(process.program, "");
  ASSERT_EQ(process.streams.size(), 1u);
  EXPECT_EQ(process.streams[0].fd, 0u);
  EXPECT_EQ(process.streams[0].tcp_sent, 0u);
  EXPECT_EQ(process.garbled_packets, 6u);
}

TEST(AgentAnswer, StringsBecomeShortAndPrintable) {
  const ProcessReport process = DecodeStat(AnswerOf(
      {StreamPacket(R"(\u001b[2J\n\u009b)", std::string(5000, 'p'), "local", R"(bell \u0007)")}));
  EXPECT_EQ(process.streams[0].local, "?[2J???");
  EXPECT_EQ(process.streams[0].peer.size(), 64u);
  EXPECT_EQ(process.streams[0].reason, "bell ?");
}

TEST(AgentAnswer, KnowsTheLastPacket) {
  EXPECT_TRUE(IsLastPacket(R"({"end":true})"));
  EXPECT_TRUE(IsLastPacket(R"({"ok":true})"));
  EXPECT_TRUE(IsLastPacket(R"({"error":"who are you?"})"));
  EXPECT_FALSE(IsLastPacket(R"({"end":false})"));
  EXPECT_FALSE(IsLastPacket(R"({"reason":"\"end\":true"})"));
  EXPECT_FALSE(IsLastPacket(R"("end")"));
  EXPECT_FALSE(IsLastPacket(""));
  EXPECT_FALSE(IsLastPacket(StreamPacket("a", "b", "tcp", "error")));
}

TEST(AgentAnswer, SwitchIsObeyedOnlyIfTheAgentSaysSo) {
  EXPECT_TRUE(DecodeSwitch(AnswerOf({R"({"ok":true})"})).obeyed);
  EXPECT_FALSE(DecodeSwitch(AnswerOf({R"({"ok":false})"})).obeyed);
  EXPECT_FALSE(DecodeSwitch(AnswerOf({R"({"ok":true,"error":"no"})"})).obeyed);
  EXPECT_FALSE(DecodeSwitch(AnswerOf({"garbage"})).obeyed);
  EXPECT_FALSE(DecodeSwitch(AnswerOf({})).obeyed);
  EXPECT_EQ(DecodeSwitch(AnswerOf({R"({"error":"other user"})"})).error, "other user");
}

TEST(AgentAnswer, SumsSaturate) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(SaturatingSum(kMost - 1, 1), kMost);
  EXPECT_EQ(SaturatingSum(kMost, 7), kMost);
}

TEST(AgentAnswer, MutatedPacketsNeverBreakTheDecoder) {
  const std::vector<std::string> good = {ProcessPacket("fake"),
                                         StreamPacket("a:1", "b:2", "local", "splice")};
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> packets = good;
    std::string& victim = packets[random() % packets.size()];
    for (int i = 0; i < 3; ++i) victim[random() % victim.size()] = static_cast<char>(random());
    victim.resize(random() % 4 == 0 ? random() % victim.size() : victim.size());
    DecodeStat(AnswerOf(packets));
    IsLastPacket(victim);
  }
}

TEST(Snapshot, SortsByProgramPidAddressAndPortAsANumber) {
  const auto stream = [](const char* local) { return StreamPacket(local, "p:1", "local", ""); };
  const Snapshot snapshot = MakeSnapshot({
      AnswerOf({ProcessPacket("zebra")}, 1),
      AnswerOf({ProcessPacket("ape"), stream("h:1000"), stream("h:99"), stream("a:5000")}, 20),
      AnswerOf({ProcessPacket("ape")}, 3),
  });
  ASSERT_EQ(snapshot.processes.size(), 3u);
  EXPECT_EQ(snapshot.processes[0].pid, 3u);
  EXPECT_EQ(snapshot.processes[2].program, "zebra");
  std::vector<std::string> locals;
  for (const StreamReport& report : snapshot.processes[1].streams) locals.push_back(report.local);
  EXPECT_THAT(locals, ElementsAre("a:5000", "h:99", "h:1000"));
}

TEST(Snapshot, ProcessThatListensInTwoPlacesCountsOnce) {
  EXPECT_EQ(MakeSnapshot({AnswerOf({ProcessPacket("x")}), AnswerOf({ProcessPacket("x")})})
                .processes.size(),
            1u);
}

TEST(Snapshot, AgentsThatCannotBeUnderstoodBecomeNotes) {
  AgentAnswer silent = AnswerOf({}, 50);
  silent.outcome = AskOutcome::kSilent;
  AgentAnswer gone = AnswerOf({}, 0);
  gone.outcome = AskOutcome::kGone;
  const Snapshot snapshot =
      MakeSnapshot({silent, gone, AnswerOf({"garbage", "more", EndPacket()}, 51)});
  ASSERT_EQ(snapshot.notes.size(), 2u);
  EXPECT_THAT(snapshot.notes[0], HasSubstr("(pid 50) does not answer"));
  EXPECT_THAT(snapshot.notes[1], HasSubstr("(pid 51) sent 2 packets of garbage"));
}

TEST(Snapshot, AgentsThatRefuseAreCounted) {
  const AgentAnswer refusal = AnswerOf({R"({"error":"not allowed"})"});
  const Snapshot snapshot = MakeSnapshot({refusal, refusal});
  EXPECT_THAT(snapshot.notes, ElementsAre("2 processes of other users not shown (root sees all)"));
  EXPECT_TRUE(snapshot.processes.empty());
}

}  // namespace
}  // namespace xenloop::tools
