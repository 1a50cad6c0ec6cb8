// Xen's devices in the agent: the drivers' descriptors that xenloopd hands to this process, the
// events that come by them, and what becomes of both when the guest is suspended without notice.
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "channel/xen/xen_transport.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/devices.h"
#include "preload/settings/config.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

// A guest that rings for nothing costs us a wake-up each time: so many in a period, then its
// doorbell is left silent until the period ends.
constexpr uint32_t kMostRings = 2000;
constexpr uint64_t kPeriodNs = 100 * kNsPerMs;

// One more life with each suspension without notice, which costs descriptors that cannot be closed.
constexpr uint32_t kMostLives = 64;

struct State {
  int devices[kXenDescriptors] = {-1, -1, -1};
  uint64_t period_end_ns = 0;
  bool silenced = false;
  uint32_t life = 0;
  bool started = false;
};
State xen;

uint64_t FifoBytes() { return GetConfig().xen_fifo_bytes; }
uint32_t Life() { return xen.life; }

// For xenloopd to keep a copy of.
void HandOver(Talk& talk, int device) {
  ControlMessage keep;
  keep.type = ControlType::kKeep;
  SendControl(talk, keep, &xen.devices[device], 1);
}

// The daemon keeps copies: an event channel's last descriptor must not be closed after the guest
// has been resumed elsewhere unprepared (the kernel dies of that).
bool Take(Talk& talk, Ticket* ticket) {
  if (xen.devices[kEvtchn] >= 0) {
    // What came with this talk is not used: the daemon's copy is to be of what is.
    HandOver(talk, kEvtchn);
    return true;
  }
  if (xen.life > kMostLives) return false;
  for (int i = 0; i < kXenDescriptors; ++i) {
    if (ticket->fds[i] < 0) return false;
  }
  // Of a process that is killed the kernel lets go of the highest number first. That must be the
  // one that grants: it clears the byte for which the peer looks when the others' end rings.
  int highest = -1;
  for (const int i : {kGntdev, kEvtchn, kGntalloc}) {
    const bool ours = xen.devices[i] >= 0;  // outlives a suspension: pages of our own
    if (ours) FdTable::Clear(xen.devices[i]);
    xen.devices[i] =
        MakePrivate(ours ? xen.devices[i] : ticket->fds[i], i == kGntalloc ? highest : -1);
    if (xen.devices[i] > highest) highest = xen.devices[i];
    if (!ours) ticket->fds[i] = -1;
  }
  for (const int fd : xen.devices) {
    if (fd < 0) return false;
  }
  UseXenDescriptors(xen.devices);
  if (!xen.started) StartXenTransport(KernelXenCalls(), GrantLimitPages());
  xen.started = true;
  return WatchDevices(XenDevices(), xen.devices[kEvtchn]) == 0;
}

// Ports and mappings belong to a life that is over. Not a descriptor of it is closed, nor a port
// unbound: the kernel would stop, or end what has the same number in this life. xenloopd keeps
// copies for when we end. The next talk brings new ones; our own granted pages are ours still.
void Suspended(Talk& talk) {
  if (talk.life != xen.life || xen.devices[kEvtchn] < 0) return;
  Log("this guest was suspended without notice");
  ++xen.life;
  HandOver(talk, kEvtchn);
  HandOver(talk, kGntdev);
  sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, xen.devices[kEvtchn], 0);
  xen.devices[kEvtchn] = xen.devices[kGntdev] = -1;
  UseXenDescriptors(xen.devices);
  ForgetXenGrants();
}

bool IsOfXen(const Talk& talk) {
  return talk.in_use && talk.transport == &XenTransport() && talk.life == xen.life;
}

uint32_t TalkOfPort(uint32_t port) {
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    const Talk& talk = agent.talks[i];
    if (IsOfXen(talk) && XenPortOf(DoorbellOf(talk)) == port) return i;
  }
  return kNoTalk;
}

uint64_t ForgiveRinging(uint64_t now) {
  if (!xen.silenced) return kNotAgain;
  if (now < xen.period_end_ns) return xen.period_end_ns - now;
  xen.silenced = false;
  for (Talk& talk : agent.talks) {
    if (IsOfXen(talk) && talk.events > kMostRings) UnmaskXenEvent(XenPortOf(DoorbellOf(talk)));
    talk.events = 0;
  }
  return kNotAgain;
}

void Events() {
  constexpr int kMostAtOnce = 64;
  const uint64_t now = AgentNs();
  if (now >= xen.period_end_ns) {
    ForgiveRinging(now);
    xen.period_end_ns = now + kPeriodNs;
    for (Talk& talk : agent.talks) talk.events = 0;
  }
  for (int i = 0; i < kMostAtOnce; ++i) {
    const int port = NextXenEvent();
    if (port < 0) break;
    const uint32_t talk = TalkOfPort(static_cast<uint32_t>(port));
    if (talk != kNoTalk) {
      if (XenOwnerIsDead(DoorbellOf(agent.talks[talk])) && agent.talks[talk].fd >= 0) {
        // Killed: its kernel says so before its daemon and its TCP connections do.
        UnmaskXenEvent(static_cast<uint32_t>(port));
        TalkGone(talk);
        continue;
      }
      WakeSidesOf(talk);
      if (++agent.talks[talk].events > kMostRings) {
        xen.silenced = true;
        agent.timers.StartWithin(Timer::kDevices, now, xen.period_end_ns - now);
        continue;
      }
    }
    UnmaskXenEvent(static_cast<uint32_t>(port));
  }
  RingOwnDoorbell();
}

void Forget() {
  for (const int fd : xen.devices) {
    if (fd >= 0) ClosePrivate(fd);
  }
  ForgetXenTransport();
  xen = State{};
}

// Grants and event channels.
void Describe(uint32_t own_domid, char* text, size_t capacity) {
  text[0] = '\0';
  if (xen.devices[kEvtchn] < 0) return;
  const XenBudget budget = CurrentXenBudget();
  snprintf(text, capacity,
           ",\"xen\":{\"domid\":%u,\"granted_pages\":%u,\"may_grant_pages\":%u,"
           "\"guest_limit_pages\":%u,\"event_channels\":%u}",
           own_domid, budget.used_pages, budget.share_pages, budget.limit_pages, budget.ports);
}

constexpr Devices kXenDevices{XenTransport, FifoBytes, RunsOnXen,      Take,   Suspended,
                              Life,         Events,    ForgiveRinging, Forget, Describe};

}  // namespace

const Devices& XenDevices() { return kXenDevices; }

}  // namespace xenloop
