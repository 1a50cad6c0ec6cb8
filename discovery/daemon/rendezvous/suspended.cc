// This guest was saved, moved or copied by somebody who told nobody, and runs again: the memory of
// other guests is gone, and so are the event channels. rendezvous.h.
//
// A port that was bound before must not be unbound, nor the last descriptor of it closed, nor a
// mapping ended that rings such a port: Linux stops for that (BUG in evtchn_release), or ends what
// has the same number now. So all descriptors of the former life stay open, here and, by `keep`,
// also when we end; and everything begins anew with fresh ones.
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "channel/xen/xen_transport.h"
#include "discovery/daemon/rendezvous/event_channels.h"
#include "discovery/daemon/rendezvous/rendezvous.h"

namespace xenloop {
namespace {

using Clock = std::chrono::steady_clock;
// What agents do when their talk ends may be to reset a connection. That is said once, and to
// nobody before the guest's network is back, which takes the kernel a moment.
constexpr std::chrono::seconds kNetworkIsBack{3};

}  // namespace

void Rendezvous::NoticeSuspension() {
  // All of them: one guest alone could make us believe it.
  size_t standing = 0, gone = 0;
  for (const auto& [domid, link] : links_) {
    standing += link->stands();
    gone += link->Gone();
  }
  if (gone > 0 && gone == standing) BeginNewLife();
  const Clock::time_point then = Clock::now() - kNetworkIsBack;
  for (auto i = bridges_.begin(); i != bridges_.end();) {
    Bridge* const bridge = &*i++;
    if (bridge->stage == BridgeStage::kOver && bridge->told < then) End(bridge, /*tell=*/false);
  }
}

void Rendezvous::BeginNewLife() {
  int fresh[kXenDescriptors];
  if (!places_.open_devices(fresh)) return;  // tried again with the next turn
  places_.log("this guest was suspended without notice");
  for (const int device : {kEvtchn, kGntdev}) {
    KeepForGood(devices_[device]);
    devices_[device] = fresh[device];
  }
  close(fresh[kGntalloc]);  // our own pages are still ours
  events_ = devices_[kEvtchn];
  UseDaemonXenDescriptors(devices_);
  ForgetXenGrants();
  links_.clear();
  ending_.clear();
  sequence_ = ~uint64_t{0};
  ControlMessage suspended;
  suspended.type = ControlType::kLeave;
  suspended.refusal = static_cast<uint32_t>(RefusalReason::kSuspended);
  for (auto i = bridges_.begin(); i != bridges_.end();) {
    Bridge* const bridge = &*i++;
    if (bridge->event_descriptor >= 0) KeepForGood(bridge->event_descriptor);
    bridge->event_descriptor = -1;
    bridge->stage = BridgeStage::kOver;
    bridge->domid = kNoDomid;
    bridge->told = Clock::now();
    if (!WritePacket(bridge->fd, suspended)) End(bridge, /*tell=*/false);
  }
}

// A descriptor that came from an agent.
void Rendezvous::Keep(Bridge* bridge, bool wanted, int descriptor) {
  constexpr int kOfEach = 2;  // event channels, mappings
  if (wanted && bridge->stage == BridgeStage::kOver && bridge->handed_over < kOfEach) {
    ++bridge->handed_over;
    KeepForGood(descriptor);
    return;
  }
  // The event channels that the agent uses may be those of an earlier talk.
  if (wanted && bridge->event_descriptor >= 0) std::swap(bridge->event_descriptor, descriptor);
  close(descriptor);
}

void Rendezvous::KeepForGood(int descriptor) {
  if (descriptor < 0) return;
  places_.keep(descriptor);
  kept_.push_back(descriptor);
}

}  // namespace xenloop
