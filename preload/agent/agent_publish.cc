// Publishing a side where its peer can find it, and looking for the peer. What follows, offer and
// join, is in agent_stream.cc.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "discovery/owner.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/socket_options.h"
#include "preload/side/stats.h"

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

Reason Probe(int fd, Side* side, Tuple* tuple) {
  tcp_info info;
  // Nobody has asked yet of an accepted socket; and a library between us and the kernel may have
  // made something else of what the program asked for.
  int protocol = 0;
  const int told = TcpInfoOf(fd, &info);
  if (told == -EPROTO) return Reason::kKernelTellsLittle;
  if (told != 0 || !Option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, sizeof protocol) ||
      protocol != IPPROTO_TCP) {
    return Reason::kNotTcp;
  }
  if (info.tcpi_state != SocketShadow::kTcpEstablished) return Reason::kNotEstablished;
  // A program that has changed its namespace may hold two connections with the same addresses.
  if (NetnsCookieOf(fd) != agent.netns_cookie) return Reason::kOtherNamespace;
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  if (sys::Call(SYS_getsockname, fd, reinterpret_cast<long>(&name),
                reinterpret_cast<long>(&length)) != 0 ||
      !ToEndpoint(name, &tuple->local)) {
    return Reason::kUnknownFamily;
  }
  length = sizeof name;
  if (sys::Call(SYS_getpeername, fd, reinterpret_cast<long>(&name),
                reinterpret_cast<long>(&length)) != 0 ||
      !ToEndpoint(name, &tuple->peer)) {
    return Reason::kUnknownFamily;
  }
  if (SameEndpoint(tuple->local, tuple->peer)) return Reason::kSelfConnected;
  const Reason rule = RuleAgainstConnection(GetConfig().rules, *tuple);
  if (rule != Reason::kNone) return rule;
  if (side->options_asked.load(std::memory_order_relaxed) == 0) {
    if (const Reason reason = AskOptions(fd); reason != Reason::kNone) {
      side->pinned.store(1, std::memory_order_relaxed);
      return reason;
    }
    side->options_asked.store(1, std::memory_order_relaxed);
  }
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
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
  if (flags >= 0 && (flags & O_ASYNC) != 0) return Reason::kSignalsSet;
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

}  // namespace

void ConsiderSide(uint32_t slot, bool seek) {
  if (agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn) return;
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
  Reason obstacle = side->holders.load(std::memory_order_relaxed) == 1 ? Probe(fd, side, &tuple)
                                                                       : Reason::kShared;
  // The number may have been closed and used again meanwhile; then what we read is not about this
  // side.
  const Tracking tracking = obstacle == Reason::kNone ? TrackingOf(fd, tuple) : Tracking::kNone;
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
