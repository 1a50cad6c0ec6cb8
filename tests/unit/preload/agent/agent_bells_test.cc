// A peer's bells: which of them the agent takes, how many, and that none is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "channel/local/local_transport.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

constexpr uint32_t kTalk = 5;
constexpr uint32_t kMostOfAnotherUser = 16;

int UnixSocket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }
int BellAt(uint32_t bell) {
  const Bell* const bells = agent_shared.peer_bells[kTalk].load();
  return bells == nullptr ? 0 : bells[bell].fd;
}

class AgentBellsTest : public testing::Test {
 protected:
  AgentBellsTest() {
    StartDoorbell();
    EXPECT_TRUE(MapAgentMemory());
    Talk& talk = agent.talks[kTalk];
    Renew(talk);
    talk.in_use = true;
    talk.ready = true;
    talk.uid = agent.uid = getuid();
    talk.transport = &LocalTransport();
    DoorbellOf(talk).lines = kMostBells;
  }
  ~AgentBellsTest() override {
    ReleaseTalkIfUnused(kTalk);
    EXPECT_FALSE(agent.talks[kTalk].in_use);
  }
  // What is not taken is the caller's to close, as after every packet.
  static bool Told(uint64_t bell, int fd) {
    ControlMessage message;
    message.type = ControlType::kBell;
    message.words[0] = bell;
    Ticket ticket;
    ticket.fds[0] = fd;
    const bool lawful = OnBell(kTalk, message, &ticket);
    if (ticket.fds[0] >= 0) close(ticket.fds[0]);
    return lawful;
  }
};

TEST_F(AgentBellsTest, BellIsTakenOnceAndLetGoWithTheTalk) {
  EXPECT_TRUE(Told(7, UnixSocket()));
  const int fd = BellAt(7);
  EXPECT_TRUE(FdTable::IsPrivate(fd));
  EXPECT_TRUE(Told(7, UnixSocket()));
  EXPECT_EQ(BellAt(7), fd);
  EXPECT_TRUE(Told(kMostBells - 1, UnixSocket()));
  ReleaseTalkIfUnused(kTalk);
  EXPECT_FALSE(FdTable::IsPrivate(fd));
  EXPECT_EQ(BellAt(7), 0);
  EXPECT_EQ(BellAt(kMostBells - 1), 0);
}

TEST_F(AgentBellsTest, NumbersAndDescriptorsThatAreNoneBreakTheProtocol) {
  EXPECT_FALSE(Told(kAnyBell, UnixSocket()));
  EXPECT_FALSE(Told(kMostBells, UnixSocket()));
  EXPECT_FALSE(Told(~0ull, UnixSocket()));
  EXPECT_FALSE(Told(3, eventfd(0, EFD_CLOEXEC)));
  EXPECT_FALSE(Told(3, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  EXPECT_EQ(BellAt(3), 0);
  EXPECT_TRUE(Told(3, -1)) << "we may have had no descriptor left for it";
  DoorbellOf(agent.talks[kTalk]).lines = 1;
  EXPECT_FALSE(Told(3, UnixSocket()));
}

TEST_F(AgentBellsTest, AnotherUsersBellsAreCounted) {
  agent.talks[kTalk].uid = agent.uid + 1;
  for (uint32_t bell = 1; bell <= kMostOfAnotherUser; ++bell) {
    EXPECT_TRUE(Told(bell, UnixSocket()));
    EXPECT_GT(BellAt(bell), 0);
  }
  EXPECT_TRUE(Told(kMostOfAnotherUser + 1, UnixSocket()));
  EXPECT_EQ(BellAt(kMostOfAnotherUser + 1), 0);
}

// The bells that a peer is told of by one look at a side.
std::vector<uint64_t> ToldOf(const FollowedSocket& socket) {
  Talk& talk = agent.talks[kTalk];
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  talk.fd = MakePrivate(ends[0]);
  agent.sides[SlotOf(socket.side())].talk = kTalk;
  TellBells(SlotOf(socket.side()));
  agent.sides[SlotOf(socket.side())].talk = kNoTalk;
  std::vector<uint64_t> told;
  ControlMessage message;
  while (recv(ends[1], &message, sizeof message, 0) == sizeof message) {
    EXPECT_EQ(message.type, ControlType::kBell);
    told.push_back(message.words[0]);
  }
  ClosePrivate(talk.fd);
  talk.fd = -1;
  close(ends[1]);
  return told;
}

TEST_F(AgentBellsTest, PeerIsToldOnceOfTheBellOfWhoSleepsInPoll) {
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const uint32_t bell = LendOwnBell(BellFor::kSleeper);
  ASSERT_GT(bell, kCommonBell);
  BellForPoll(socket.side(), bell, CurrentSelf());
  EXPECT_THAT(ToldOf(socket), testing::UnorderedElementsAre(kCommonBell, bell));
  EXPECT_THAT(ToldOf(socket), testing::IsEmpty());
  GiveBackOwnBell(bell);
}

}  // namespace
}  // namespace xenloop
