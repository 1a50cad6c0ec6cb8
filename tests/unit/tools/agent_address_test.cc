// Which names in /proc/net/unix and in a realm directory are agents, and which only look so.

#include "tools/agent_address.h"

#include <sys/stat.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::ElementsAre;

std::vector<std::string> Names(const std::vector<AgentAddress>& agents) {
  std::vector<std::string> names;
  for (const AgentAddress& agent : agents) names.push_back(agent.name);
  return names;
}

TEST(AgentAddress, TakesOnlyListeningSeqpacketSocketsWithAnAgentsName) {
  const auto agents = AgentsInSocketTable(
      "Num       RefCount Protocol Flags    Type St Inode Path\n"
      "00000000752c4397: 00000003 00000000 00000000 0001 03  1681\n"
      "0000000000000001: 00000002 00000000 00010000 0005 01 11 @xenloop/0/0123456789abcdef\n"
      "0000000000000002: 00000003 00000000 00000000 0005 03 12 @xenloop/0/1123456789abcdef\n"
      "0000000000000003: 00000002 00000000 00010000 0001 01 13 @xenloop/0/2123456789abcdef\n"
      "0000000000000004: 00000002 00000000 00010000 0005 01 14 @xenloop/0/3123456789abcdefa\n"
      "0000000000000005: 00000002 00000000 00010000 0005 01 15 @xenloop/-1/4123456789abcdef\n"
      "0000000000000006: 00000002 00000000 00010000 0005 01 16 @xenloop/0/5123456789ABCDEF\n"
      "0000000000000007: 00000002 00000000 00010000 0005 01   17 "
      "/realm one/xenloop-1000/6123456789abcdef.sock\n"
      "0000000000000008: 00000002 00000000 00010000 0005 01 18 "
      "relative/xenloop-1000/7123456789abcdef.sock\n"
      "0000000000000009: 00000002 00000000 00010000 0005 01 19 @xenloop/4294967296/"
      "8123456789abcdef\n"
      "garbage\n\n");
  EXPECT_THAT(Names(agents), ElementsAre("@xenloop/0/0123456789abcdef",
                                         "/realm one/xenloop-1000/6123456789abcdef.sock"));
  EXPECT_EQ(agents[1].claimed_uid, 1000u);
  EXPECT_FALSE(agents[1].abstract);
}

TEST(AgentAddress, APathTooLongForASocketHasNoAddress) {
  sockaddr_un address;
  const std::string end = "/xenloop-0/0123456789abcdef.sock";
  const std::string fits = "/" + std::string(107 - 1 - end.size(), 'd') + end;
  EXPECT_EQ(ParseAgentName(fits)->ToSockaddr(&address), sizeof(sockaddr_un));
  EXPECT_EQ(ParseAgentName("/d" + fits)->ToSockaddr(&address), std::nullopt);
}

TEST(AgentAddress, FindsRealAgentsInBothPlacesOnce) {
  const TemporaryDirectory realm;
  const FakeAgent abstract(FreshAddress(), Manner::kSilent);
  const FakeAgent in_realm(FreshRealmAddress(realm.path()), Manner::kSilent);
  AgentPlaces places;
  places.realm_directory = realm.path();
  const auto names = Names(FindAgents(places, geteuid()));
  EXPECT_EQ(std::count(names.begin(), names.end(), abstract.address().name), 1);
  // It is listed by the kernel, too.
  EXPECT_EQ(std::count(names.begin(), names.end(), in_realm.address().name), 1);
}

TEST(AgentAddress, RealmWithForeignFilesLinksAndWrongNamesGivesOnlyAgents) {
  const TemporaryDirectory realm;
  const FakeAgent agent(FreshRealmAddress(realm.path()), Manner::kSilent);
  const std::string own = agent.address().name.substr(0, agent.address().name.rfind('/'));
  realm.Write("xenloop-7", "a file");
  ASSERT_EQ(mkdir((realm / "xenloop-x").c_str(), 0700), 0);
  ASSERT_EQ(symlink(own.c_str(), (realm / "xenloop-8").c_str()), 0);
  realm.Write(own.substr(realm.path().size() + 1) + "/0123456789abcdef.sock", "no socket");
  EXPECT_THAT(Names(AgentsInRealm(realm.path())), ElementsAre(agent.address().name));
  EXPECT_TRUE(AgentsInRealm(realm / "missing").empty());
}

TEST(AgentAddress, OwnAgentsComeFirst) {
  const TemporaryDirectory directory;
  AgentPlaces places;
  places.proc_net_unix =
      directory.Write("unix",
                      "1: 00000002 00000000 00010000 0005 01 1 @xenloop/0/0123456789abcdef\n"
                      "1: 00000002 00000000 00010000 0005 01 1 @xenloop/1000/0123456789abcdef\n"
                      "1: 00000002 00000000 00010000 0005 01 1 @xenloop/1000/0123456789abcdef\n");
  EXPECT_THAT(Names(FindAgents(places, 1000)),
              ElementsAre("@xenloop/1000/0123456789abcdef", "@xenloop/0/0123456789abcdef"));
}

}  // namespace
}  // namespace xenloop::tools
