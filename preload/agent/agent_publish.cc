// Publishing a side where its peer can find it, and looking for the peer. What follows, offer and
// join, is in agent_stream.cc.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

#include "channel/base/time.h"
#include "discovery/owner.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/leaving.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/socket_options.h"
#include "preload/side/stats.h"
#include "preload/side/unseen_holders.h"

namespace xenloop {
namespace {

uint32_t& BucketOf(const Tuple& tuple) { return agent.buckets[HashOf(tuple) % kBuckets]; }

void List(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  uint32_t& bucket = BucketOf(note.tuple);
  note.next_in_bucket = bucket;
  bucket = slot + 1;
  note.in_map = true;
}

bool Option(int fd, int level, int name, void* value, socklen_t length) {
  return sys::Call(SYS_getsockopt, fd, level, name, reinterpret_cast<long>(value),
                   reinterpret_cast<long>(&length)) == 0;
}

int64_t TimeoutUs(int fd, int name) {
  timeval value{};
  return Option(fd, SOL_SOCKET, name, &value, sizeof value) ? ToUs(value) : 0;
}

}  // namespace

void Unlist(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  if (!note.in_map) return;
  for (uint32_t* link = &BucketOf(note.tuple); *link != 0;
       link = &agent.sides[*link - 1].next_in_bucket) {
    if (*link == slot + 1) {
      *link = note.next_in_bucket;
      break;
    }
  }
  note.in_map = false;
}

uint32_t FindPublished(const Tuple& tuple) {
  for (uint32_t link = BucketOf(tuple); link != 0; link = agent.sides[link - 1].next_in_bucket) {
    const AgentSide& note = agent.sides[link - 1];
    const Side* side = SideAt(link - 1);
    if (note.generation == side->generation.load(std::memory_order_relaxed) &&
        side->in_use.load(std::memory_order_acquire) != 0 && SameTuple(note.tuple, tuple)) {
      return link - 1;
    }
  }
  return kMaxSides;
}

namespace {

// kNone: `tuple` is what the kernel calls both ends.
Reason AskNames(int fd, Tuple* tuple) {
  const std::pair<long, Endpoint*> ends[] = {{SYS_getsockname, &tuple->local},
                                             {SYS_getpeername, &tuple->peer}};
  for (const auto& [call, end] : ends) {
    sockaddr_storage name = {};
    socklen_t length = sizeof name;
    if (sys::Call(call, fd, sys::Word(&name), sys::Word(&length)) != 0 || !ToEndpoint(name, end))
      return Reason::kUnknownFamily;
  }
  return Reason::kNone;
}

// What never changes, and what no program but ours can have changed unseen since it was asked.
bool IsAsAsked(const Side* side) {
  return side->options_asked.load(std::memory_order_relaxed) != 0 &&
         side->kept.load(std::memory_order_relaxed) == 0 &&
         side->outside.load(std::memory_order_relaxed) == 0;
}

// What setsockopt and fcntl change later is noted as they are called (socket/options.cc).
void AskAttributes(int fd, Side* side, long flags) {
  int low_water = 1;
  Option(fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
  int tells = 0;
  Option(fd, IPPROTO_TCP, TCP_INQ, &tells, sizeof tells);
  side->tells_bytes_left.store(tells != 0, std::memory_order_relaxed);
  side->nonblocking.store(flags >= 0 && (flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
  side->receive_low_water.store(static_cast<uint32_t>(low_water < 1 ? 1 : low_water),
                                std::memory_order_relaxed);
  side->receive_timeout_us.store(TimeoutUs(fd, SO_RCVTIMEO), std::memory_order_relaxed);
  side->send_timeout_us.store(TimeoutUs(fd, SO_SNDTIMEO), std::memory_order_relaxed);
}

Reason AskAll(int fd, Side* side) {
  // Before the questions: whoever changes an answer meanwhile takes it back, and they are asked
  // again.
  side->options_asked.store(1, std::memory_order_seq_cst);
  if (const Reason reason = AskOptions(fd); reason != Reason::kNone) {
    side->pinned.store(1, std::memory_order_relaxed);
    return reason;
  }
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  AskAttributes(fd, side, flags);
  if (flags < 0 || (flags & O_ASYNC) == 0) return Reason::kNone;
  side->options_asked.store(0, std::memory_order_relaxed);
  return Reason::kSignalsSet;
}

}  // namespace

Reason Probe(int fd, Side* side, Tuple* tuple) {
  const AgentAsks asks(fd);
  if (!asks.May()) return Reason::kNotEstablished;
  const bool as_asked = IsAsAsked(side);
  tcp_info info;
  // Nobody has asked yet of an accepted socket; and a library between us and the kernel may have
  // made something else of what the program asked for.
  int protocol = IPPROTO_TCP;
  const int told = TcpInfoOf(fd, &info);
  if (told == -EPROTO) return Reason::kKernelTellsLittle;
  if (told != 0 ||
      (!as_asked && !Option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, sizeof protocol)) ||
      protocol != IPPROTO_TCP) {
    return Reason::kNotTcp;
  }
  if (info.tcpi_state != SocketShadow::kTcpEstablished) return Reason::kNotEstablished;
  // A program that has changed its namespace may hold two connections with the same addresses.
  // Asked each time: an agent that is started after that is of another namespace than the last.
  if (NetnsCookieOf(fd) != agent.netns_cookie) return Reason::kOtherNamespace;
  if (const Reason reason = AskNames(fd, tuple); reason != Reason::kNone) return reason;
  if (SameEndpoint(tuple->local, tuple->peer)) return Reason::kSelfConnected;
  const Reason rule = RuleAgainstConnection(GetConfig().rules, *tuple);
  if (rule != Reason::kNone) return rule;
  if (const Reason reason = as_asked ? Reason::kNone : AskAll(fd, side); reason != Reason::kNone)
    return reason;
  if (IsStandardStream(side)) return Reason::kStandardStream;
  if (IsInInheritedSet(side)) {
    AwaitInheritedSets();
    return Reason::kEpollInherited;
  }
  return Reason::kNone;
}

namespace {

// Looks for the peer of a published side and makes it an offer.
void Seek(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  const Tuple theirs = Reversed(note.tuple);
  uint64_t ids[4];
  uint32_t uid = agent.uid;
  size_t found = agent.registry.Lookup(uid, HashOf(theirs), ids, 4);
  if (found == 0 && !GetConfig().realm) {
    uid_t owner = 0;
    const int error = OwnerOf(theirs, &owner);
    if (error == 0 && owner != agent.uid) {
      if (!SharesMemoryWith(owner)) {
        side->reason.store(Reason::kOtherUser, std::memory_order_relaxed);
        return;
      }
      uid = owner;
      found = agent.registry.Lookup(uid, HashOf(theirs), ids, 4);
    } else if (error == -ENOENT) {
      if (SeekBehindDaemon(slot)) return;
      side->reason.store(Reason::kNotHere, std::memory_order_relaxed);
      return;
    } else if (error != 0) {
      // Not to be asked, as in a service without AF_NETLINK. Root needs no witness.
      found = agent.registry.Lookup(uid = 0, HashOf(theirs), ids, 4);
      if (found == 0) {
        side->reason.store(Reason::kOwnerUnknown, std::memory_order_relaxed);
        return;
      }
    }
  }
  for (size_t i = 0; i < found; ++i) {
    const uint32_t talk = TalkTo(ids[i], uid);
    if (talk == kNoTalk) continue;
    note.talk = talk;
    ++agent.talks[talk].sides;
    note.stage = Stage::kWaiting;
    if (agent.talks[talk].ready) SendOffer(slot);
    return;
  }
  side->reason.store(Reason::kNoPeer, std::memory_order_relaxed);
}

Reason ProbeIfAlone(int fd, Side* side, Tuple* tuple, Tracking* tracking) {
  const AgentAsks asks(fd);
  if (!asks.May()) return Reason::kNotEstablished;
  UpdateUnseen(fd, side);
  if (side->holders.load(std::memory_order_acquire) != 1 || MayComeBack(side))
    return Reason::kShared;
  const Reason obstacle = Probe(fd, side, tuple);
  if (obstacle == Reason::kNone) *tracking = TrackingOf(fd, *tuple);
  return obstacle;
}

}  // namespace

void ConsiderSide(uint32_t slot, bool seek) {
  if (agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn ||
      agent_shared.started.load(std::memory_order_relaxed) == kAgentFailed)
    return;
  Side* side = SideAt(slot);
  AgentSide& note = agent.sides[slot];
  const uint32_t generation = side->generation.load(std::memory_order_acquire);
  if (side->in_use.load(std::memory_order_acquire) == 0 ||
      side->references.load(std::memory_order_relaxed) == 0)
    return;
  if (note.generation != generation) {
    // A new life of the slot (or its first: the notes begin as zeroes, which are not the defaults).
    if (note.generation != 0) {
      Abandon(slot, Reason::kNone);
      Unlist(slot);
    }
    note = AgentSide{};
    note.generation = generation;
  }
  if (note.stage == Stage::kProving) return ServicePairing(slot);
  if (note.stage > Stage::kPublished || side->attached.load(std::memory_order_relaxed) != 0) return;
  const int fd = DescriptorOf(side);
  if (side->pinned.load(std::memory_order_relaxed) != 0 || fd < 0) return;
  Tuple tuple;
  UpdateInherited(side);
  Tracking tracking = Tracking::kNone;
  Reason obstacle = ProbeIfAlone(fd, side, &tuple, &tracking);
  // The number may have been closed and used again meanwhile; then what we read is not about this
  // side.
  if (FindSide(fd) != side || side->generation.load(std::memory_order_acquire) != generation)
    return;
  if (tracking == Tracking::kTranslated) {
    // For good: nobody can be found by a name that means nothing at the other end.
    obstacle = Reason::kTranslated;
    side->pinned.store(1, std::memory_order_relaxed);
    CountFallback(obstacle);
    Unlist(slot);
  }
  note.tracked = tracking != Tracking::kNone;
  if (obstacle != Reason::kNone) {
    side->reason.store(obstacle, std::memory_order_relaxed);
    if (obstacle == Reason::kShared) Postpone(slot);
    return;
  }
  Unlist(slot);
  note.tuple = tuple;
  List(slot);
  note.stage = Stage::kPublished;
  const int error = agent.registry.Publish(HashOf(tuple), agent.id);
  if (error != 0) side->reason.store(Reason::kRegistryFull, std::memory_order_relaxed);
  if (seek || MakesTheOffer(tuple) || side->forced.load(std::memory_order_relaxed) != 0) {
    Seek(slot);
  } else if (error == 0 && side->reason.load() != Reason::kOtherVersion &&
             !SeekBehindDaemon(slot)) {
    side->reason.store(Reason::kWaitingForOffer, std::memory_order_relaxed);
  }
}

void LookAround() {
  if (agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn) return;
  EachSlot([](uint32_t slot) {
    Side* side = SideAt(slot);
    if (agent.sides[slot].stage != Stage::kPublished || !IsOurs(side)) return;
    ConsiderSide(slot, /*seek=*/true);
    // Who is not to be found yet is looked for again soon, as at the beginning.
    side->next_attempt.store(
        side->operations.load(std::memory_order_relaxed) + GetConfig().upgrade_after,
        std::memory_order_relaxed);
  });
}

}  // namespace xenloop
