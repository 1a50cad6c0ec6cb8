// How links and bridges end in order: because this guest is about to move (Dom0 says "prepare"), or
// because the peer leaves. Agents are told, and answer by closing when they have let go of all that
// leads to the other domain; when the last one has, the link itself ends. rendezvous.h.
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "discovery/daemon/rendezvous/rendezvous.h"
#include "discovery/daemon/xenstore/keys.h"

namespace xenloop {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kUsual{300};  // an answer that takes longer is worth a word

Rendezvous::~Rendezvous() {
  for (Bridge& bridge : bridges_) CloseBridge(&bridge);
  links_.clear();
  if (listener_ >= 0) close(listener_);
}

void Rendezvous::FollowMove() {
  const absl::StatusOr<std::string> text = store_->Read(kPrepareKey);
  if (absl::IsUnavailable(text.status())) return;
  const uint64_t token = text.ok() ? ParseMoveToken(*text).value_or(0) : 0;
  if (token == moving_) return;
  moving_ = token;
  ready_told_ = false;
  static_cast<void>(store_->Remove(kReadyKey));
  places_.log(token != 0 ? "this guest is about to move" : "this guest stays, or has arrived");
}

void Rendezvous::EndLink(uint32_t domid) {
  ending_.insert(domid);
  // A guest that was destroyed has no keys any more. What it has published is still to be read, so
  // its peers are not told to go back to TCP, from which nothing will come.
  const bool there = moving_ != 0 || !links_[domid]->PeerHasLeft();
  for (auto i = bridges_.begin(); i != bridges_.end();) {
    Bridge* const bridge = &*i++;
    if (bridge->domid != domid || bridge->stage == BridgeStage::kLeaving) continue;
    if (there) {
      Leave(bridge, Leaving::kByUs);
    } else {
      End(bridge, /*tell=*/false);
    }
  }
}

// May end the bridge. kByPeer: the daemon at the other end has asked; kPeerIsGone: the agent there
// is no more.
void Rendezvous::Leave(Bridge* bridge, Leaving why) {
  if (bridge->stage == BridgeStage::kLeaving) return;
  const bool moving = why != Leaving::kPeerIsGone;
  Link* link = LinkTo(bridge->domid);
  if (why == Leaving::kByUs && link != nullptr)
    link->Send(FrameType::kLeave, bridge->number, nullptr, 0);
  if (moving && bridge->stage == BridgeStage::kAsked) Refuse(bridge, RefusalReason::kMoving);
  if (bridge->stage != BridgeStage::kTalking) return End(bridge, /*tell=*/false);  // it has nothing
  bridge->stage = BridgeStage::kLeaving;
  bridge->told = Clock::now();
  ControlMessage leave;
  leave.type = ControlType::kLeave;
  leave.refusal = static_cast<uint32_t>(RefusalReason::kMoving);
  // Also an agent that does not read its packets is told, by the end of them.
  if (!moving || !WritePacket(bridge->fd, leave)) shutdown(bridge->fd, SHUT_WR);
}

// Of two guests that let go of each other at the same time each may wait for the other's word, so
// it is given before the link ends: the key's removal.
void Rendezvous::FinishLinks() {
  for (auto i = ending_.begin(); i != ending_.end();) {
    const uint32_t domid = *i;
    bool busy = false;
    for (const Bridge& bridge : bridges_) busy = busy || bridge.domid == domid;
    const auto link = links_.find(domid);
    if (!busy && link != links_.end() && moving_ != 0) {
      link->second->Withdraw();
      busy = !link->second->PeerHasLeft();
    }
    if (busy) {
      ++i;
      continue;
    }
    if (link != links_.end()) links_.erase(link);
    places_.log(absl::StrCat("link to domain ", domid, " has ended"));
    i = ending_.erase(i);
  }
  if (moving_ == 0 || ready_told_ || !links_.empty()) return;
  for (const Bridge& bridge : bridges_) {
    if (bridge.stage == BridgeStage::kTalking || bridge.stage == BridgeStage::kLeaving) return;
  }
  ready_told_ = store_->Write(kReadyKey, FormatMoveToken(moving_)).ok();
  if (ready_told_) places_.log("ready to move");
}

void Rendezvous::TellWhoIsWaitedFor() {
  std::string waiting;
  if (!ending_.empty() || !bridges_.empty()) {
    const Clock::time_point late = Clock::now() - kUsual;
    for (const Bridge& bridge : bridges_) {
      if (bridge.stage != BridgeStage::kLeaving || bridge.told > late) continue;
      if (waiting.size() > 1000) break;  // XenStore's values are short, and so is patience
      absl::StrAppend(&waiting, waiting.empty() ? "" : ", ", WhoIsBehind(bridge));
    }
  }
  if (waiting == waiting_told_) return;
  const absl::Status status =
      waiting.empty() ? store_->Remove(kWaitingKey) : store_->Write(kWaitingKey, waiting);
  if (status.ok()) waiting_told_ = waiting;
}

}  // namespace xenloop
