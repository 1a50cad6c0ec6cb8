// Agents meet, and before a move all of them let go in order, or are named.
#include "discovery/daemon/rendezvous/rendezvous.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/discovery/rendezvous/two_guests.h"

namespace xenloop {
namespace {

using testing::HasSubstr;

class RendezvousTest : public TwoGuests {};

TEST_F(RendezvousTest, GuestThatSharesNothingIsReadyAtOnce) {
  host_.Set(kPrepare, kToken, 1, {});
  KnowEachOther(false);
  EXPECT_TRUE(TurnUntil([this] { return Ready(); }));
}

// An agent of another version must hear which one this is, or it takes the daemon for a silent one.
TEST_F(RendezvousTest, AgentOfAnotherVersionHearsOursBeforeTheEnd) {
  for (const uint32_t version : {kControlVersion - 1, kControlVersion + 1}) {
    const int fd = ConnectTo(guests_[0].directory + "/daemon.sock");
    ControlMessage seek;
    seek.type = ControlType::kSeek;
    seek.version = version;
    ASSERT_EQ(send(fd, &seek, sizeof seek - 8, 0), static_cast<ssize_t>(sizeof seek - 8));
    ControlMessage answer;
    answer.version = 0;
    ssize_t n = -EAGAIN;
    EXPECT_TRUE(TurnUntil([&] { return (n = ReadPacket(fd, &answer)) != -EAGAIN; }));
    EXPECT_EQ(n, static_cast<ssize_t>(sizeof answer));
    EXPECT_EQ(answer.type, ControlType::kHello);
    EXPECT_EQ(answer.version, kControlVersion);
    EXPECT_TRUE(TurnUntil([&] { return (n = ReadPacket(fd, &answer)) != -EAGAIN; }));
    EXPECT_EQ(n, 0);
    close(fd);
  }
}

TEST_F(RendezvousTest, BeforeAMoveAllLetGoAtBothEndsAndThenItIsReady) {
  ASSERT_TRUE(LinksStand());
  std::vector<Pair*> talks = {Talk(), Talk(), Talk()};
  Prepare();
  for (Pair* pair : talks) {
    for (const int fd : {pair->asking, pair->answering}) {
      uint32_t reason = 0;
      EXPECT_EQ(Next(fd, &reason), ControlType::kLeave);
      EXPECT_EQ(reason, static_cast<uint32_t>(RefusalReason::kMoving));
    }
  }
  for (Pair* pair : talks) {
    EXPECT_FALSE(Ready());
    Close(&pair->asking);
    EXPECT_FALSE(TurnUntil([this] { return Ready(); }, 100));
    Close(&pair->answering);
  }
  EXPECT_TRUE(TurnUntil([this] { return Ready(); }));
  EXPECT_EQ(CurrentXenBudget().used_pages, 0u);  // of either daemon
  EXPECT_EQ(CurrentXenBudget().ports, 0u);
}

TEST_F(RendezvousTest, WhoDoesNotAnswerIsNamedAndNobodyIsReady) {
  ASSERT_TRUE(LinksStand());
  Pair* pair = Talk();
  Prepare();
  Close(&pair->asking);
  const std::string there = "/local/domain/2/data/xenloop-move/waiting";
  EXPECT_TRUE(TurnUntil([&] { return host_.Value(there) != "(absent)"; }));
  EXPECT_THAT(host_.Value(there), HasSubstr("1 " + std::to_string(getpid()) + ":rendezvous_test"));
  EXPECT_EQ(host_.Value(kWaiting), "(absent)");
  EXPECT_FALSE(Ready());
  Close(&pair->answering);
  EXPECT_TRUE(TurnUntil([this] { return Ready(); }));
  EXPECT_EQ(host_.Value(there), "(absent)");
}

TEST_F(RendezvousTest, NobodyMeetsAnybodyBeforeAMoveAndAllMeetAgainAfterOneThatFailed) {
  ASSERT_TRUE(LinksStand());
  host_.Set(kPrepare, kToken, 1, {});
  ASSERT_TRUE(TurnUntil([this] { return guests_[0].looks > 0; }));
  for (int i = 0; i < 5; ++i) guests_[0].daemon->Turn(2);
  uint32_t reason = 0;
  EXPECT_EQ(Next(Seek()->asking, &reason), ControlType::kRefuse);
  EXPECT_EQ(reason, static_cast<uint32_t>(RefusalReason::kMoving));
  KnowEachOther(false);
  ASSERT_TRUE(TurnUntil([this] { return Ready(); }));
  guests_[0].looks = guests_[1].looks = 0;
  host_.RemoveTree(kPrepare);
  KnowEachOther(true);
  ASSERT_TRUE(LinksStand());
  Talk();
  EXPECT_EQ(host_.Value(kReady), "(absent)");
}

TEST_F(RendezvousTest, GuestThatWasSuspendedWithoutNoticeBeginsAnewAndClosesNothing) {
  ASSERT_TRUE(LinksStand());
  Pair* pair = Talk();
  guests_[0].looks = 0;
  FakeCutOff(1);
  uint32_t reason = 0;
  EXPECT_EQ(Next(pair->asking, &reason), ControlType::kLeave);
  EXPECT_EQ(reason, static_cast<uint32_t>(RefusalReason::kSuspended));
  const int own = guests_[0].kept;
  EXPECT_GT(own, 0);  // the agent's event channels
  ControlMessage keep;
  keep.type = ControlType::kKeep;
  const int mappings = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(WritePacket(pair->asking, keep, &mappings, 1));
  close(mappings);
  EXPECT_TRUE(TurnUntil([&] { return guests_[0].kept == own + 2; }));
  EXPECT_TRUE(TurnUntil([&] { return guests_[0].looks > 0; }));
  ControlMessage message;
  EXPECT_EQ(ReadPacket(pair->asking, &message), -EAGAIN);  // not before the network is back
  Talk();
  EXPECT_TRUE(TurnUntil([&] { return ReadPacket(pair->asking, &message) == 0; }));
  EXPECT_EQ(guests_[0].kept, own + 2);  // event channels and mappings, however often they come
  EXPECT_EQ(guests_[1].kept, 0);
}

TEST_F(RendezvousTest, AGuestThatAsksWithoutEndDoesNotTakeAllTalks) {
  constexpr int kMostOfOne = 256;
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max < 4096)
    GTEST_SKIP() << "4096 descriptors are needed, the limit is " << limit.rlim_max;
  ASSERT_TRUE(LinksStand());
  Pair* pair = Talk();
  AToolAsksTheAgent();
  ControlMessage seek;
  seek.type = ControlType::kSeek;
  sockaddr_storage name = {};
  socklen_t size = sizeof name;
  getsockname(pair->server, reinterpret_cast<sockaddr*>(&name), &size);
  ASSERT_TRUE(ToEndpoint(name, &seek.tuple.local));
  getsockname(pair->client, reinterpret_cast<sockaddr*>(&name), &size);
  ASSERT_TRUE(ToEndpoint(name, &seek.tuple.peer));
  std::vector<int> talks, answers;
  for (int i = 1; i < kMostOfOne + 20; ++i) {
    talks.push_back(ConnectTo(guests_[0].directory + "/daemon.sock"));
    ASSERT_TRUE(WritePacket(talks.back(), seek));
    EXPECT_EQ(Next(talks.back()), i < kMostOfOne ? ControlType::kBridge : ControlType::kRefuse)
        << i;
    // The agent takes what comes, or its queue would be full.
    const int answer = AcceptFromDaemon();
    if (answer >= 0) answers.push_back(answer);
  }
  // The other direction has its own room.
  EXPECT_EQ(answers.size(), static_cast<size_t>(kMostOfOne - 1));
  for (const int fd : talks) close(fd);
  for (const int fd : answers) close(fd);
}

TEST_F(RendezvousTest, BothGuestsMayMoveAtTheSameTime) {
  ASSERT_TRUE(LinksStand());
  Pair* pair = Talk();
  host_.Set("/local/domain/2/data/xenloop-move/prepare", kToken, 2, {});
  Prepare();
  EXPECT_EQ(Next(pair->asking), ControlType::kLeave);
  EXPECT_EQ(Next(pair->answering), ControlType::kLeave);
  Close(&pair->asking);
  Close(&pair->answering);
  EXPECT_TRUE(TurnUntil([this] {
    return Ready() && host_.Value("/local/domain/2/data/xenloop-move/ready") == kToken;
  }));
}

TEST_F(RendezvousTest, GuestThatArrivesMeetsItsPeers) {
  ASSERT_TRUE(LinksStand());
  Pair* pair = Talk();
  Prepare();
  for (int* fd : {&pair->asking, &pair->answering}) {
    EXPECT_EQ(Next(*fd), ControlType::kLeave);
    Close(fd);
  }
  ASSERT_TRUE(TurnUntil([this] { return Ready(); }));
  // The same domid on another host, with a XenStore that knows nothing of all this.
  guests_[0].looks = guests_[1].looks = 0;
  host_.RemoveTree("/local/domain/1/data/xenloop-move");
  KnowEachOther(true);
  ASSERT_TRUE(LinksStand());
  Talk();
}

}  // namespace
}  // namespace xenloop
