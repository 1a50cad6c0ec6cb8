// Peers in other guests of the same Xen host: asking our guest's xenloopd for them, hearing their
// doorbells. To the rest of the agent such a peer is a channel like any other, behind a socket that
// the daemons of both guests bridge. What it may do is in preload/README.md, "Security".
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "channel/xen/xen_transport.h"
#include "discovery/peer_table.h"
#include "preload/agent/agent_state.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

constexpr const char* kDaemonSocket = "/run/xenloop/daemon.sock";
constexpr uint64_t kLookAgainNs = 1000000000;  // for a daemon that was not there

// A guest that rings for nothing costs us a wake-up each time: so many in a period, then its
// doorbell is left silent until the period ends.
constexpr uint32_t kMostRings = 2000;
constexpr uint64_t kPeriodNs = 100000000;

PeerTable table;
uint64_t next_look_ns = 0;
int devices[kXenDescriptors] = {-1, -1, -1};
uint64_t period_end_ns = 0;
bool silenced = false;
// One more with each suspension without notice, which costs descriptors that cannot be closed.
constexpr uint32_t kMostLives = 64;
uint32_t life = 0;
bool started = false;

bool HaveTable() {
  if (table.is_open()) return true;
  const uint64_t now = sys::MonotonicNs();
  if (now < next_look_ns) return false;
  next_look_ns = now + kLookAgainNs;
  if (table.Open() == 0) return true;
  if (!RunsOnXen()) next_look_ns = ~0ull;
  return false;
}

// The daemon's descriptors become ours. It keeps copies: an event channel's last descriptor must
// not be closed after the guest has been resumed elsewhere unprepared (the kernel dies of that).
bool TakeDevices(Ticket* ticket) {
  if (devices[kEvtchn] >= 0) return true;
  if (life > kMostLives) return false;
  for (int i = 0; i < kXenDescriptors; ++i) {
    if (ticket->fds[i] < 0) return false;
  }
  // Of a process that is killed the kernel lets go of the highest number first. That must be the
  // one that grants: it clears the byte for which the peer looks when the others' end rings.
  int highest = -1;
  for (const int i : {kGntdev, kEvtchn, kGntalloc}) {
    const bool ours = devices[i] >= 0;  // outlives a suspension: pages of our own
    if (ours) FdTable::Clear(devices[i]);
    devices[i] = MakePrivate(ours ? devices[i] : ticket->fds[i], i == kGntalloc ? highest : -1);
    if (devices[i] > highest) highest = devices[i];
    if (!ours) ticket->fds[i] = -1;
  }
  for (const int fd : devices) {
    if (fd < 0) return false;
  }
  UseXenDescriptors(devices);
  if (!started) StartXenTransport(KernelXenCalls(), GrantLimitPages());
  started = true;
  return Watch(devices[kEvtchn], WatchKind::kXenEvents, 0, 0, EPOLLIN, false) == 0;
}

template <typename Visit>
void EachSideOf(uint32_t channel, Visit visit) {
  uint32_t left = agent.channels[channel].sides;
  if (left == 0) return;
  AnySlot([&](uint32_t slot) {
    const AgentSide& note = agent.sides[slot];
    if (note.stage == Stage::kNone || note.channel != channel) return false;
    visit(slot);
    return --left == 0;
  });
}

// The peer has published, consumed or sealed something. Its ring means: look. It has taken the
// sleepers' bit away; who is not counted yet will find that his word has changed, and not sleep.
void WakeSidesOf(uint32_t channel) {
  EachSideOf(channel, [](uint32_t slot) {
    const AgentSide& note = agent.sides[slot];
    const Side* side = SideAt(slot);
    if (note.stage != Stage::kAttached) return;
    const Fifo& theirs = note.theirs.fifo;
    if (side->blocked_calls.load(std::memory_order_acquire) > 0 &&
        (theirs.AvailableBytes() > 0 || theirs.Sealed()))
      WakeOwnSleepers(theirs, theirs.header->consumer_waiting);
    const Fifo& mine = note.mine.fifo;
    if (side->blocked_sends.load(std::memory_order_acquire) > 0 && ProducerIsMeant(mine))
      WakeOwnSleepers(mine, mine.header->producer_waiting);
  });
}

uint32_t ChannelOfPort(uint32_t port) {
  for (uint32_t i = 0; i < kMaxChannels; ++i) {
    const Channel& channel = agent.channels[i];
    if (channel.in_use && channel.life == life && DoorbellOf(channel).port == port) return i;
  }
  return kNoChannel;
}

// For xenloopd to keep a copy of.
void HandOver(Channel& channel, int device) {
  ControlMessage keep;
  keep.type = ControlType::kKeep;
  SendControl(channel, keep, &devices[device], 1);
}

}  // namespace

long ConnectToDaemon() {
  const long fd =
      sys::MakeDescriptor(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, kDaemonSocket);
  const long result = sys::Call(SYS_connect, fd, reinterpret_cast<long>(&address), sizeof address);
  if (result == 0) return fd;
  sys::Close(static_cast<int>(fd));
  return result;
}

bool SeekOnXen(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  Peer peer;
  if (!HaveTable() || !table.Find(note.tuple.peer.address, &peer) ||
      peer.domid == table.own_domid())
    return false;
  const long fd = ConnectToDaemon();
  const uint32_t channel = fd < 0 ? kNoChannel : AdoptChannel(static_cast<int>(fd));
  if (channel == kNoChannel) {
    side->reason.store(fd == -EACCES ? Reason::kDaemonForbids : Reason::kDaemonSilent,
                       std::memory_order_relaxed);
    return true;
  }
  ControlMessage seek;
  seek.type = ControlType::kSeek;
  seek.sender_slot = slot;
  seek.sender_generation = note.generation;
  seek.tuple = Reversed(note.tuple);
  if (agent.channels[channel].uid != 0 ||
      SendControl(agent.channels[channel], seek, nullptr, 0) != 0) {
    ChannelGone(channel);
    side->reason.store(Reason::kDaemonSilent, std::memory_order_relaxed);
    return true;
  }
  note.channel = channel;
  ++agent.channels[channel].sides;
  note.stage = Stage::kWaiting;
  side->reason.store(Reason::kAskingGuest, std::memory_order_relaxed);
  return true;
}

bool OnBridge(uint32_t index, const ControlMessage& message, Ticket* ticket) {
  Channel& channel = agent.channels[index];
  const bool had_devices = devices[kEvtchn] >= 0;
  if (channel.uid != 0 || channel.ready || channel.domid != kOwnKernel || !HaveTable() ||
      !TakeDevices(ticket))
    return false;
  // What came with this talk is not used: the daemon's copy is to be of what is.
  if (had_devices) HandOver(channel, kEvtchn);
  channel.domid = message.domid;
  channel.life = life;
  if (message.agent_id == 0) return true;  // we were sought: the other end speaks first
  // What we have sought may be held by an agent that we know.
  for (uint32_t known = 0; known < kMaxChannels; ++known) {
    const Channel& other = agent.channels[known];
    if (known == index || !other.in_use || other.fd < 0 || other.leaving || other.life != life ||
        other.domid != message.domid || other.agent_id != message.agent_id)
      continue;
    EachSideOf(index, [known](uint32_t slot) {
      AgentSide& note = agent.sides[slot];
      LeaveChannel(note);
      note.channel = known;
      ++agent.channels[known].sides;
    });
    if (other.ready) ChannelReady(known);
    return false;
  }
  channel.agent_id = message.agent_id;
  const int error = SendHello(channel);
  if (error == -ENOSPC) EachSideOf(index, [](uint32_t slot) { Abandon(slot, Reason::kNoGrants); });
  return error == 0;
}

bool GuestMayHold(const Channel& channel, const Tuple& tuple) {
  Peer peer;
  return HaveTable() && table.Find(tuple.peer.address, &peer) && peer.domid == channel.domid;
}

void XenEvents() {
  constexpr int kMostAtOnce = 64;
  const uint64_t now = sys::MonotonicNs();
  if (now >= period_end_ns) {
    ForgiveRinging();
    period_end_ns = now + kPeriodNs;
    for (Channel& channel : agent.channels) channel.events = 0;
  }
  for (int i = 0; i < kMostAtOnce; ++i) {
    const int port = NextXenEvent();
    if (port < 0) break;
    const uint32_t channel = ChannelOfPort(static_cast<uint32_t>(port));
    if (channel != kNoChannel) {
      if (OwnerIsDead(DoorbellOf(agent.channels[channel])) && agent.channels[channel].fd >= 0) {
        // Killed: its kernel says so before its daemon and its TCP connections do.
        UnmaskXenEvent(static_cast<uint32_t>(port));
        ChannelGone(channel);
        continue;
      }
      WakeSidesOf(channel);
      if (++agent.channels[channel].events > kMostRings) {
        silenced = true;
        continue;
      }
    }
    UnmaskXenEvent(static_cast<uint32_t>(port));
  }
  RingOwnDoorbell();
}

int ForgiveRinging() {
  if (!silenced) return -1;
  const uint64_t now = sys::MonotonicNs();
  if (now < period_end_ns) return static_cast<int>((period_end_ns - now) / 1000000) + 1;
  silenced = false;
  for (Channel& channel : agent.channels) {
    if (channel.in_use && channel.life == life && channel.events > kMostRings)
      UnmaskXenEvent(DoorbellOf(channel).port);
    channel.events = 0;
  }
  return -1;
}

// Ports and mappings belong to a life that is over. Not a descriptor of it is closed, nor a port
// unbound: the kernel would stop, or end what has the same number in this life. xenloopd keeps
// copies for when we end. The next talk brings new ones; our own granted pages are ours still.
void NoticeSuspension(Channel& channel) {
  if (channel.life != life || devices[kEvtchn] < 0) return;
  Log("this guest was suspended without notice");
  ++life;
  HandOver(channel, kEvtchn);
  HandOver(channel, kGntdev);
  sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, devices[kEvtchn], 0);
  devices[kEvtchn] = devices[kGntdev] = -1;
  UseXenDescriptors(devices);
  ForgetXenGrants();
}

void AddOwnPage(DoorbellPage* page) {
  const uint32_t count = agent_shared.own_page_count.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    if (agent_shared.own_pages[i] == page) return;
  }
  if (count == kMostGuests) return;  // the transport has no more
  agent_shared.own_pages[count] = page;
  // release: pairs with AddSleeper; the page before the count.
  agent_shared.own_page_count.store(count + 1, std::memory_order_release);
}

void ForgetXen() {
  agent_shared.own_page_count.store(0, std::memory_order_relaxed);
  for (Channel& channel : agent.channels) {
    // Nothing leads there any more (AgentBeforeFork), and it is not mapped in a child.
    if (channel.domid != kOwnKernel) Renew(channel);
  }
  for (int& fd : devices) {
    if (fd >= 0) ClosePrivate(fd);
    fd = -1;
  }
  ForgetXenTransport();
  started = false;
  silenced = false;
}

void FormatXenBudget(char* text, size_t capacity) {
  text[0] = '\0';
  if (devices[kEvtchn] < 0) return;
  const XenBudget budget = CurrentXenBudget();
  snprintf(text, capacity,
           ",\"xen\":{\"domid\":%u,\"granted_pages\":%u,\"may_grant_pages\":%u,"
           "\"guest_limit_pages\":%u,\"event_channels\":%u}",
           table.own_domid(), budget.used_pages, budget.share_pages, budget.limit_pages,
           budget.ports);
}

}  // namespace xenloop
