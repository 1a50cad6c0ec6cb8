// The talk between agents: connecting, accepting, packets in and out. Decides who is let in and
// which packets are well-formed; what they mean for a side is agent_stream.cc's business.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "channel/base/descriptor.h"
#include "channel/local/local_transport.h"
#include "discovery/protocol/descriptors.h"
#include "preload/agent/agent_park.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/devices.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr size_t kMostDescriptors = 4;
constexpr size_t kLongestQuestion = 64;

// What peers of other users may take of us. They can come as often as they like; each costs us two
// descriptors, out of those that a limit leaves us, and work of the one agent thread.
constexpr uint32_t kMostOfOthers = 256;
constexpr uint32_t kMostPacketsAtOnce = 16;

constexpr int kMostAcceptedAtOnce = 64;
constexpr uint64_t kAcceptAgainNs = 250 * kNsPerMs;

bool IsTrustedUser(uint32_t uid) { return uid == agent.uid || uid == 0; }

uint32_t MostOfOthers() {
  uint64_t limit[2] = {1024, 1024};
  constexpr long kDescriptors = 7;  // RLIMIT_NOFILE
  sys::Call(SYS_prlimit64, 0, kDescriptors, 0, reinterpret_cast<long>(limit));
  const uint64_t most = (limit[0] - static_cast<uint64_t>(sys::DescriptorBase())) / 8;
  return most < kMostOfOthers ? static_cast<uint32_t>(most) : kMostOfOthers;
}

// A place for one more peer of that other user: half of what all others may have is the most for
// one.
bool HasRoomForOther(uint32_t uid) {
  const uint32_t most = MostOfOthers();
  uint32_t all = 0;
  uint32_t same = 0;
  uint32_t idle = kNoTalk;
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    const Talk& talk = agent.talks[i];
    if (!talk.in_use || IsTrusted(talk)) continue;
    ++all;
    if (talk.uid != uid) continue;
    ++same;
    if (talk.sides == 0) idle = i;
  }
  if (all < most && same < (most + 1) / 2) return true;
  if (idle == kNoTalk) return false;
  TalkGone(idle);  // its own older talk makes room, nobody else's
  return true;
}

uint32_t FreeTalk() {
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (!agent.talks[i].in_use) return i;
  }
  ReleaseKeptTalks();
  // Make room: a talk that serves no stream can be had again at any time.
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (agent.talks[i].sides == 0 && !agent.talks[i].kept) {
      if (agent.talks[i].in_use) TalkGone(i);
      return i;
    }
  }
  return kNoTalk;
}

}  // namespace

uint32_t AdoptTalk(int fd) {
  const int moved = MakePrivate(fd);
  if (moved < 0) return kNoTalk;
  struct {
    int32_t pid;
    uint32_t uid;
    uint32_t gid;
  } credentials;
  socklen_t length = sizeof credentials;
  uint32_t index = kNoTalk;
  if (sys::Call(SYS_getsockopt, moved, SOL_SOCKET, SO_PEERCRED,
                reinterpret_cast<long>(&credentials), reinterpret_cast<long>(&length)) == 0 &&
      (IsTrustedUser(credentials.uid) || HasRoomForOther(credentials.uid))) {
    index = FreeTalk();
  }
  if (index == kNoTalk || Watch(moved, WatchKind::kTalk, index, 0, EPOLLIN) != 0) {
    ClosePrivate(moved);
    return kNoTalk;
  }
  Talk& talk = agent.talks[index];
  Renew(talk);
  talk.fd = moved;
  talk.watched = EPOLLIN;
  talk.in_use = true;
  talk.pid = talk.kernel_pid = credentials.pid;
  talk.uid = credentials.uid;
  talk.transport = &LocalTransport();
  talk.fifo_bytes = GetConfig().fifo_bytes;
  return index;
}

int SendHello(Talk& talk) {
  ControlMessage hello;
  hello.type = ControlType::kHello;
  hello.agent_id = agent.id;
  hello.netns_cookie = agent.netns_cookie;
  hello.pid = process_state.pid;
  const Transport& transport = *talk.transport;
  if (!transport.doorbell_per_peer) {
    const int fds[2] = {agent_shared.doorbell.fd, agent.page_fd};
    return SendControl(talk, hello, fds, 2);
  }
  Ticket ticket;
  ticket.peer = talk.guest;
  const int error = transport.create_doorbell(&DoorbellOf(talk), &ticket);
  if (error != 0) return error;
  AddOwnPage(DoorbellOf(talk).own_page);
  memcpy(hello.words, ticket.words, sizeof hello.words);
  return SendControl(talk, hello, nullptr, 0);
}

namespace {

void CloseAll(Ticket* ticket) {
  for (int& fd : ticket->fds) {
    if (fd >= 0) sys::Close(fd);
    fd = -1;
  }
}

bool BringsNothingWanted(uint32_t index, const ControlMessage& message) {
  switch (message.type) {
    case ControlType::kBell:
      return !WantsBell(index, message);
    case ControlType::kDatagramOffer:
      return ObjectionToDatagrams(index, message) != RefusalReason::kCount;
    case ControlType::kOffer:
      return ObjectionTo(index, message) != RefusalReason::kCount;
    case ControlType::kParkAsk:
    case ControlType::kParkJoin:
    case ControlType::kParkReady:
    case ControlType::kParkRefuse:
      return !WantsParkMessage(index, message);
    default:
      return false;
  }
}

// A descriptor that comes with a packet is for a moment the smallest free number, which the program
// may just have closed. So one that is not wanted is never taken: the packet is looked at first.
enum class Packet : uint8_t { kNone, kTakeAll, kTakeBytes };
Packet NextPacket(uint32_t index) {
  ControlMessage message;
  const long n = sys::Call(SYS_recvfrom, agent.talks[index].fd, reinterpret_cast<long>(&message),
                           sizeof message, MSG_DONTWAIT | MSG_PEEK, 0, 0);
  if (n == -EAGAIN || n == -EINTR) return Packet::kNone;
  return n == static_cast<long>(sizeof message) && BringsNothingWanted(index, message)
             ? Packet::kTakeBytes
             : Packet::kTakeAll;
}

// To take a descriptor is to have to close it, and a file system of the sender's own (FUSE) lets a
// close wait for ever, which not even a SIGKILL ends.
bool MayBringDescriptors(const Talk& talk) { return IsTrusted(talk) || SharesMemoryWith(talk.uid); }

// One packet. Its length (0: the other end is gone), or -errno. Descriptors beyond a ticket's
// are closed; without a ticket the kernel drops them all.
ssize_t ReceivePacket(int fd, void* buffer, size_t capacity, Ticket* ticket) {
  DescriptorRoom<kMostDescriptors> room;
  iovec iov{buffer, capacity};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (ticket == nullptr) {
    return sys::Call(SYS_recvmsg, fd, reinterpret_cast<long>(&message),
                     MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  }
  room.ForReceiving(&message);
  const sys::LowNumber low;
  const long n =
      sys::Call(SYS_recvmsg, fd, reinterpret_cast<long>(&message), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  size_t taken = 0;
  EachDescriptorIn(message, [&](int passed) {
    if (taken < kTicketDescriptors) {
      ticket->fds[taken++] = static_cast<int>(sys::MoveUp(passed, sys::DescriptorBase()));
    } else {
      sys::Close(passed);
    }
  });
  return n;
}

// Our sides whose other end that agent has published, and which wait for its offer.
void TellWaitingSides(const Talk& talk, uint64_t agent_id, Reason reason) {
  EachSlot([&](uint32_t slot) {
    Side* side = SideAt(slot);
    if (agent.sides[slot].stage != Stage::kPublished ||
        side->reason.load(std::memory_order_relaxed) != Reason::kWaitingForOffer)
      return;
    uint64_t ids[4];
    const Tuple theirs = Reversed(agent.sides[slot].tuple);
    const size_t found = agent.registry.Lookup(talk.uid, HashOf(theirs), ids, 4);
    for (size_t i = 0; i < found; ++i) {
      if (ids[i] == agent_id) side->reason.store(reason, std::memory_order_relaxed);
    }
  });
}

// The talk is to be closed. Who has come to us hears our version first, so that both ends have the
// reason.
void MeetOtherVersion(uint32_t index, const ControlMessage& message) {
  Talk& talk = agent.talks[index];
  if (talk.agent_id == 0) {
    ControlMessage hello;
    hello.type = ControlType::kHello;
    SendControl(talk, hello, nullptr, 0);
    if (MayBringDescriptors(talk)) TellWaitingSides(talk, message.agent_id, Reason::kOtherVersion);
  }
  // Nobody but the daemon is asked on behalf of a side before it has said who it is.
  const bool daemon = talk.agent_id == 0 && talk.sides != 0;
  const Reason reason = daemon ? Reason::kDaemonOtherVersion : Reason::kOtherVersion;
  EachSideOf(index, [reason](uint32_t slot) { Abandon(slot, reason); });
}

// The talk is to be closed: we share no memory with that user. What its agent cannot know is said
// to it.
void TurnAway(Talk& talk) {
  ControlMessage answer;
  answer.type = ControlType::kRefuse;
  answer.refusal = static_cast<uint32_t>(RefusalReason::kNotAllowed);
  answer.receiver_slot = kEverySlot;
  SendControl(talk, answer, nullptr, 0);
}

// False: the packet breaks the protocol, the talk is to be closed.
bool HandlePacket(uint32_t index, const ControlMessage& message, Ticket* ticket) {
  Talk& talk = agent.talks[index];
  if (message.magic != kControlMagic) return false;
  ticket->peer = talk.guest;
  memcpy(ticket->words, message.words, sizeof ticket->words);
  if (message.type == ControlType::kHello) {
    if (talk.ready) return false;
    if (!MayBringDescriptors(talk)) {
      TurnAway(talk);
      return false;
    }
    Doorbell& bell = DoorbellOf(talk);
    if (talk.transport->map_doorbell(ticket, &bell) != 0) return false;
    if (bell.owns_fd) bell.fd = MakePrivate(bell.fd);
    if (bell.fd < 0) return false;
    // An accepted talk answers the HELLO with its own before anything else. Not before it has
    // taken what came: an event channel is made by one end and bound by the other.
    if (talk.agent_id == 0 && SendHello(talk) != 0) return false;
    talk.ready = true;
    talk.agent_id = message.agent_id;
    talk.netns_cookie = message.netns_cookie;
    if (IsBridged(talk)) talk.pid = message.pid;
    TalkReady(index);
    return true;
  }
  if (message.type == ControlType::kBridge) return OnBridge(index, message, ticket);
  if (message.type == ControlType::kLeave) return OnLeave(index, message);
  if (message.type == ControlType::kWhere) return OnWhere(index, message);
  if (message.type == ControlType::kStands) return OnStands(index, message);
  // A SEEK that found nobody is refused before there is a talk.
  if (!talk.ready && message.type != ControlType::kRefuse) return false;
  switch (message.type) {
    case ControlType::kOffer:
      OnOffer(index, message, ticket);
      return true;
    case ControlType::kJoin:
      OnJoin(index, message, ticket);
      return true;
    case ControlType::kRefuse:
      OnRefuse(index, message);
      return true;
    case ControlType::kSealed:
      OnSealed(index, message);
      return true;
    case ControlType::kBell:
      return OnBell(index, message, ticket);
    case ControlType::kDatagramOffer:
    case ControlType::kDatagramJoin:
    case ControlType::kDatagramRefuse:
    case ControlType::kDatagramSealed:
      return OnDatagramMessage(index, message, ticket);
    case ControlType::kParkAsk:
    case ControlType::kParkJoin:
    case ControlType::kParkReady:
    case ControlType::kParkRefuse:
      return OnParkMessage(index, message, ticket);
    default:
      return false;
  }
}

}  // namespace

// Without a free descriptor the listener would stay readable and keep us running; it is watched for
// edges, and who waits there is looked at again by the clock.
void AcceptTalks() {
  agent.timers.Stop(Timer::kListener);
  for (int i = 0; i < kMostAcceptedAtOnce; ++i) {
    const int fd = MakePrivateBy(SYS_accept4, agent.listen_fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd == -EAGAIN) return;
    if (fd < 0) return agent.timers.StartWithin(Timer::kListener, AgentNs(), kAcceptAgainNs);
    AdoptTalk(fd);
    // The other end speaks first: a HELLO of an agent, or a tool's question.
  }
  agent.timers.StartWithin(Timer::kListener, AgentNs(), 0);
}

bool SharesMemoryWith(uint32_t uid) {
  const OtherUsers others = GetConfig().other_users;
  return IsTrustedUser(uid) || others == OtherUsers::kAll ||
         (others == OtherUsers::kSystem && uid < kFirstHumanUid);
}

// Behind a daemon of root stands a process of another guest.
bool IsTrusted(const Talk& talk) { return !IsBridged(talk) && IsTrustedUser(talk.uid); }

uint32_t TalkTo(uint64_t agent_id, uint32_t uid) {
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    const Talk& talk = agent.talks[i];
    if (talk.in_use && !IsBridged(talk) && talk.agent_id == agent_id && talk.uid == uid &&
        talk.fd >= 0 && !talk.leaving)
      return i;
  }
  const Config& config = GetConfig();
  const int fd =
      MakePrivateBy(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return kNoTalk;
  sockaddr_un address;
  const socklen_t length =
      AgentAddress(config.realm ? config.runtime_dir : "", uid, agent_id, &address);
  if (length == 0 || sys::Call(SYS_connect, fd, reinterpret_cast<long>(&address), length) != 0) {
    ClosePrivate(fd);
    return kNoTalk;
  }
  const uint32_t index = AdoptTalk(fd);
  if (index == kNoTalk) return index;
  agent.talks[index].agent_id = agent_id;
  if (agent.talks[index].uid != uid || SendHello(agent.talks[index]) != 0) {
    TalkGone(index);
    return kNoTalk;
  }
  return index;
}

void TalkEvent(uint32_t index, uint32_t events) {
  if (index >= kMaxTalks || !agent.talks[index].in_use) return;
  if ((events & EPOLLOUT) != 0) GoOnSending(index);
  for (uint32_t i = 0; i < kMostPacketsAtOnce; ++i) {
    Talk& talk = agent.talks[index];
    if (talk.fd < 0 || talk.leaving || !FdTable::IsPrivate(talk.fd)) return;
    if (!ReadsFrom(talk)) break;
    alignas(ControlMessage) uint8_t packet[sizeof(ControlMessage) + 1] = {};
    Ticket ticket;
    const Packet next = MayBringDescriptors(talk) ? NextPacket(index) : Packet::kTakeBytes;
    if (next == Packet::kNone) return;
    const ssize_t n = ReceivePacket(talk.fd, packet, sizeof packet,
                                    next == Packet::kTakeBytes ? nullptr : &ticket);
    if (n == -EAGAIN || n == -EINTR) return;
    bool good = false;
    ControlMessage message;
    memcpy(&message, packet, sizeof message);
    if (n > 0 && IsOfOtherVersion(message, static_cast<size_t>(n))) {
      MeetOtherVersion(index, message);
    } else if (n == static_cast<ssize_t>(sizeof message)) {
      good = HandlePacket(index, message, &ticket);
    } else if (n > 0 && n < static_cast<ssize_t>(kLongestQuestion) && packet[n - 1] == '\n') {
      packet[n - 1] = '\0';
      good = AnswerTool(talk, reinterpret_cast<const char*>(packet));
    }
    CloseAll(&ticket);
    if (!good) {
      if (agent.talks[index].in_use) TalkGone(index);
      return;
    }
  }
  if ((events & (EPOLLHUP | EPOLLERR)) != 0 && agent.talks[index].in_use) TalkGone(index);
}

void ReleaseTalkIfUnused(uint32_t index) {
  Talk& talk = agent.talks[index];
  if (!talk.in_use || (talk.fd >= 0 && !talk.leaving) || talk.sides != 0) return;
  DropUnsent(talk);
  Doorbell& bell = DoorbellOf(talk);
  if (bell.owns_fd && bell.fd >= 0) FdTable::Clear(bell.fd);
  talk.transport->release_doorbell(&bell);
  DropPeerBells(index);
  if (talk.fd >= 0) ClosePrivate(talk.fd);  // last: it says that nothing is left
  talk.fd = -1;
  talk.in_use = false;
}

}  // namespace xenloop
