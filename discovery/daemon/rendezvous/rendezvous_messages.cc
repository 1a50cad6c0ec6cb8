// See rendezvous.h: what the agents here and the other guests' daemons say, and whom it is passed
// on to.
#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "discovery/daemon/rendezvous/rendezvous.h"
#include "discovery/owner.h"

namespace xenloop {
namespace {

// Of those that one other guest has asked for: each costs descriptors, here and in the agent.
constexpr long kMostBridgesOfOne = 256;

}  // namespace

// Asks the guest in which the other end must be.
void Rendezvous::Seek(Bridge* bridge) {
  const Tuple here = Reversed(bridge->seek.tuple);
  Peer peer;
  uid_t owner = 0;
  Link* link = peers_.Find(here.peer.address, &peer) ? LinkTo(peer.domid) : nullptr;
  if (moving_ != 0 || ending_.count(peer.domid) != 0) return Refuse(bridge, RefusalReason::kMoving);
  if (link == nullptr) return Refuse(bridge, RefusalReason::kNotFound);
  if (OwnerOf(here, &owner) != 0 || (owner != bridge->uid && bridge->uid != 0))
    return Refuse(bridge, RefusalReason::kNotAllowed);
  bridge->domid = peer.domid;
  // Both daemons choose numbers: they differ in the lowest bit.
  bridge->number = next_number_++ << 1 | (peers_.own_domid() < peer.domid ? 1 : 0);
  link->Send(FrameType::kOpen, bridge->number, &bridge->seek, sizeof bridge->seek);
}

// By way of the network: the other end may be anywhere now.
void Rendezvous::Ask(Bridge* bridge, const ControlMessage& question) {
  uid_t owner = 0;
  if (OwnerOf(Reversed(question.tuple), &owner) == 0 && (owner == bridge->uid || bridge->uid == 0))
    positions_.Ask(bridge->fd, question);
}

void Rendezvous::FromAgent(Bridge* bridge) {
  for (;;) {
    ControlMessage message;
    int descriptor = -1;
    const bool over = bridge->stage == BridgeStage::kOver;
    const ssize_t n = ReadPacket(bridge->fd, &message, &descriptor);
    const bool keep = n > 0 && message.type == ControlType::kKeep;
    if (descriptor >= 0) Keep(bridge, keep, descriptor);
    if (n == -EAGAIN) return;
    if (n == -EPROTONOSUPPORT) WritePacket(bridge->fd, ControlMessage{});  // a HELLO: our version
    if (n <= 0) return End(bridge, !over);
    if (over || keep || bridge->stage == BridgeStage::kLeaving)
      continue;  // said before it heard; nobody listens
    Link* link = LinkTo(bridge->domid);
    if (bridge->stage == BridgeStage::kAsked && bridge->domid == kNoDomid &&
        message.type == ControlType::kSeek) {
      bridge->seek = message;
      Seek(bridge);
    } else if (bridge->stage == BridgeStage::kAsked && bridge->domid == kNoDomid &&
               message.type == ControlType::kWhere) {
      Ask(bridge, message);
    } else if (bridge->stage != BridgeStage::kTalking || link == nullptr ||
               !MayPass(*bridge, message, peers_, /*outgoing=*/true) ||
               !link->Send(FrameType::kPacket, bridge->number, &message, sizeof message)) {
      return End(bridge, true);
    }
  }
}

void Rendezvous::OpenFor(Link* link, const Frame& frame) {
  ControlMessage seek;
  if (frame.payload.size() != sizeof seek || Find(link->domid(), frame.bridge) != nullptr) return;
  const auto asked = std::count_if(bridges_.begin(), bridges_.end(), [link](const Bridge& bridge) {
    return bridge.domid == link->domid() && bridge.agent_id != 0;
  });
  const bool room = bridges_.size() < kMostBridges && asked < kMostBridgesOfOne;
  memcpy(&seek, frame.payload.data(), sizeof seek);
  Bridge bridge;
  Peer peer;
  // The other guest asks about a connection to one of its own addresses, or it lies.
  const bool moving = moving_ != 0 || ending_.count(link->domid()) != 0;
  const bool own =
      !moving && room && peers_.Find(seek.tuple.peer.address, &peer) && peer.domid == link->domid();
  bridge.fd = own ? ConnectToHolder(seek.tuple, &registry_, &bridge.uid, &bridge.agent_id) : -1;
  if (bridge.fd < 0) {
    const auto reason = static_cast<uint32_t>(moving  ? RefusalReason::kMoving
                                              : !room ? RefusalReason::kNoResources
                                                      : RefusalReason::kNotFound);
    link->Send(FrameType::kRefused, frame.bridge, &reason, sizeof reason);
    return;
  }
  bridge.stage = BridgeStage::kFound;
  bridge.domid = link->domid();
  bridge.number = frame.bridge;
  bridges_.push_back(bridge);
  link->Send(FrameType::kOpened, bridge.number, &bridge.agent_id, sizeof bridge.agent_id);
}

void Rendezvous::Handle(Link* link, const Frame& frame) {
  if (frame.type == FrameType::kOpen) return OpenFor(link, frame);
  Bridge* bridge = Find(link->domid(), frame.bridge);
  if (bridge == nullptr) return;                       // ended here meanwhile
  if (bridge->stage == BridgeStage::kLeaving) return;  // its agent's close is what counts
  ControlMessage message;
  switch (frame.type) {
    case FrameType::kOpened: {
      uint64_t agent_id = 0;
      if (bridge->stage != BridgeStage::kAsked || frame.payload.size() != sizeof agent_id) break;
      memcpy(&agent_id, frame.payload.data(), sizeof agent_id);
      if (agent_id == 0 || !GiveDevices(bridge, agent_id, places_.open_devices)) break;
      bridge->stage = BridgeStage::kTalking;
      return;
    }
    case FrameType::kRefused: {
      uint32_t reason = 0;
      if (frame.payload.size() == sizeof reason)
        memcpy(&reason, frame.payload.data(), sizeof reason);
      if (bridge->stage == BridgeStage::kAsked) Refuse(bridge, static_cast<RefusalReason>(reason));
      return End(bridge, false);
    }
    case FrameType::kPacket:
      if (bridge->stage == BridgeStage::kAsked || frame.payload.size() != sizeof message) break;
      memcpy(&message, frame.payload.data(), sizeof message);
      if (!MayPass(*bridge, message, peers_, /*outgoing=*/false)) break;
      if (bridge->stage == BridgeStage::kFound) {
        if (!GiveDevices(bridge, 0, places_.open_devices)) break;
        bridge->stage = BridgeStage::kTalking;
      }
      if (!WritePacket(bridge->fd, message)) break;
      return;
    case FrameType::kLeave:
      return Leave(bridge, Leaving::kByPeer);
    case FrameType::kClose:
      return Leave(bridge, Leaving::kPeerIsGone);
    default:
      return End(bridge, false);
  }
  End(bridge, true);
}

void Rendezvous::FromLink(Link* link) {
  std::vector<Frame> frames;
  const bool sound = link->Receive(&frames);
  for (const Frame& frame : frames) Handle(link, frame);
  link->Pump();
  if (sound || ending_.count(link->domid()) != 0) return;
  places_.log(absl::StrCat("link to domain ", link->domid(), " broke down"));
  DropLink(link->domid());
  static_cast<void>(link->Reset());
}

}  // namespace xenloop
