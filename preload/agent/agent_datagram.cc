// How two UDP sockets meet. A receiver that is hot lets itself be found by its name; a sender that
// is hot looks there for its destination, and its agent offers a FIFO. From the join on it is a
// matter between the two sockets, and the agents only let go of what has ended.
#include <errno.h>
#include <sys/socket.h>

#include "channel/local/local_transport.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/datagram_side.h"
#include "preload/side/log.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// The same user in the same network namespace; for others the streams' proofs are not there yet.
bool MayMeet(const Talk& talk) {
  return !IsBridged(talk) && talk.netns_cookie == agent.netns_cookie &&
         (agent.netns_cookie != 0 || !GetConfig().realm) &&
         (talk.uid == agent.uid || talk.uid == 0);
}

void Tell(uint32_t talk, ControlType type, uint32_t ours, uint32_t our_generation,
          const DatagramPeer& theirs, uint32_t refusal = 0, uint64_t word = 0) {
  if (talk >= kMaxTalks || !agent.talks[talk].in_use || agent.talks[talk].fd < 0) return;
  ControlMessage message;
  message.type = type;
  message.refusal = refusal;
  message.sender_slot = ours;
  message.sender_generation = our_generation;
  message.receiver_slot = theirs.slot;
  message.receiver_generation = theirs.generation;
  message.words[0] = word;
  SendControl(agent.talks[talk], message, nullptr, 0);
}

void LetGoOfTalk(DatagramPeer* at) {
  if (at->talk == kNoTalk) return;
  Talk& talk = agent.talks[at->talk];
  if (talk.sides > 0) --talk.sides;
  ReleaseTalkIfUnused(at->talk);
  at->talk = kNoTalk;
}

// ---- the sender's end ----

// An offer that comes to nothing.
void GiveUpOffer(DatagramSide* side, Reason reason) {
  ReleaseFifo(&side->mine);
  LetGoOfTalk(&side->receiver_at);
  side->stage = DatagramStage::kNone;
  side->reason.store(reason, std::memory_order_relaxed);
}

void SendDatagramOffer(DatagramSide* side) {
  Talk& talk = agent.talks[side->receiver_at.talk];
  DatagramEnds ends;
  const int fd = side->fd.load(std::memory_order_acquire);
  if (!MayMeet(talk)) return GiveUpOffer(side, Reason::kOtherUser);
  if (const Reason reason = ProbeDatagramSender(fd, side, &ends); reason != Reason::kNone)
    return GiveUpOffer(side, reason);
  if (!NamesAreProof(talk, Tuple{ends.source, ends.destination}))
    return GiveUpOffer(side, Reason::kNotProvable);
  {
    // What was sent until here the receiver finds in the kernel when it joins.
    const LockScope scope(side->send_lock, CurrentTid());
    side->kernel_seen = side->kernel_sent.load(std::memory_order_acquire);
  }
  Ticket ticket;
  const uint64_t bytes =
      talk.fifo_bytes > kMinDatagramFifoBytes ? talk.fifo_bytes : kMinDatagramFifoBytes;
  if (talk.transport->create_fifo(bytes, &side->mine, &ticket) != 0)
    return GiveUpOffer(side, Reason::kNoFifoMemory);
  ControlMessage offer;
  offer.type = ControlType::kDatagramOffer;
  offer.sender_slot = SlotOf(side);
  offer.sender_generation = side->generation.load(std::memory_order_relaxed);
  offer.tuple = Tuple{ends.destination, ends.source};
  offer.words[0] = static_cast<uint64_t>(fd);
  const int error = SendControl(talk, offer, ticket.fds, 1);
  if (ticket.fds[0] >= 0) sys::Close(ticket.fds[0]);
  if (error != 0) return GiveUpOffer(side, Reason::kPeerDeaf);
  side->offered_to = ends.destination_name;
  side->stage = DatagramStage::kOffered;
}

void SeekReceiver(DatagramSide* side) {
  DatagramEnds ends;
  const Reason reason = ProbeDatagramSender(side->fd.load(std::memory_order_acquire), side, &ends);
  if (reason != Reason::kNone) return side->reason.store(reason, std::memory_order_relaxed);
  if (!IsReceiverKnown(agent.registry, agent.uid, ends.destination)) {
    SayReceiverIsWanted(agent.registry, ends.destination);
    return side->reason.store(Reason::kNoPeer, std::memory_order_relaxed);
  }
  for (const Endpoint& name : {ends.destination, AnyAddress(ends.destination.port)}) {
    uint64_t ids[4];
    const size_t found = agent.registry.Lookup(agent.uid, HashOf(HintOf(name)), ids, 4);
    for (size_t i = 0; i < found; ++i) {
      const uint32_t talk = TalkTo(ids[i], agent.uid);
      if (talk == kNoTalk) continue;
      side->receiver_at = DatagramPeer{talk, 0, 0};
      ++agent.talks[talk].sides;
      side->stage = DatagramStage::kWaiting;
      if (agent.talks[talk].ready) SendDatagramOffer(side);
      return;
    }
  }
  side->reason.store(Reason::kNoPeer, std::memory_order_relaxed);
}

// Ours has come to its end, or is to: what is asked back is sent again, and the rest let go.
// `answer`: the other end has spoken, and knows of the end unless it is ours to say that all is
// done.
void ServiceSender(DatagramSide* side, bool closed, bool answer = false) {
  if (side->stage != DatagramStage::kAttached) {
    if (closed && side->stage != DatagramStage::kNone) GiveUpOffer(side, Reason::kNone);
    return;
  }
  bool over;
  {
    const LockScope scope(side->send_lock, CurrentTid());
    DatagramShadow shadow{side->fd.load(std::memory_order_relaxed), side};
    shadow.to = side->fifo_destination;  // it may be connected elsewhere by now
    over = side->sender.Settle(shadow) || closed;
    if (over) {
      side->sending.store(0, std::memory_order_release);
      side->sender.route.store(DatagramRoute::kKernel, std::memory_order_relaxed);
      side->sender.fifo = DatagramFifo{};
      ReleaseFifo(&side->mine);
    }
  }
  if (over || !answer) {
    Tell(side->receiver_at.talk, ControlType::kDatagramSealed, SlotOf(side),
         side->generation.load(std::memory_order_relaxed), side->receiver_at);
  }
  if (!over) return;
  side->stage = DatagramStage::kNone;
  LetGoOfTalk(&side->receiver_at);
}

void OnDatagramJoin(uint32_t talk, DatagramSide* side, const ControlMessage& message) {
  if (side->stage != DatagramStage::kOffered || side->receiver_at.talk != talk) return;
  side->receiver_at.slot = message.sender_slot;
  side->receiver_at.generation = message.sender_generation;
  bool begun = false;
  uint32_t inode = 0;
  DatagramEnds ends;
  if (ProbeDatagramSender(side->fd.load(std::memory_order_acquire), side, &ends) == Reason::kNone &&
      NamesAreProof(agent.talks[talk], Tuple{ends.source, ends.destination}) &&
      IsHeldBy(agent.talks[talk], message.words[0], ends.source, ends.destination, &inode)) {
    const LockScope scope(side->send_lock, CurrentTid());
    const int fd = side->fd.load(std::memory_order_relaxed);
    if (FindDatagram(fd) == side && side->pinned.load(std::memory_order_seq_cst) == 0 &&
        side->destination.Load() == side->offered_to) {
      side->fifo_destination = side->offered_to;
      side->fifo_source = ends.source;
      side->rings = 0;
      side->sender.Begin(DatagramFifo{side->mine.fifo, !ends.destination.IsV4()});
      side->receiver_pid = agent.talks[talk].kernel_pid;
      side->receiver_fd = static_cast<uint32_t>(message.words[0]);
      side->receiver_inode = inode;
      side->sending.store(1, std::memory_order_release);
      begun = true;
    }
  }
  if (begun) {
    side->stage = DatagramStage::kAttached;
    side->upgrades.fetch_add(1, std::memory_order_relaxed);
    side->reason.store(Reason::kNone, std::memory_order_relaxed);
    Log("datagrams of fd %d go by a FIFO", side->fd.load());
    return;
  }
  const DatagramFifo fifo{side->mine.fifo, false};
  fifo.Decide(Residue::kLeft);
  fifo.SealProducer();
  Tell(talk, ControlType::kDatagramSealed, SlotOf(side), side->generation.load(),
       side->receiver_at);
  GiveUpOffer(side, Reason::kSocketUnseen);
}

// ---- the receiver's end ----

void Publish(DatagramSide* side) {
  DatagramEnds ends;
  const Reason reason =
      ProbeDatagramReceiver(side->fd.load(std::memory_order_acquire), side, &ends);
  if (reason != Reason::kNone) return side->reason.store(reason, std::memory_order_relaxed);
  if (agent.registry.Publish(HashOf(HintOf(PublishedName(ends))), agent.id) != 0)
    return side->reason.store(Reason::kRegistryFull, std::memory_order_relaxed);
  side->published.store(1, std::memory_order_release);
}

// The socket that the kernel would give it to, or nullptr.
DatagramSide* ReceiverOf(const Tuple& tuple) {
  DatagramSide* best = nullptr;
  int best_rank = 0;
  EachDatagramSide([&](DatagramSide* side) {
    DatagramEnds ends;
    const int fd = side->fd.load(std::memory_order_acquire);
    if (side->published.load(std::memory_order_acquire) == 0 || FindDatagram(fd) != side ||
        ProbeDatagramReceiver(fd, side, &ends) != Reason::kNone ||
        ends.source.port != tuple.local.port)
      return;
    const bool exact = SameEndpoint(ends.source, tuple.local);
    if (!exact && !IsAnyOf(ends, tuple.local)) return;
    if (ends.connected && !SameEndpoint(ends.destination, tuple.peer)) return;
    const int rank = 1 + (exact ? 1 : 0) + (ends.connected ? 2 : 0);
    if (rank > best_rank) {
      best = side;
      best_rank = rank;
    }
  });
  return best;
}

// Joins the FIFO to the socket: true if it has become one of its queue's.
bool JoinSource(DatagramSide* side, uint32_t talk, const ControlMessage& offer,
                const FifoMapping& theirs, int* joined_fd) {
  const int fd = side->fd.load(std::memory_order_acquire);
  uint32_t limit = 0;
  socklen_t length = sizeof limit;
  long flags;
  {  // not for longer: a handler that closes it may stand above who has the lock
    const AgentAsks asks(fd);
    if (!asks.May()) return false;
    flags = sys::Call(SYS_fcntl, fd, F_GETFL);
    if (flags < 0 || sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVBUF, sys::Word(&limit),
                               sys::Word(&length)) != 0)
      return false;
  }
  const LockScope scope(side->receive_lock, CurrentTid());
  if (FindDatagram(fd) != side || side->pinned.load(std::memory_order_seq_cst) != 0) return false;
  side->nonblocking.store((flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
  side->receiver.queue.SetLimit(limit);
  const int slot = side->receiver.queue.Attach(DatagramFifo{theirs.fifo, !offer.tuple.peer.IsV4()});
  if (slot < 0) return false;
  if (IsKernelDry(fd)) side->receiver.queue.StartAtOnce(slot);
  DatagramSide::Source& source = side->sources[slot];
  if (source.used.load(std::memory_order_acquire) != 0) {  // its peer has not been told yet
    side->receiver.queue.Detach(slot);
    return false;
  }
  source.theirs = theirs;
  source.at = DatagramPeer{talk, offer.sender_slot, offer.sender_generation};
  source.name = ToSocketName(offer.tuple.peer, side->family);
  source.used.store(1, std::memory_order_release);
  // seq_cst: before the look at the sleepers; pairs with DatagramSleep.
  side->receiving.fetch_add(1, std::memory_order_seq_cst);
  TellSleepers(side);
  StartUnreadDatagramLooks();
  *joined_fd = fd;
  return true;
}

void OnDatagramOffer(uint32_t talk, const ControlMessage& offer, Ticket* ticket) {
  const DatagramPeer from{talk, offer.sender_slot, offer.sender_generation};
  const auto refuse = [&](RefusalReason why) {
    Tell(talk, ControlType::kDatagramRefuse, 0, 0, from, static_cast<uint32_t>(why));
  };
  const RefusalReason objection = ObjectionToDatagrams(talk, offer);
  if (objection != RefusalReason::kCount) return refuse(objection);
  DatagramSide* const side = ReceiverOf(offer.tuple);
  FifoMapping theirs;
  if (side == nullptr || agent.talks[talk].transport->map_fifo(ticket, &theirs) != 0)
    return refuse(RefusalReason::kNoResources);
  int fd = -1;
  if (theirs.fifo.capacity_bytes < kMinDatagramFifoBytes ||
      !JoinSource(side, talk, offer, theirs, &fd)) {
    ReleaseFifo(&theirs);
    return refuse(RefusalReason::kBusy);
  }
  ++agent.talks[talk].sides;
  side->upgrades.fetch_add(1, std::memory_order_relaxed);
  side->reason.store(Reason::kNone, std::memory_order_relaxed);
  Tell(talk, ControlType::kDatagramJoin, SlotOf(side), side->generation.load(), from, 0,
       static_cast<uint64_t>(fd));
}

void ServiceSources(DatagramSide* side) {
  {
    const LockScope scope(side->receive_lock, CurrentTid());
    if (side->receiving.load(std::memory_order_relaxed) != 0) ReapSources(side);
  }
  for (DatagramSide::Source& source : side->sources) {
    const uint32_t used = source.used.load(std::memory_order_acquire);
    if (used == 0) continue;
    Tell(source.at.talk, ControlType::kDatagramSealed, SlotOf(side), side->generation.load(),
         source.at);
    if (used != 2) continue;
    LetGoOfTalk(&source.at);
    source.used.store(0, std::memory_order_release);
  }
}

void Service(DatagramSide* side) {
  const uint32_t wants = side->wants.exchange(0, std::memory_order_acq_rel);
  const bool closed = side->in_use.load(std::memory_order_acquire) == 2;
  if (wants == 0) return;
  if ((wants & kWantsService) != 0 || closed) {
    ServiceSources(side);
    ServiceSender(side, closed);
  }
  if (closed) return FreeDatagramSide(side);
  if (agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn ||
      side->pinned.load(std::memory_order_relaxed) != 0)
    return;
  if ((wants & kWantsToReceive) != 0) Publish(side);
  if ((wants & kWantsToSend) != 0 && side->stage == DatagramStage::kNone) SeekReceiver(side);
}

void OnDatagramSealed(uint32_t talk, DatagramSide* side, const ControlMessage& message) {
  if (side->stage == DatagramStage::kAttached && side->receiver_at.talk == talk &&
      side->receiver_at.slot == message.sender_slot &&
      side->receiver_at.generation == message.sender_generation) {
    bool ended;
    {
      const LockScope scope(side->send_lock, CurrentTid());
      const DatagramFifo& fifo = side->sender.fifo;
      ended = fifo.ProducerSealed() || fifo.ConsumerSealed();
    }
    if (ended) ServiceSender(side, /*closed=*/false, /*answer=*/true);
  }
  const LockScope scope(side->receive_lock, CurrentTid());
  if (side->receiving.load(std::memory_order_relaxed) != 0) ReapSources(side);
}

}  // namespace

void ServiceDatagrams() {
  if (datagrams_due.exchange(0, std::memory_order_acq_rel) != 0) EachDatagramSide(Service);
}

void DatagramTalkReady(uint32_t index) {
  EachDatagramSide([index](DatagramSide* side) {
    if (side->stage == DatagramStage::kWaiting && side->receiver_at.talk == index)
      SendDatagramOffer(side);
  });
}

void DatagramTalkGone(uint32_t index) {
  EachDatagramSide([index](DatagramSide* side) {
    if (side->stage != DatagramStage::kNone && side->receiver_at.talk == index) {
      if (side->stage == DatagramStage::kAttached) {
        // If its process lives, it gets what is there.
        const LockScope scope(side->send_lock, CurrentTid());
        side->sender.fifo.SealProducer();
      }
      ServiceSender(side, /*closed=*/true);
      side->reason.store(Reason::kPeerAgentGone, std::memory_order_relaxed);
    }
    const LockScope scope(side->receive_lock, CurrentTid());
    for (int i = 0; i < DatagramQueue::kMostSlots; ++i) {
      DatagramSide::Source& source = side->sources[i];
      if (source.used.load(std::memory_order_relaxed) == 0 || source.at.talk != index) continue;
      if (source.used.load(std::memory_order_relaxed) == 1) {
        side->receiver.queue.End(i);
        side->receiver.queue.Reclaim(i);
        // Nobody is left to send it again, nor does our program take it from the FIFO.
        Residue wanted = Residue::kWanted;
        const DatagramFifo fifo{source.theirs.fifo, false};
        fifo.board().residue.compare_exchange_strong(wanted, Residue::kFlushed);
      }
      LetGoOfTalk(&source.at);
      if (source.used.load(std::memory_order_relaxed) == 2) source.used.store(0);
    }
    if (side->receiving.load(std::memory_order_relaxed) != 0) ReapSources(side);
  });
}

RefusalReason ObjectionToDatagrams(uint32_t talk, const ControlMessage& offer) {
  if (!GetConfig().udp || !GetConfig().accept_offers ||
      agent_shared.refused_for_now.load(std::memory_order_relaxed) != Switch::kOn)
    return RefusalReason::kByConfiguration;
  if (!MayMeet(agent.talks[talk])) return RefusalReason::kNotAllowed;
  if (!NamesAreProof(agent.talks[talk], Reversed(offer.tuple))) return RefusalReason::kNotProvable;
  if (!IsHeldBy(agent.talks[talk], offer.words[0], offer.tuple.local, offer.tuple.peer))
    return RefusalReason::kNotTheirs;
  return ReceiverOf(offer.tuple) != nullptr ? RefusalReason::kCount
                                            : RefusalReason::kUnknownConnection;
}

bool OnDatagramMessage(uint32_t talk, const ControlMessage& message, Ticket* ticket) {
  if (IsBridged(agent.talks[talk]) || !agent.talks[talk].ready) return false;
  if (message.type == ControlType::kDatagramOffer) {
    OnDatagramOffer(talk, message, ticket);
    return true;
  }
  if (message.receiver_slot >= kMostDatagramSides || DatagramSides() == nullptr) return true;
  DatagramSide* const side = DatagramSideAt(message.receiver_slot);
  if (side->in_use.load(std::memory_order_acquire) == 0 ||
      side->generation.load(std::memory_order_relaxed) != message.receiver_generation)
    return true;
  if (message.type == ControlType::kDatagramJoin) OnDatagramJoin(talk, side, message);
  if (message.type == ControlType::kDatagramSealed) OnDatagramSealed(talk, side, message);
  if (message.type == ControlType::kDatagramRefuse && side->stage == DatagramStage::kOffered &&
      side->receiver_at.talk == talk)
    GiveUpOffer(side, ReasonOfRefusal(message.refusal));
  return true;
}

}  // namespace xenloop
