// What the tests of the rendezvous share: two daemons and the agents of a few programs, on the
// twins of Xen and of XenStore. The TCP connections are real ones, between addresses of this
// machine that stand for the two guests'.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <list>
#include <memory>
#include <string>

#include "channel/xen/xen_transport.h"
#include "discovery/daemon/peer_table_writer.h"
#include "discovery/daemon/rendezvous/rendezvous.h"
#include "discovery/daemon/xenstore/keys.h"
#include "gtest/gtest.h"
#include "tests/contract/fake_xen.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop {

inline constexpr char kPrepare[] = "/local/domain/1/data/xenloop-move/prepare";
inline constexpr char kReady[] = "/local/domain/1/data/xenloop-move/ready";
inline constexpr char kWaiting[] = "/local/domain/1/data/xenloop-move/waiting";
inline const std::string kToken = FormatMoveToken(7);

class TwoGuests : public testing::Test {
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

  TwoGuests() {
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
  ~TwoGuests() override {
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
  // Of a daemon, which is in this process. Tools ask all agents of the machine, and so this one.
  int AcceptFromDaemon() {
    for (;;) {
      const int fd = accept(agent_, nullptr, nullptr);
      ucred from{};
      socklen_t size = sizeof from;
      if (fd < 0 ||
          (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &from, &size) == 0 && from.pid == getpid()))
        return fd;
      close(fd);
    }
  }
  void AToolAsksTheAgent() {
    sockaddr_un address;
    const socklen_t length = AgentAddress("", geteuid(), agent_id_, &address);
    const pid_t tool = fork();
    if (tool == 0) {
      const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      _exit(connect(fd, reinterpret_cast<sockaddr*>(&address), length));
    }
    int status = -1;
    EXPECT_EQ(waitpid(tool, &status, 0), tool);
    EXPECT_EQ(status, 0);
  }
  Pair* Talk() {
    Pair* pair = Seek();
    EXPECT_EQ(Next(pair->asking), ControlType::kBridge);
    ControlMessage hello;
    EXPECT_TRUE(WritePacket(pair->asking, hello));
    EXPECT_TRUE(TurnUntil([&] { return (pair->answering = AcceptFromDaemon()) >= 0; }));
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

}  // namespace xenloop
