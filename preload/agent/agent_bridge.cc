// A peer behind a daemon: asking our guest's xenloopd for peers in other guests, and what it says
// of them. To the rest of the agent such a peer is a talk like any other, behind a socket that
// the daemons of both guests bridge; what carries its bytes is a transport with devices
// (devices.h). What such a peer may do is in preload/README.md, "Security".
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <iterator>

#include "channel/base/descriptor.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/devices.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"

namespace xenloop {
namespace {

// The wiring: a BRIDGE names a transport by its place here.
constexpr const Devices& (*kBehindDaemons[])() = {XenDevices};

constexpr const char* kDaemonSocket = "/run/xenloop/daemon.sock";
constexpr uint64_t kLookAgainNs = kNsPerSecond;  // for a daemon that was not there

bool HaveTable() {
  if (agent.table.is_open()) return true;
  const uint64_t now = AgentNs();
  if (now < agent.table_look_at_ns) return false;
  agent.table_look_at_ns = now + kLookAgainNs;
  if (agent.table.Open() == 0) return true;
  bool possible = false;
  for (const auto devices : kBehindDaemons) possible = possible || devices().possible();
  if (!possible) agent.table_look_at_ns = ~0ull;
  return false;
}

}  // namespace

const Devices* DevicesOf(uint64_t which) {
  return which < std::size(kBehindDaemons) ? &kBehindDaemons[which]() : nullptr;
}

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

bool SeekBehindDaemon(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  Peer peer;
  if (!HaveTable() || !agent.table.Find(note.tuple.peer.address, &peer) ||
      peer.domid == agent.table.own_domid())
    return false;
  const long fd = ConnectToDaemon();
  const uint32_t talk = fd < 0 ? kNoTalk : AdoptTalk(static_cast<int>(fd));
  if (talk == kNoTalk) {
    side->reason.store(fd == -EACCES ? Reason::kDaemonForbids : Reason::kDaemonSilent,
                       std::memory_order_relaxed);
    return true;
  }
  ControlMessage seek;
  seek.type = ControlType::kSeek;
  seek.sender_slot = slot;
  seek.sender_generation = note.generation;
  seek.tuple = Reversed(note.tuple);
  if (agent.talks[talk].uid != 0 || SendControl(agent.talks[talk], seek, nullptr, 0) != 0) {
    TalkGone(talk);
    side->reason.store(Reason::kDaemonSilent, std::memory_order_relaxed);
    return true;
  }
  note.talk = talk;
  ++agent.talks[talk].sides;
  note.stage = Stage::kWaiting;
  side->reason.store(Reason::kAskingGuest, std::memory_order_relaxed);
  return true;
}

bool OnBridge(uint32_t index, const ControlMessage& message, Ticket* ticket) {
  Talk& talk = agent.talks[index];
  const Devices* const devices = DevicesOf(message.words[0]);
  if (talk.uid != 0 || talk.ready || IsBridged(talk) || devices == nullptr || !HaveTable() ||
      !devices->take(talk, ticket))
    return false;
  talk.devices = devices;
  talk.transport = &devices->transport();
  talk.fifo_bytes = devices->fifo_bytes();
  talk.guest = message.domid;
  talk.life = devices->life();
  if (message.agent_id == 0) return true;  // we were sought: the other end speaks first
  // What we have sought may be held by an agent that we know.
  for (uint32_t known = 0; known < kMaxTalks; ++known) {
    const Talk& other = agent.talks[known];
    if (known == index || !other.in_use || other.fd < 0 || other.leaving ||
        other.devices != devices || other.life != talk.life || other.guest != message.domid ||
        other.agent_id != message.agent_id)
      continue;
    EachSideOf(index, [known](uint32_t slot) {
      AgentSide& note = agent.sides[slot];
      LeaveTalk(note);
      note.talk = known;
      ++agent.talks[known].sides;
    });
    if (other.ready) TalkReady(known);
    return false;
  }
  talk.agent_id = message.agent_id;
  const int error = SendHello(talk);
  if (error == -ENOSPC) EachSideOf(index, [](uint32_t slot) { Abandon(slot, Reason::kNoGrants); });
  return error == 0;
}

bool OnLeave(uint32_t index, const ControlMessage& message) {
  Talk& talk = agent.talks[index];
  if (!IsBridged(talk) || talk.uid != 0) return false;  // our own xenloopd's word
  if (message.refusal == static_cast<uint32_t>(RefusalReason::kSuspended)) {
    talk.devices->suspended(talk);
    return true;
  }
  LeavePeer(index, ReasonOfRefusal(message.refusal));
  return true;
}

bool GuestMayHold(const Talk& talk, const Tuple& tuple) {
  Peer peer;
  return HaveTable() && agent.table.Find(tuple.peer.address, &peer) && peer.domid == talk.guest;
}

// The peer has taken the sleepers' bit away. A thread that has not counted itself yet will find its
// word changed, and not sleep.
void WakeSidesOf(uint32_t talk) {
  EachSideOf(talk, [](uint32_t slot) {
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

int WatchDevices(const Devices& devices, int fd) {
  uint32_t which = 0;
  while (&kBehindDaemons[which]() != &devices) ++which;
  return Watch(fd, WatchKind::kDevices, which, 0, EPOLLIN);
}

void DeviceEvents(uint32_t which) { DevicesOf(which)->events(); }

uint64_t LookAtDevices(uint64_t now) {
  uint64_t first = kNotAgain;
  for (const auto devices : kBehindDaemons) {
    const uint64_t pause = devices().due(now);
    if (pause < first) first = pause;
  }
  return first;
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

void ForgetBridges() {
  for (Talk& talk : agent.talks) {
    // Nothing leads there any more (AgentBeforeFork), and it is not mapped in a child.
    if (IsBridged(talk)) Renew(talk);
  }
  for (const auto devices : kBehindDaemons) devices().forget();
}

void DescribeDevices(char* text, size_t capacity) {
  text[0] = '\0';
  for (const auto devices : kBehindDaemons) {
    const size_t length = strlen(text);
    devices().describe(agent.table.own_domid(), text + length, capacity - length);
  }
}

}  // namespace xenloop
