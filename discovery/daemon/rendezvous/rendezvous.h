// What xenloopd does for the programs of its guest: brings two agents in two guests together. An
// agent asks on DIR/daemon.sock for the holder of a connection's other end (SEEK); the daemon of
// that guest checks by sock_diag which user owns the socket there and finds that user's agent; from
// then on the daemons pass packets between the two agents' sockets. Runs in a thread of its own
// with its own connection to XenStore.
//
// What the daemons guarantee to agents: the domid in BRIDGE is that of the sender; an OFFER comes
// from a process whose user owns the socket at that end, and goes to one whose user owns it at
// this.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "channel/xen/xen_calls.h"
#include "discovery/daemon/rendezvous/bridge.h"
#include "discovery/daemon/rendezvous/link.h"
#include "discovery/daemon/rendezvous/position.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

struct RendezvousPlaces {
  std::string directory = "/run/xenloop";  // of the peer table and the socket
  std::string registry = "/dev/shm";
  std::function<absl::StatusOr<std::unique_ptr<XenStore>>()> open_store;
  std::function<void(const std::string&)> log;
  OpenDevices open_devices = OpenXenDevices;
  // There are new peers: the programs here may look for theirs.
  std::function<void()> look = [] {};
  uint16_t position_port = kPositionPort;  // UDP; 0: nobody is asked, and nobody answered
  // A descriptor that must stay open also when this process ends.
  std::function<void(int descriptor)> keep = [](int) {};
};

inline constexpr size_t kMostBridges = 4096;

class Rendezvous {
 public:
  explicit Rendezvous(RendezvousPlaces places);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  absl::Status OpenXen();  // tests have their own transport
  absl::Status Open();
  // Waits for an event, at most so long, and does what is to be done.
  void Turn(int limit_ms);

 private:
  absl::Status Connect();
  void Disconnect(const absl::Status& why);
  void FollowPeers();
  void ReadPeers();
  void FollowLinks();
  void DropLink(uint32_t domid);
  void TakeEvents();
  void Accept();
  void FromAgent(Bridge* bridge);
  void Seek(Bridge* bridge);
  void Ask(Bridge* bridge, const ControlMessage& question);
  void FromLink(Link* link);
  void Handle(Link* link, const Frame& frame);
  void OpenFor(Link* link, const Frame& frame);
  void End(Bridge* bridge, bool tell);
  void Refuse(Bridge* bridge, RefusalReason reason);
  Bridge* Find(uint32_t domid, uint32_t number);
  Link* LinkTo(uint32_t domid);

  // leaving.cc: letting go in order, before a move or because the peer goes
  void FollowMove();
  void EndLink(uint32_t domid);
  void FinishLinks();
  enum class Leaving { kByUs, kByPeer, kPeerIsGone };
  void Leave(Bridge* bridge, Leaving why);
  void TellWhoIsWaitedFor();

  // suspended.cc: this guest runs again, elsewhere, and nobody had told it
  void NoticeSuspension();
  void BeginNewLife();
  void KeepForGood(int descriptor);
  void Keep(Bridge* bridge, bool wanted, int descriptor);

  const RendezvousPlaces places_;
  PeerTable peers_;
  uint64_t sequence_ = ~uint64_t{0};
  Registry registry_;
  int listener_ = -1;
  bool accept_later_ = false;  // there was no descriptor for who waits there
  int events_ = -1;
  int devices_[kXenDescriptors] = {-1, -1, -1};
  std::unique_ptr<XenStore> store_;
  std::map<uint32_t, std::unique_ptr<Link>> links_;
  std::set<uint32_t> wanted_;    // who is in the peer table
  std::set<uint32_t> ending_;    // links whose bridges have been told to leave
  std::set<uint32_t> troubled_;  // links that could not be begun
  std::list<Bridge> bridges_;
  uint32_t next_number_ = 0;
  uint64_t moving_ = 0;  // the token of Dom0's "prepare"; 0: we stay
  bool ready_told_ = false;
  std::string waiting_told_;
  std::vector<int> kept_;  // of former lives
  PositionExchange positions_;
  std::string last_;
};

// Starts the thread; it runs until the process ends.
absl::Status StartRendezvous(RendezvousPlaces places);

}  // namespace xenloop
