// What the agent does for a side that is attached: answers seals, finishes flushes, notices deaths,
// gives memory back, and lets go. agent_stream.cc attaches.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "preload/agent/agent_park.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/agent_shared.h"
#include "preload/side/datagram_side.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"

namespace xenloop {
namespace {

// The peer has ended its direction, and the connection has not been reset.
bool HasSeenFin(int fd) {
  tcp_info info;
  return AskTcpInfo(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpCloseWait;
}

// A process that dies lets go of its sockets in no order that we could rely on: the end of its
// agent may be seen before the end of its connections.
void AwaitFin(int fd, Naps* patience) {
  tcp_info info;
  while (AskTcpInfo(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished &&
         patience->Take()) {
  }
}

// Whoever of ours sleeps on the side's FIFOs looks again.
void WakeOwnSleepersOf(Side* side, const AgentSide& note) {
  const uint32_t tid = CurrentTid();
  {
    LockScope scope(side->receive.lock, tid);
    if (note.theirs.fifo)
      WakeOwnSleepers(note.theirs.fifo, note.theirs.fifo.header->consumer_waiting);
  }
  LockScope scope(side->send.lock, tid);
  if (note.mine.fifo) WakeOwnSleepers(note.mine.fifo, note.mine.fifo.header->producer_waiting);
}

// Lets go of a side whose both directions are on TCP again.
void Detach(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  const int fd = side->fd.load(std::memory_order_acquire);
  RestoreRegistrations(side);
  {
    const uint32_t tid = CurrentTid();
    LockScope send(side->send.lock, tid);
    LockScope receive(side->receive.lock, tid);
    if (FindSide(fd) == side) sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, fd, 0);
    DetachPair(side);
    DropFifos(note);
    side->send.fifo = Fifo{};
    side->receive.fifo = Fifo{};
    side->attached.store(0, std::memory_order_release);
  }
  LeaveTalk(note);
  note.stage = Stage::kPublished;
}

// What TCP does not take at once, here or at the other end, must not hold the peer's memory, nor
// the peer ours. Only when nothing can be added: the FIFO is sealed, or its producer dead (an end
// of TCP without a seal). (A local FIFO that forked processes share stays: it is in nobody's way.)
void KeepOwed(AgentSide& note, Side* side) {
  const uint32_t tid = CurrentTid();
  LockScope send(side->send.lock, tid);
  LockScope receive(side->receive.lock, tid);
  if (!note.mine.fifo.foreign && side->holders.load(std::memory_order_relaxed) > 1) return;
  // The kernel knows sleepers by the memory that they sleep on: after the replacement nobody could
  // wake them. Whoever has asked to be woken and does not sleep yet finds his word changed.
  WakeOwnSleepers(note.mine.fifo, note.mine.fifo.header->producer_waiting);
  WakeOwnSleepers(note.theirs.fifo, note.theirs.fifo.header->consumer_waiting);
  for (FifoMapping* mapping : {&note.mine, &note.theirs}) {
    if (KeepPrivately(mapping) != 0) return;  // no memory: the peer has to wait for TCP
  }
  side->send.fifo.foreign = side->receive.fifo.foreign = false;
  LeaveTalk(note);
}

}  // namespace

void TellSealed(AgentSide& note, uint32_t slot) {
  if (note.talk == kNoTalk || agent.talks[note.talk].fd < 0) return;
  ControlMessage message;
  message.type = ControlType::kSealed;
  if (note.lay_unread) message.refusal = static_cast<uint32_t>(RefusalReason::kReaderSlow);
  message.sender_slot = slot;
  message.sender_generation = note.generation;
  message.receiver_slot = note.peer_slot;
  message.receiver_generation = note.peer_generation;
  SendControl(agent.talks[note.talk], message, nullptr, 0);
}

namespace {

// How far a direction is on its way back to TCP.
struct Settled {
  bool ended;  // its FIFO, by this look
  bool done;   // and nothing is owed
};

Settled SettleSend(const AgentSide& note, Side* side, SocketShadow& shadow, int fd, bool closed,
                   bool lingers) {
  Settled found{};
  const LockScope scope(side->send.lock, CurrentTid());
  const bool usable = lingers || FindSide(fd) == side;
  const SendRoute route = side->send.route.load(std::memory_order_relaxed);
  if ((route == SendRoute::kOffered || route == SendRoute::kFifo) && usable &&
      note.mine.fifo.Sealed()) {
    side->send.BeginFlush(shadow);
    found.ended = true;
  }
  if (usable && side->send.PumpResidue(shadow) == 0 && side->shutdown_pending.exchange(0) != 0) {
    sys::Call(SYS_shutdown, fd, SHUT_WR);
  }
  found.done = side->send.route.load(std::memory_order_relaxed) == SendRoute::kTcp;
  if (closed && !usable) found.done = true;  // the socket is gone, and with it what it owed
  return found;
}

Settled SettleReceive(const AgentSide& note, Side* side, SocketShadow& shadow, bool closed) {
  Settled found{};
  const LockScope scope(side->receive.lock, CurrentTid());
  if (side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp &&
      (closed || note.theirs.fifo.Sealed())) {
    side->receive.EndFifo(shadow);
    found.ended = true;
  }
  if (closed) side->receive.DropResidue();
  // The FIFO stays until TCP has what it still held: its sender may die before.
  found.done = side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp &&
               side->receive.ResidueHasCome(shadow);
  return found;
}

void DetachAndStopLingering(uint32_t slot, bool closed) {
  // Asked once more: a close in another thread may have left it while the last of it was sent. And
  // before another process can attach the side: our number would mean something else there.
  const int left = SideAt(slot)->lingering_fd.exchange(-1, std::memory_order_acq_rel);
  Detach(slot);
  if (left < 0) return;
  if (closed) sys::Call(SYS_shutdown, left, SHUT_WR);
  ClosePrivate(left);
}

}  // namespace

void ServiceSide(uint32_t slot) {
  Side* side = SideAt(slot);
  AgentSide& note = agent.sides[slot];
  const uint32_t generation = side->generation.load(std::memory_order_acquire);
  if (note.stage != Stage::kAttached || note.generation != generation) {
    // Closed before it was ever attached, or a late request.
    if (side->in_use.load() != 0 && side->references.load() == 0 && side->attached.load() == 0)
      FreeSide(side);
    return;
  }
  TellBells(slot);
  const bool unused = EndUnusedPair(side);
  const bool closed = side->references.load(std::memory_order_acquire) == 0;
  const int lingering_fd = side->lingering_fd.load(std::memory_order_acquire);
  const int fd = lingering_fd >= 0 ? lingering_fd : side->fd.load(std::memory_order_acquire);
  SocketShadow shadow(fd, side);
  const Settled sending = SettleSend(note, side, shadow, fd, closed, lingering_fd >= 0);
  const Settled receiving = SettleReceive(note, side, shadow, closed || unused);
  const bool ended = sending.ended || receiving.ended;
  const bool send_done = sending.done;
  const bool receive_done = receiving.done;
  const bool receive_sealed =
      side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp;
  const bool send_sealed = side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo &&
                           side->send.route.load(std::memory_order_relaxed) != SendRoute::kOffered;
  if (send_sealed && note.theirs.fifo.CutOff()) AskPosition(slot);
  if ((send_sealed && !note.told_send) || (receive_sealed && !note.told_receive)) {
    note.told_send = note.told_send || send_sealed;
    note.told_receive = note.told_receive || receive_sealed;
    // Who has told us of the end of what is closed here, and lacks nothing, need not hear it back.
    if (!closed || !note.heard || !send_done || !receive_done) TellSealed(note, slot);
  }
  if ((!send_done || !receive_done) && note.talk != kNoTalk && agent.talks[note.talk].leaving &&
      note.mine.fifo.Sealed() && (note.theirs.fifo.Sealed() || HasSeenFin(fd))) {
    KeepOwed(note, side);
  }
  tcp_info info;
  // A peer that closes ends its FIFOs too; that is no fallback.
  if ((ended || (send_done && receive_done)) && !closed && side->reason.load() == Reason::kNone &&
      AskTcpInfo(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished) {
    side->reason.store(Reason::kPeerFellBack, std::memory_order_relaxed);
    side->fallbacks.fetch_add(1, std::memory_order_relaxed);
    CountFallback(Reason::kPeerFellBack);
  }
  if (!send_done || !receive_done) return;
  DetachAndStopLingering(slot, closed);
  if (CloseIdlePair(slot)) return;
  if (closed) {
    Unlist(slot);
    note.stage = Stage::kNone;
    FreeSide(side);
  } else if (GetConfig().test_points && side->reason.load() == Reason::kDisconnected) {
    ConsiderSide(slot);  // connected anew, under another tuple
  }
}

void EndSide(uint32_t slot) {
  Side* side = SideAt(slot);
  const int lingering_fd = side->lingering_fd.load(std::memory_order_acquire);
  const int fd = lingering_fd >= 0 ? lingering_fd : side->fd.load(std::memory_order_acquire);
  SocketShadow shadow(fd, side);
  const uint32_t tid = CurrentTid();
  {
    LockScope scope(side->send.lock, tid);
    side->send.BeginFlush(shadow);
    side->send.SettleOrBreak(shadow);
  }
  {
    LockScope scope(side->receive.lock, tid);
    side->receive.EndFifo(shadow);
    side->receive.DropResidue();
  }
  ServiceSide(slot);
}

namespace {
// Under the lock of `send`. Unread bytes: TCP would have been reset. The first of our calls that
// meets the end says so, unless TCP has been reset indeed and the kernel says it. Once only: who
// has sealed our FIFO before, as a receive that met the end itself (ResetByDeadPeer), has told it.
void EndForDeadPeer(Side* side, AgentSide& note) {
  if (!note.mine.fifo.Sealed() && note.mine.fifo.AvailableBytes() > 0 &&
      HasSeenFin(side->fd.load(std::memory_order_acquire)))
    side->send.pending_error.store(-ECONNRESET, std::memory_order_relaxed);
  note.mine.fifo.Seal();
}
}  // namespace

void ShadowEvent(uint32_t slot, uint32_t generation, uint32_t events) {
  if (slot >= kMaxSides) return;
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  if (note.stage != Stage::kAttached || note.generation != generation) return;
  WakeOwnSleepersOf(side, note);
  bool peer_died = false;
  {
    LockScope scope(side->send.lock, CurrentTid());
    if (note.mine.fifo) {
      // A peer that ends its direction seals its FIFO first. An end without a seal is a death: what
      // we still hold for it goes to TCP, whose answer (a reset) is then the kernel's own.
      peer_died = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 && !note.theirs.fifo.Sealed();
      if (peer_died) {
        EndForDeadPeer(side, note);
      }
    }
  }
  if (peer_died) side->reason.store(Reason::kPeerGone, std::memory_order_relaxed);
  if (note.mine.fifo.Sealed()) ServiceSide(slot);
}

void TalkGone(uint32_t index) {
  Talk& talk = agent.talks[index];
  if (talk.leaving) return;
  if (IsBridged(talk)) {
    // The daemon waits until nothing of the other guest is left.
    talk.leaving = true;
    sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, talk.fd, 0);
  } else {
    if (talk.fd >= 0) ClosePrivate(talk.fd);
    talk.fd = -1;
    DropUnsent(talk);
  }
  ++talk.sides;  // not to be released under our hands
  DatagramTalkGone(index);
  ParkTalkGone(index);
  // For all its connections together: a peer that only ends the talk must not hold us.
  Naps patience(20 * kNsPerMs, 100 * kNsPerUs);
  for (uint32_t slot = 0; slot < kMaxSides && talk.sides > 1; ++slot) {
    AgentSide& note = agent.sides[slot];
    if (note.stage == Stage::kNone || note.talk != index) continue;
    if (note.stage != Stage::kAttached) {
      Abandon(slot, Reason::kPeerSilent);
      continue;
    }
    // We stop writing into the FIFO; what the peer has published stays readable until its FIN or
    // its seal.
    Side* side = SideAt(slot);
    side->reason.store(Reason::kPeerAgentGone, std::memory_order_relaxed);
    const int fd = side->fd.load(std::memory_order_acquire);
    const bool killed = FindSide(fd) == side && !note.theirs.fifo.Sealed();
    if (killed && note.mine.fifo.AvailableBytes() > 0) AwaitFin(fd, &patience);
    if (killed) {
      const LockScope scope(side->send.lock, CurrentTid());
      EndForDeadPeer(side, note);
    } else {
      note.mine.fifo.Seal();
    }
    // A killed peer may have taken a sleeper's request and not come to the wake; where another
    // process still holds its end of the connection, nothing else will tell.
    WakeOwnSleepersOf(side, note);
    ServiceSide(slot);
  }
  RingOwnDoorbell();
  --talk.sides;
  ReleaseTalkIfUnused(index);
}

void LeavePeer(uint32_t index, Reason reason) {
  Talk& talk = agent.talks[index];
  if (talk.leaving || talk.fd < 0) return;
  talk.leaving = true;
  sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, talk.fd, 0);
  ++talk.sides;  // not to be released under our hands
  DatagramTalkGone(index);
  ParkTalkGone(index);
  for (uint32_t slot = 0; slot < kMaxSides && talk.sides > 1; ++slot) {
    AgentSide& note = agent.sides[slot];
    if (note.stage == Stage::kNone || note.talk != index) continue;
    if (note.stage != Stage::kAttached) {
      Abandon(slot, reason);
      continue;
    }
    Side* side = SideAt(slot);
    FallBack(side->fd.load(std::memory_order_acquire), side, reason);
    // Also of a side that is closed and lingers.
    note.mine.fifo.Seal();
    note.theirs.fifo.Seal();
    ServiceSide(slot);
  }
  --talk.sides;
  ReleaseTalkIfUnused(index);
}

void LeaveAllPeers(Reason reason) {
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    const Talk& talk = agent.talks[i];
    if (talk.in_use && (talk.ready || talk.sides > 0)) LeavePeer(i, reason);
  }
}

void FallBackEverything(Reason reason) {
  EndDatagrams(reason);
  if (Arena() == nullptr) return;
  ReturnBorrowed(reason);
  EachSlot([reason](uint32_t slot) {
    Side* side = SideAt(slot);
    if (side->attached.load(std::memory_order_acquire) != 0 && IsOurs(side)) {
      FallBack(side->fd.load(std::memory_order_acquire), side, reason);
    }
  });
}

}  // namespace xenloop
