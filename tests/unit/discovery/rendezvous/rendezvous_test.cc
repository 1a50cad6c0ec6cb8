// Two daemons and the agents of a few programs, on the twins of Xen and of XenStore: agents meet,
// and before a move all of them let go in order, or are named. The TCP connections are real ones,
// between addresses of this machine that stand for the two guests'.
#include "discovery/daemon/rendezvous/rendezvous.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>

#include "channel/xen/xen_transport.h"
#include "discovery/daemon/peer_table_writer.h"
#include "discovery/daemon/xenstore/keys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/contract/fake_xen.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop {
namespace {

using testing::HasSubstr;

constexpr char kPrepare[] = "/local/domain/1/data/xenloop-move/prepare";
constexpr char kReady[] = "/local/domain/1/data/xenloop-move/ready";
constexpr char kWaiting[] = "/local/domain/1/data/xenloop-move/waiting";
const std::string kToken = FormatMoveToken(7);

class RendezvousTest : public testing::Test {
 protected:
  // Domain 1 is 127.0.0.1, domain 2 is 127.0.0.2.
  struct Guest {
    std::string directory;
    PeerTableWriter table;
    Registry registry;
    std::unique_ptr<Rendezvous> daemon;
    int looks = 0;
    int kept = 0;  // descriptors that must not be closed
  };
  // Two programs and their agents' talk.
  struct Pair {
    int client = -1, server = -1;     // the TCP connection
    int asking = -1, answering = -1;  // sockets to the daemons of 1 and 2
  };

  RendezvousTest() {
    StartXenTransport(FakeXenCalls(), 1024);
    char name[] = "/tmp/xenloop-rendezvous-XXXXXX";
    top_ = mkdtemp(name);
    for (uint32_t i = 0; i < 2; ++i) {
      host_.CreateDomain(i + 1, {});
      Guest& guest = guests_[i];
      guest.directory = top_ + "/" + std::to_string(i + 1);
      std::filesystem::create_directory(guest.directory);
      EXPECT_EQ(guest.table.Open(guest.directory + "/peers"), 0);
      guest.table.SetOwnDomid(i + 1);
      Reason reason = Reason::kNone;
      EXPECT_EQ(guest.registry.Open(guest.directory.c_str(), geteuid(), &reason), 0);
      RendezvousPlaces places;
      places.directory = places.registry = guest.directory;
      places.log = [](const std::string&) {};
      places.open_store = [this, i]() -> absl::StatusOr<std::unique_ptr<XenStore>> {
        return std::unique_ptr<XenStore>(std::make_unique<FakeXenStore>(&host_, i + 1));
      };
      places.open_devices = [](int(&descriptors)[kXenDescriptors]) {
        for (int& fd : descriptors) fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        return true;
      };
      places.look = [&guest] { ++guest.looks; };
      places.keep = [&guest](int) { ++guest.kept; };
      guest.daemon = std::make_unique<Rendezvous>(std::move(places));
      EXPECT_TRUE(guest.daemon->Open().ok());
    }
    KnowEachOther(true);
  }
  ~RendezvousTest() override {
    for (Guest& guest : guests_) {
      guest.daemon.reset();
      guest.registry.Close();
    }
    for (const Pair& pair : pairs_) {
      for (const int fd : {pair.client, pair.server, pair.asking, pair.answering})
        if (fd >= 0) close(fd);
    }
    if (listener_ >= 0) close(listener_);
    if (agent_ >= 0) close(agent_);
    std::filesystem::remove_all(top_);
    EXPECT_EQ(CurrentXenBudget().used_pages, 0u);
    EXPECT_EQ(CurrentXenBudget().ports, 0u);
  }

  static Address AddressOf(int guest) {
    Address address = {};
    address[10] = address[11] = 0xff;
    address[12] = 127;
    address[15] = static_cast<uint8_t>(guest + 1);
    return address;
  }
  // As Dom0's daemon and the guests' discovery bring it about.
  void KnowEachOther(bool known) {
    for (int i = 0; i < 2; ++i) {
      PeerMap peers;
      if (known) peers[AddressOf(1 - i)] = PeerName{static_cast<uint32_t>(2 - i), 1};
      guests_[i].table.Replace(peers);
    }
  }

  template <typename Done>
  bool TurnUntil(Done done, int limit_ms = 5000) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      for (Guest& guest : guests_) guest.daemon->Turn(2);
    }
    return true;
  }

  bool LinksStand() {
    return TurnUntil([this] { return guests_[0].looks > 0 && guests_[1].looks > 0; });
  }

  static sockaddr_in Name(int guest) {
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(0x7f000001u + static_cast<uint32_t>(guest));
    return name;
  }
  static int ConnectTo(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // A connection from guest 1 to guest 2, which guest 2's agent has published, and guest 1's asks
  // for.
  Pair* Seek() {
    Pair& pair = pairs_.emplace_back();
    if (listener_ < 0) {
      listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in name = Name(1);
      EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
      EXPECT_EQ(listen(listener_, 64), 0);
      agent_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      agent_id_ = (static_cast<uint64_t>(getpid()) << 32) | 0x77;
      sockaddr_un address;
      const socklen_t length = AgentAddress("", geteuid(), agent_id_, &address);
      EXPECT_EQ(bind(agent_, reinterpret_cast<sockaddr*>(&address), length), 0);
      EXPECT_EQ(listen(agent_, 64), 0);
    }
    sockaddr_storage there = {};
    socklen_t size = sizeof there;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&there), &size);
    sockaddr_in here = Name(0);
    pair.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(pair.client, reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
    EXPECT_EQ(connect(pair.client, reinterpret_cast<sockaddr*>(&there), size), 0);
    pair.server = accept(listener_, nullptr, nullptr);
    sockaddr_storage mine = {};
    size = sizeof mine;
    getsockname(pair.client, reinterpret_cast<sockaddr*>(&mine), &size);
    ControlMessage seek;
    seek.type = ControlType::kSeek;
    EXPECT_TRUE(ToEndpoint(there, &seek.tuple.local));
    EXPECT_TRUE(ToEndpoint(mine, &seek.tuple.peer));
    EXPECT_EQ(guests_[1].registry.Publish(HashOf(seek.tuple), agent_id_), 0);
    pair.asking = ConnectTo(guests_[0].directory + "/daemon.sock");
    EXPECT_TRUE(WritePacket(pair.asking, seek));
    return &pair;
  }
  // The next packet for an agent; a type that there is not when none comes.
  ControlType Next(int fd, uint32_t* reason = nullptr) {
    ControlMessage message;
    message.type = ControlType{0};
    TurnUntil([&] { return ReadPacket(fd, &message) != -EAGAIN; });
    if (reason != nullptr) *reason = message.refusal;
    return message.type;
  }
  Pair* Talk() {
    Pair* pair = Seek();
    EXPECT_EQ(Next(pair->asking), ControlType::kBridge);
    ControlMessage hello;
    EXPECT_TRUE(WritePacket(pair->asking, hello));
    EXPECT_TRUE(
        TurnUntil([&] { return (pair->answering = accept(agent_, nullptr, nullptr)) >= 0; }));
    fcntl(pair->answering, F_SETFL, O_NONBLOCK);
    EXPECT_EQ(Next(pair->answering), ControlType::kBridge);
    EXPECT_EQ(Next(pair->answering), ControlType::kHello);
    return pair;
  }
  static void Close(int* fd) {
    close(*fd);
    *fd = -1;
  }
  bool Ready() { return host_.Value(kReady) == kToken; }
  // What Dom0's daemon makes of a guest's withdrawal comes a little later than that guest's own
  // part.
  void Prepare() {
    host_.Set(kPrepare, kToken, 1, {});
    for (int i = 0; i < 5; ++i) guests_[0].daemon->Turn(2);
    KnowEachOther(false);
  }

  FakeHost host_;
  std::string top_;
  Guest guests_[2];
  std::list<Pair> pairs_;
  int listener_ = -1, agent_ = -1;
  uint64_t agent_id_ = 0;
};

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
    const int answer = accept(agent_, nullptr, nullptr);
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
