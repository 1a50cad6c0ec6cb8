// Tables and JSON of `xenloop stat`.

#include "tools/stat_command.h"

#include "discovery/protocol/reasons.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

Snapshot ExampleSnapshot() {
  StreamReport fast;
  fast.program = "redis-server";
  fast.pid = 12;
  fast.fd = 9;
  fast.local = "127.0.0.1:6379";
  fast.peer = "127.0.0.1:40112";
  fast.peer_pid = 77;
  fast.route_send = fast.route_receive = "local";
  fast.fifo_sent = 5 << 20;
  StreamReport slow = fast;
  slow.fd = 10;
  slow.peer = "[::1]:5";
  slow.peer_pid = 0;
  slow.route_send = "tcp";
  slow.reason = "peer has no library";
  ProcessReport process;
  process.program = "redis-server";
  process.pid = 12;
  process.streams = {fast, slow};
  Snapshot snapshot;
  snapshot.processes = {process};
  snapshot.notes = {"agent @x does not answer"};
  return snapshot;
}

TEST(StatCommand, TableShowsRoutesBytesAndReasons) {
  EXPECT_EQ(SnapshotTable(ExampleSnapshot(), nullptr),
            "PROGRAM       PID  FD  LOCAL           PEER             PEER-PID  ROUTE      "
            "FIFO-OUT  FIFO-IN  TCP-OUT  TCP-IN  REASON\n"
            "redis-server   12   9  127.0.0.1:6379  127.0.0.1:40112        77  local       "
            "5.0 MiB      0 B      0 B     0 B\n"
            "redis-server   12  10  127.0.0.1:6379  [::1]:5                 -  tcp/local   "
            "5.0 MiB      0 B      0 B     0 B  peer has no library\n"
            "2 streams of 1 process, 2 through shared memory; 10.0 MiB by FIFO, 0 B by TCP\n"
            "note: agent @x does not answer\n");
}

TEST(StatCommand, NoAgentsSaysSoInsteadOfAnEmptyTable) {
  const std::string text = SnapshotTable(Snapshot(), nullptr);
  EXPECT_THAT(text, HasSubstr("has a TCP connection"));
  EXPECT_THAT(text, Not(HasSubstr("PROGRAM")));
}

TEST(StatCommand, RateIsBytesSinceThePictureBefore) {
  Snapshot snapshot = ExampleSnapshot();
  RateMeter rates;
  rates.Update(snapshot, 1);
  EXPECT_EQ(rates.RateOf(snapshot.processes[0].streams[0]), 0u);
  snapshot.processes[0].streams[0].fifo_received += 3000;
  rates.Update(snapshot, 2);
  EXPECT_EQ(rates.RateOf(snapshot.processes[0].streams[0]), 1500u);
  EXPECT_THAT(SnapshotTable(snapshot, &rates), HasSubstr("1.5 KiB/s"));
  // The descriptor was closed and another connection to the same peer has it: not negative.
  snapshot.processes[0].streams[0].fifo_sent = 0;
  rates.Update(snapshot, 1);
  EXPECT_EQ(rates.RateOf(snapshot.processes[0].streams[0]), 0u);
}

TEST(StatCommand, JsonHoldsWhatTheAgentsSaid) {
  const std::string line = SnapshotJson(ExampleSnapshot(), /*indented=*/false);
  EXPECT_THAT(line, HasSubstr(R"("notes":["agent @x does not answer"])"));
  EXPECT_THAT(line, HasSubstr(R"("reason":"peer has no library","route_receive":"local",)"
                              R"("route_send":"tcp")"));
  EXPECT_THAT(line, HasSubstr(R"("fifo_sent":5242880)"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_THAT(SnapshotJson(ExampleSnapshot(), /*indented=*/true), HasSubstr("\n  \"notes\": ["));
}

TEST(StatCommand, JsonTellsUntilWhen) {
  Snapshot snapshot = ExampleSnapshot();
  snapshot.processes[0].streams[0].reason = ReasonText(Reason::kSplice);
  EXPECT_THAT(SnapshotJson(snapshot, /*indented=*/false), HasSubstr(R"("until":"for good")"));
}

TEST(StatCommand, PictureOfRealSocketsWithBadNeighbours) {
  const TemporaryDirectory realm;
  const FakeAgent good(
      FreshRealmAddress(realm.path()), Manner::kAnswers,
      {ProcessPacket("good"), StreamPacket("a:1", "b:2", "local", ""), EndPacket()});
  const FakeAgent garbage(FreshRealmAddress(realm.path()), Manner::kAnswers,
                          {"\x01\x02garbage", "{\"process\":", EndPacket()});
  const FakeAgent mute(FreshRealmAddress(realm.path()), Manner::kSilent);
  AgentPlaces places;
  places.proc_net_unix = "/dev/null";
  places.realm_directory = realm.path();
  AskLimits limits;
  limits.silence_ms = 500;
  const Snapshot snapshot = TakeSnapshot(places, limits);
  EXPECT_EQ(snapshot.notes.size(), 2u);
  const std::string table = SnapshotTable(snapshot, nullptr);
  EXPECT_THAT(table, HasSubstr("a:1"));
  EXPECT_THAT(table, HasSubstr("garbage"));
  EXPECT_THAT(table, HasSubstr("does not answer"));
  EXPECT_THAT(table, Not(HasSubstr("\x01")));
}

}  // namespace
}  // namespace xenloop::tools
