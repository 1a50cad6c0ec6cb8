// What the agent does to one published side (agent_publish.cc): offer it, join it to a peer, let it
// go again. Every step may fail; the connection then stays on TCP with a reason.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "discovery/owner.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/devices.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/leaving.h"
#include "preload/side/log.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"

namespace xenloop {

void DropFifos(AgentSide& note) {
  ReleaseFifo(&note.mine);
  ReleaseFifo(&note.theirs);
}

void LeaveTalk(AgentSide& note) {
  if (note.talk == kNoTalk) return;
  Talk& talk = agent.talks[note.talk];
  if (talk.sides > 0) --talk.sides;
  ReleaseTalkIfUnused(note.talk);
  note.talk = kNoTalk;
}

// Back to "published": nothing of an attempt is left.
void Abandon(uint32_t slot, Reason reason) {
  AgentSide& note = agent.sides[slot];
  if (note.stage == Stage::kAttached || note.stage == Stage::kNone || note.stage == Stage::kParking)
    return;
  StopPairing(slot);
  OfferIsAnswered(note);
  DropFifos(note);
  LeaveTalk(note);
  note.stage = Stage::kPublished;
  if (reason != Reason::kNone) SideAt(slot)->reason.store(reason, std::memory_order_relaxed);
}

namespace {

bool IsLoopback(const Endpoint& end) {
  static constexpr uint8_t kV6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return end.IsV4() ? end.address[12] == 127 : memcmp(end.address, kV6, 16) == 0;
}

}  // namespace

// May the process behind this talk hold the other end of our connection? See SECURITY in
// preload/README.md.
bool PeerMayHold(const Talk& talk, const Tuple& tuple) {
  if (IsBridged(talk)) return GuestMayHold(talk, tuple);
  // An old kernel names no namespaces; only an abstract socket shows then that there is but one.
  const bool unknown = agent.netns_cookie == 0 && GetConfig().realm;
  if (talk.netns_cookie != agent.netns_cookie || unknown) {
    // Another network namespace: only where an administrator has joined them, and never for
    // addresses that mean something else there.
    if (!GetConfig().realm || IsLoopback(tuple.local) || IsLoopback(tuple.peer) ||
        memcmp(tuple.local.address, tuple.peer.address, 16) == 0) {
      return false;
    }
    return talk.uid == agent.uid || talk.uid == 0;
  }
  if (talk.uid == agent.uid || talk.uid == 0) return true;
  uid_t owner = 0;
  return SharesMemoryWith(talk.uid) && OwnerOf(Reversed(tuple), &owner) == 0 && owner == talk.uid;
}

namespace {

int CreateFifo(const Talk& talk, FifoMapping* mapping, Ticket* ticket) {
  ticket->peer = talk.guest;
  return talk.transport->create_fifo(talk.fifo_bytes, mapping, ticket);
}

// Sends a message with the ticket of a FIFO of ours, and closes the ticket.
int SendTicket(Talk& talk, const ControlMessage& message, Ticket* ticket) {
  ControlMessage whole = message;
  memcpy(whole.words, ticket->words, sizeof whole.words);
  const int error = SendControl(talk, whole, ticket->fds, ticket->fds[0] >= 0 ? 1 : 0);
  if (ticket->fds[0] >= 0) sys::Close(ticket->fds[0]);
  ticket->fds[0] = -1;
  return error;
}

}  // namespace

void SendOffer(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Talk& talk = agent.talks[note.talk];
  if (!PeerMayHold(talk, note.tuple)) return Abandon(slot, Reason::kOtherUser);
  const bool wants_proof = WantsProof(note);
  if (wants_proof && !MayProve(talk)) return Abandon(slot, Reason::kNotProvable);
  if (AwaitsRoomForOffer(slot)) return;
  Ticket ticket;
  int error = CreateFifo(talk, &note.mine, &ticket);
  if (error == 0) {
    note.mine.fifo.header->pairing.wanted.store(wants_proof, std::memory_order_relaxed);
    ControlMessage offer;
    offer.type = ControlType::kOffer;
    offer.sender_slot = slot;
    offer.sender_generation = note.generation;
    offer.tuple = Reversed(note.tuple);
    error = SendTicket(talk, offer, &ticket);
  }
  if (error == 0) {
    note.stage = Stage::kOffered;
    OfferIsOut(note);
  } else if (error == -EAGAIN && AwaitsRoomForOffer(slot)) {
    DropFifos(note);
  } else {
    Abandon(slot, error == -EMFILE || error == -ENFILE ? Reason::kNoDescriptors
                  : error == -ENOSPC                   ? Reason::kNoGrants
                                                       : Reason::kNoFifoMemory);
  }
}

bool Attach(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  const int fd = side->fd.load(std::memory_order_acquire);
  if (!PrepareRegistrations(side)) {
    side->reason.store(Reason::kEpollKind, std::memory_order_relaxed);
    RestoreRegistrations(side);  // those that could be
    return false;
  }
  bool attached = false;
  {
    const uint32_t tid = CurrentTid();
    LockScope send(side->send.lock, tid);
    LockScope receive(side->receive.lock, tid);
    // Under the locks no close can get past BeforeClose: the number still means our socket.
    if (FindSide(fd) == side &&
        side->generation.load(std::memory_order_relaxed) == note.generation &&
        side->pinned.load(std::memory_order_relaxed) == 0 && !IsStandardStream(side) &&
        // acquire: an exec of another holder is noted before that one lets go (leaving.h).
        side->holders.load(std::memory_order_acquire) == 1 && !MayComeBack(side) &&
        side->attached.load(std::memory_order_relaxed) == 0 &&
        ((!note.mine.fifo.foreign && agent.talks[note.talk].agent_id != agent.id) ||
         agent_shared.forking.load(std::memory_order_seq_cst) == 0) &&
        side->send.route.load(std::memory_order_relaxed) == SendRoute::kTcp &&
        side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp &&
        Watch(fd, WatchKind::kShadow, slot, note.generation,
              EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLOUT | EPOLLET) == 0) {
      side->talk.store(note.talk, std::memory_order_relaxed);
      side->both_here.store(agent.talks[note.talk].agent_id == agent.id, std::memory_order_relaxed);
      side->spin_history.store(0, std::memory_order_relaxed);
      note.told_send = note.told_receive = note.heard = false;
      note.seen_index = 0;
      note.discarded = true;
      note.bypassed = note.lay_unread = note.reads_unseen = note.comes_back = false;
      Arena()->watched.Remove(slot);  // of a former life, or owner, whom nobody woke for it
      Arena()->unread.Remove(slot);
      note.watched_since_ns = note.watch_at_ns = note.unread_since_ns = 0;
      note.stage = Stage::kAttached;
      note.attached_at_ns = AgentNs();
      ReclaimLater();
      side->reason.store(Reason::kNone, std::memory_order_relaxed);
      side->attached.store(1, std::memory_order_release);
      side->receive.BecomeAware(note.theirs.fifo);
      side->send.window = SendWindowOf(fd);
      side->send.Offer(note.mine.fifo, note.theirs.fifo);
      side->told_bell.store(kAnyBell, std::memory_order_relaxed);
      side->lent.store(0, std::memory_order_relaxed);  // no child has this memory yet
      WriteBell(side);
      attached = true;
    }
  }
  if (attached) {
    TellBells(slot);
    Log("upgraded fd %d, slot %u", fd, slot);
    if (side->upgrades.fetch_add(1, std::memory_order_relaxed) == 0) CountUpgrade();
  } else {
    RestoreRegistrations(side);
  }
  return attached;
}

namespace {

void Refuse(uint32_t talk, const ControlMessage& offer, RefusalReason reason) {
  ControlMessage answer;
  answer.type = ControlType::kRefuse;
  answer.refusal = static_cast<uint32_t>(reason);
  answer.receiver_slot = offer.sender_slot;
  answer.receiver_generation = offer.sender_generation;
  SendControl(agent.talks[talk], answer, nullptr, 0);
}

}  // namespace

void TalkReady(uint32_t index) {
  EachSlot([index](uint32_t slot) {
    if (agent.sides[slot].stage == Stage::kWaiting && agent.sides[slot].talk == index)
      SendOffer(slot);
  });
  DatagramTalkReady(index);
}

RefusalReason ObjectionTo(uint32_t talk, const ControlMessage& offer) {
  if (agent_shared.started.load(std::memory_order_relaxed) == kAgentFailed)
    return RefusalReason::kBusy;
  if (!GetConfig().accept_offers ||
      agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn)
    return RefusalReason::kByConfiguration;
  const uint32_t slot = FindPublished(offer.tuple);
  if (slot == kMaxSides) return RefusalReason::kUnknownConnection;
  const AgentSide& note = agent.sides[slot];
  if (!PeerMayHold(agent.talks[talk], note.tuple)) return RefusalReason::kNotAllowed;
  const Side* side = SideAt(slot);
  // Our copy may be closed; the process that goes on with the connection publishes it anew.
  if (FindSide(side->fd.load(std::memory_order_acquire)) != side)
    return RefusalReason::kUnknownConnection;
  if (!MayBeOfferedAgain(note, side)) return RefusalReason::kReaderSlow;
  // Where both ends have made an offer, that of the end which is meant to make it stands.
  const bool ours_out = note.stage == Stage::kOffered || note.stage == Stage::kWaiting;
  if (ours_out ? MakesTheOffer(note.tuple) : note.stage != Stage::kPublished)
    return RefusalReason::kBusy;
  return RefusalReason::kCount;
}

namespace {

// Both FIFOs are there. False: nothing has come of it.
bool AttachOrProve(uint32_t slot) {
  const AgentSide& note = agent.sides[slot];
  if (!NeedsProof(note)) return Attach(slot);
  if (!MayProve(agent.talks[note.talk])) return false;
  BeginPairing(slot);
  return true;
}

}  // namespace

void OnOffer(uint32_t talk, const ControlMessage& message, Ticket* ticket) {
  const RefusalReason objection = ObjectionTo(talk, message);
  const uint32_t slot = FindPublished(message.tuple);
  if (objection != RefusalReason::kCount) {
    if (objection == RefusalReason::kUnknownConnection && slot != kMaxSides) Unlist(slot);
    return Refuse(talk, message, objection);
  }
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  if (note.stage != Stage::kPublished) Abandon(slot, Reason::kNone);
  Tuple now;
  if (Probe(side->fd.load(), side, &now) != Reason::kNone || !SameTuple(now, note.tuple))
    return Refuse(talk, message, RefusalReason::kBusy);
  Ticket mine;
  int error = agent.talks[talk].transport->map_fifo(ticket, &note.theirs);
  if (error == 0) error = CreateFifo(agent.talks[talk], &note.mine, &mine);
  if (error != 0) {
    ReleaseFifo(&note.theirs);
    if (error != -EPROTO) return Refuse(talk, message, RefusalReason::kNoResources);
    side->reason.store(Reason::kOtherVersion, std::memory_order_relaxed);
    return Refuse(talk, message, RefusalReason::kOtherVersion);
  }
  note.talk = talk;
  ++agent.talks[talk].sides;
  note.peer_slot = message.sender_slot;
  note.peer_generation = message.sender_generation;
  PairingBoard& board = note.mine.fifo.header->pairing;
  board.wanted.store(WantsProof(note), std::memory_order_release);
  const bool prove = NeedsProof(note);
  if (!AttachOrProve(slot)) {
    if (mine.fds[0] >= 0) sys::Close(mine.fds[0]);
    DropFifos(note);
    LeaveTalk(note);
    if (prove) side->reason.store(Reason::kNotProvable, std::memory_order_relaxed);
    return Refuse(talk, message, prove ? RefusalReason::kNotProvable : RefusalReason::kBusy);
  }
  ControlMessage join;
  join.type = ControlType::kJoin;
  join.sender_slot = slot;
  join.sender_generation = note.generation;
  join.receiver_slot = message.sender_slot;
  join.receiver_generation = message.sender_generation;
  error = SendTicket(agent.talks[talk], join, &mine);
  if (error != 0) {
    Abandon(slot, Reason::kPeerDeaf);
    FallBack(side->fd.load(), side, Reason::kPeerDeaf);
  }
}

void OnJoin(uint32_t talk, const ControlMessage& message, Ticket* ticket) {
  const uint32_t slot = message.receiver_slot;
  if (slot >= kMaxSides) return;
  AgentSide& note = agent.sides[slot];
  if (note.stage != Stage::kOffered || note.talk != talk ||
      note.generation != message.receiver_generation)
    return;
  OfferIsAnswered(note);
  note.peer_slot = message.sender_slot;
  note.peer_generation = message.sender_generation;
  Tuple now;  // the program may have shut the connection down since the offer
  if (agent.talks[talk].transport->map_fifo(ticket, &note.theirs) == 0 &&
      Probe(SideAt(slot)->fd.load(std::memory_order_acquire), SideAt(slot), &now) ==
          Reason::kNone &&
      AttachOrProve(slot)) {
    return;
  }
  // The peer counts on us: seal what it has, so that it goes back to TCP.
  if (note.theirs.fifo) note.theirs.fifo.Seal();
  note.mine.fifo.Seal();
  TellSealed(note, slot);
  Abandon(slot, Reason::kPeerChanged);
}

void OnRefuse(uint32_t talk, const ControlMessage& message) {
  const uint32_t slot = message.receiver_slot;
  const Reason reason = ReasonOfRefusal(message.refusal);
  if (slot == kEverySlot && !agent.talks[talk].ready)
    return EachSideOf(talk, [reason](uint32_t waiting) { Abandon(waiting, reason); });
  if (slot >= kMaxSides) return;
  AgentSide& note = agent.sides[slot];
  if ((note.stage != Stage::kOffered && note.stage != Stage::kWaiting) || note.talk != talk ||
      note.generation != message.receiver_generation)
    return;
  Abandon(slot, reason);
}

void OnSealed(uint32_t talk, const ControlMessage& message) {
  if (message.refusal == static_cast<uint32_t>(RefusalReason::kReaderSlow)) SuspectUnseenWaits();
  const uint32_t slot = message.receiver_slot;
  if (slot >= kMaxSides) return;
  AgentSide& note = agent.sides[slot];
  if ((note.stage != Stage::kAttached && note.stage != Stage::kProving) || note.talk != talk ||
      note.generation != message.receiver_generation)
    return;
  note.heard = true;
  note.stage == Stage::kProving ? ServicePairing(slot) : ServiceSide(slot);
}

}  // namespace xenloop
