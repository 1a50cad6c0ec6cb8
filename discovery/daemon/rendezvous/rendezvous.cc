// See rendezvous.h.
#include "discovery/daemon/rendezvous/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "channel/xen/xen_transport.h"
#include "discovery/daemon/rendezvous/event_channels.h"
#include "discovery/daemon/xenstore/keys.h"
#include "discovery/owner.h"

namespace xenloop {
namespace {

constexpr int kRetryMs = 1000;
constexpr int kMostEventsAtOnce = 64;
constexpr char kGroup[] = "xenloop";

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat(what, ": ", strerror(errno)));
}

}  // namespace

Rendezvous::Rendezvous(RendezvousPlaces places)
    : places_(std::move(places)), positions_([this](const Tuple& tuple) {
        uid_t uid = 0;
        uint64_t agent_id = 0;
        return ConnectToHolder(tuple, &registry_, &uid, &agent_id);
      }) {}

absl::Status Rendezvous::OpenXen() {
  if (!places_.open_devices(devices_)) return Failed("devices of Xen");
  events_ = devices_[kEvtchn];
  const XenCalls* const calls = DaemonXenCalls();
  if (calls == nullptr)
    return absl::FailedPreconditionError("no libxenevtchn.so.1 (apt install libxenevtchn1)");
  UseDaemonXenDescriptors(devices_);
  StartXenTransport(*calls, GrantLimitPages());
  return absl::OkStatus();
}

absl::Status Rendezvous::Open() {
  Reason reason = Reason::kNone;
  if (registry_.Open(places_.registry.c_str(), geteuid(), &reason) != 0)
    return absl::InternalError(absl::StrCat("registry: ", ReasonText(reason)));
  const std::string path = places_.directory + "/daemon.sock";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return absl::InvalidArgumentError(path);
  std::strcpy(address.sun_path, path.c_str());
  unlink(path.c_str());
  listener_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ < 0 ||
      bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_, 64) != 0)
    return Failed(path);
  // Who gets descriptors of the Xen drivers can map whatever is granted to this guest: the members
  // of one group, who trust each other.
  const group* members = getgrnam(kGroup);
  if (members != nullptr && chown(path.c_str(), 0, members->gr_gid) != 0) return Failed(path);
  if (chmod(path.c_str(), members != nullptr ? 0660 : 0600) != 0) return Failed(path);
  const absl::Status asking =
      places_.position_port == 0 ? absl::OkStatus() : positions_.Open(places_.position_port);
  if (!asking.ok()) {
    places_.log(absl::StrCat("after a suspension without notice peers cannot be asked: ",
                             asking.message()));
  }
  return absl::OkStatus();
}

absl::Status Rendezvous::Connect() {
  if (!peers_.is_open()) {
    const int error = peers_.Open((places_.directory + "/peers").c_str(), geteuid());
    if (error != 0) return absl::UnavailableError(absl::StrCat("peers: ", strerror(-error)));
  }
  if (peers_.own_domid() == kNoDomid) return absl::UnavailableError("our domid is not known yet");
  absl::StatusOr<std::unique_ptr<XenStore>> store = places_.open_store();
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  sequence_ = ~uint64_t{0};
  static_cast<void>(store_->Remove("data/xenloop-link"));  // of a former daemon
  static_cast<void>(store_->Remove(kWaitingKey));
  waiting_told_.clear();
  if (absl::Status status = store_->Watch(kPrepareKey); !status.ok()) return status;
  FollowMove();
  return absl::OkStatus();
}

void Rendezvous::Disconnect(const absl::Status& why) {
  places_.log(absl::StrCat("rendezvous: ", why.message()));
  while (!bridges_.empty()) End(&bridges_.front(), false);
  links_.clear();
  ending_.clear();
  store_.reset();
}

Link* Rendezvous::LinkTo(uint32_t domid) {
  const auto found = links_.find(domid);
  return found == links_.end() || !found->second->stands() ? nullptr : found->second.get();
}

Bridge* Rendezvous::Find(uint32_t domid, uint32_t number) {
  for (Bridge& bridge : bridges_) {
    if (bridge.domid == domid && bridge.number == number) return &bridge;
  }
  return nullptr;
}

// The talk ends; the agent here sees its socket closed.
void Rendezvous::End(Bridge* bridge, bool tell) {
  Link* link = LinkTo(bridge->domid);
  if (tell && link != nullptr) link->Send(FrameType::kClose, bridge->number, nullptr, 0);
  positions_.Forget(bridge->fd);
  CloseBridge(bridge);
  bridges_.remove_if([bridge](const Bridge& other) { return &other == bridge; });
}

void Rendezvous::Refuse(Bridge* bridge, RefusalReason reason) {
  ControlMessage answer;
  answer.type = ControlType::kRefuse;
  answer.refusal = static_cast<uint32_t>(reason);
  answer.receiver_slot = bridge->seek.sender_slot;
  answer.receiver_generation = bridge->seek.sender_generation;
  WritePacket(bridge->fd, answer);
}

void Rendezvous::DropLink(uint32_t domid) {
  for (auto i = bridges_.begin(); i != bridges_.end();) {
    Bridge* const bridge = &*i++;
    // Who has been told to leave is waited for.
    if (bridge->domid == domid && bridge->stage != BridgeStage::kLeaving) End(bridge, false);
  }
}

// One link to each guest that takes part; none while we are about to move.
void Rendezvous::FollowPeers() {
  ReadPeers();
  const std::set<uint32_t> nobody;
  const std::set<uint32_t>& wanted = moving_ != 0 ? nobody : wanted_;
  for (const auto& [domid, link] : links_) {
    if ((wanted.count(domid) == 0 || link->own() != peers_.own_domid()) &&
        ending_.count(domid) == 0)
      EndLink(domid);
  }
  FinishLinks();
  for (const uint32_t domid : wanted) {
    if (links_.count(domid) != 0) continue;
    auto link = std::make_unique<Link>(store_.get(), peers_.own_domid(), domid);
    if (absl::Status status = link->Start(); !status.ok()) {
      if (troubled_.insert(domid).second)  // tried again each turn, told once
        places_.log(absl::StrCat("link to domain ", domid, ": ", status.message()));
      continue;
    }
    troubled_.erase(domid);
    links_[domid] = std::move(link);
  }
}

void Rendezvous::ReadPeers() {
  if (peers_.sequence() == sequence_) return;
  const uint64_t now = peers_.sequence();
  std::vector<PeerTableRow> rows(kPeerTableCapacity);
  rows.resize(peers_.Snapshot(rows.data(), rows.size()));
  if (rows.empty() && !peers_.empty()) return;  // the table is being written
  sequence_ = now;
  wanted_.clear();
  for (const PeerTableRow& row : rows) wanted_.insert(row.peer.domid);
  wanted_.erase(peers_.own_domid());
}

void Rendezvous::FollowLinks() {
  for (auto& [domid, link] : links_) {
    if (ending_.count(domid) != 0) continue;
    const bool stood = link->stands();
    const uint32_t port = link->port();
    const absl::Status status = link->Follow();
    if (stood && (!link->stands() || link->port() != port)) DropLink(domid);
    if (!status.ok()) {
      places_.log(absl::StrCat("link to domain ", domid, ": ", status.message()));
    } else if (!stood && link->stands()) {
      places_.log(absl::StrCat("link to domain ", domid, " stands"));
      places_.look();
    }
  }
}

void Rendezvous::TakeEvents() {
  // A guest may ring faster than we listen.
  for (int i = 0; i < kMostEventsAtOnce; ++i) {
    const int port = NextXenEvent();
    if (port < 0) return;
    UnmaskXenEvent(static_cast<uint32_t>(port));
  }
}

void Rendezvous::Accept() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      accept_later_ = errno == EMFILE || errno == ENFILE;
      return;
    }
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (bridges_.size() >= kMostBridges ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
      close(fd);
      continue;
    }
    Bridge bridge;
    bridge.fd = fd;
    bridge.uid = credentials.uid;
    bridges_.push_back(bridge);
  }
}

void Rendezvous::Turn(int limit_ms) {
  if (store_ == nullptr) {
    if (const absl::Status status = Connect(); !status.ok()) {
      if (last_ != status.message()) places_.log(absl::StrCat("rendezvous: ", status.message()));
      last_ = std::string(status.message());
      store_.reset();
      poll(nullptr, 0, std::min(kRetryMs, limit_ms));
      return;
    }
    last_.clear();
  }
  NoticeSuspension();
  FollowPeers();
  // Who cannot be accepted yet is looked at by the clock: the listener would not let us sleep.
  std::vector<pollfd> waits = {{accept_later_ ? -1 : listener_, POLLIN, 0},
                               {events_, POLLIN, 0},
                               {store_->descriptor(), POLLIN, 0}};
  std::vector<Bridge*> order;
  for (Bridge& bridge : bridges_) {
    waits.push_back({bridge.fd, POLLIN, 0});
    order.push_back(&bridge);
  }
  positions_.AddWaits(&waits);
  poll(waits.data(), waits.size(), limit_ms);
  positions_.Turn();
  NoticeSuspension();
  if (order.size() != bridges_.size()) return;  // they are over
  // Agents first: none of them has been ended yet, so all these pointers are good. Ending one
  // touches no other.
  for (size_t i = 0; i < order.size(); ++i) {
    if (waits[i + 3].revents != 0) FromAgent(order[i]);
  }
  if (waits[0].revents != 0 || accept_later_) Accept();
  if (waits[1].revents != 0) TakeEvents();
  for (auto& [domid, link] : links_) {
    if (link->stands()) FromLink(link.get());
  }
  // Also without a word from the descriptor: our own requests may have brought events along.
  const absl::StatusOr<int> taken = store_->TakeEvents();
  if (!taken.ok()) return Disconnect(taken.status());
  if (*taken > 0) {
    FollowMove();
    FollowLinks();
  }
  TellWhoIsWaitedFor();
}

absl::Status StartRendezvous(RendezvousPlaces places) {
  constexpr int kLookMs = 200;                           // at the peer table
  auto* rendezvous = new Rendezvous(std::move(places));  // lives as long as the process
  if (absl::Status status = rendezvous->OpenXen(); !status.ok()) return status;
  if (absl::Status status = rendezvous->Open(); !status.ok()) return status;
  std::thread([rendezvous] {
    for (;;) rendezvous->Turn(kLookMs);
  }).detach();
  return absl::OkStatus();
}

}  // namespace xenloop
