// Connections for lives to come (side/parked.h): listeners are published, pairs attached, watched
// for a while, and let go. How two agents make a pair is in agent_park_talk.cc.
#include "preload/agent/agent_park.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "discovery/owner.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/socket_options.h"

namespace xenloop {
namespace {

constexpr uint64_t kBetweenLooksNs = 250 * kNsPerMs;
constexpr uint64_t kLongestIdleNs = kNsPerSecond;
// So long the other agent may take to begin it. Then the kernel is asked whether it waits.
constexpr uint64_t kLongestOrphanNs = 3 * kNsPerSecond;

// The connection has come: the peer may begin lives on it.
void ServiceMade(ParkedPair* pair) {
  const int accepted = pair->accepted_fd.load(std::memory_order_acquire);
  if (pair->role != Role::kServer || accepted < 0 || pair->fd >= 0) return;
  if (pair->side == nullptr) {  // given up at the same time
    ClosePrivate(accepted);
    EndOrphan(pair);
    return;
  }
  const ListenerQueue& queue = parked.queues[pair->place];
  NoLongerExpected();
  pair->fd = accepted;
  if (queue.over.load(std::memory_order_seq_cst) != 0 || !AttachPair(pair)) return GiveUpPair(pair);
  TellParkReady(pair);
}

// The kernel has nothing of that name that waits, and its agent had the time to make it.
bool WillNotCome(const ParkedPair& orphan, uint64_t now) {
  if (now - orphan.idle_since_ns.load(std::memory_order_relaxed) <= kLongestOrphanNs) return false;
  Arrival arrival;
  const int error = ArrivalOf(orphan.tuple, &arrival);
  return error == 0 ? !arrival.WaitsForAccept() : error == -ENOENT;
}

void LookAtMade(ParkedPair* pair, uint64_t now) {
  const uint64_t since = now - pair->idle_since_ns.load(std::memory_order_relaxed);
  if (pair->side == nullptr && pair->role == Role::kServer) {
    ServiceMade(pair);
    if (IsOrphan(*pair) && WillNotCome(*pair, now)) EndOrphan(pair);
  } else if (pair->side != nullptr &&
             since > (pair->role == Role::kServer ? 2 * kLongestMakingNs : kLongestMakingNs)) {
    GiveUpPair(pair);
  }
}

bool EndIfIdle(ParkedPair* pair, uint64_t now) {
  Side* const side = pair->side;
  if (pair->role != Role::kClient || side == nullptr ||
      now - pair->idle_since_ns.load(std::memory_order_relaxed) < kLongestIdleNs)
    return false;
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  return pair->stage.load(std::memory_order_relaxed) == PairStage::kIdle && pair->end &&
         pair->end.EndIdle();
}

}  // namespace

Tuple ListenerHint(const Endpoint& name) { return NameHint("xenloop listener", name); }

void ServiceParked() {
  if (parked.wanted.load(std::memory_order_relaxed) == 0 || parked.wanted.exchange(0) == 0) return;
  ServiceQueues();
  for (ParkedPair& pair : parked.pairs) {
    if (pair.stage.load(std::memory_order_acquire) == PairStage::kMade) ServiceMade(&pair);
  }
  for (Destination& destination : parked.destinations) {
    if (destination.in_use.load(std::memory_order_acquire) == 2 &&
        destination.wanted.load() > destination.made.load())
      AskToPark(&destination);
  }
  agent.timers.StartWithin(Timer::kParked, AgentNs(), kBetweenLooksNs);
}

uint64_t LookAtParked() {
  // Not the agent's clock: the program's threads note when a connection was parked.
  const uint64_t now = sys::MonotonicNs();
  bool any = false;
  for (ParkedPair& pair : parked.pairs) {
    const PairStage stage = pair.stage.load(std::memory_order_acquire);
    any = any || stage != PairStage::kFree;
    if (stage == PairStage::kMade) {
      LookAtMade(&pair, now);
    } else if (stage == PairStage::kIdle && EndIfIdle(&pair, now)) {
      parked.ended.fetch_add(1, std::memory_order_relaxed);
      FallBack(pair.fd, pair.side, Reason::kParkEnded);
    }
  }
  LookAtQueues();
  return any ? kBetweenLooksNs : kNotAgain;
}

void GiveUpPair(ParkedPair* pair) {
  Side* const side = pair->side;
  if (side == nullptr || pair->stage.load(std::memory_order_acquire) != PairStage::kMade) return;
  Log("connection %d is not to be parked", pair->fd);
  AgentSide& note = agent.sides[SlotOf(side)];
  if (pair->role == Role::kClient) NotNow(&parked.destinations[pair->place], Reason::kParkRefused);
  // It may be in the kernel's queue, or come there: the program's accept is not to bring it.
  const int accepted = pair->accepted_fd.load(std::memory_order_acquire);
  const bool orphan = pair->role == Role::kServer && pair->fd < 0 && accepted < 0;
  if (pair->role == Role::kServer && pair->fd < 0 && !orphan) {
    NoLongerExpected();
    pair->fd = accepted;
  }
  DropFifos(note);
  LeaveTalk(note);
  note.stage = Stage::kNone;
  LetGoOfPair(side);
  side->references.store(0, std::memory_order_release);
  side->holders.store(0, std::memory_order_release);
  FreeSide(side);
}

bool AttachPair(ParkedPair* pair) {
  Side* const side = pair->side;
  const uint32_t slot = SlotOf(side);
  AgentSide& note = agent.sides[slot];
  const int fd = pair->fd;
  // Translated addresses would need a proof of who is at the other end (agent_pairing.cc).
  if (TrackingOf(fd, pair->tuple) != Tracking::kNone || NetnsCookieOf(fd) != agent.netns_cookie ||
      Watch(fd, WatchKind::kShadow, slot, note.generation,
            EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET) != 0)
    return false;
  for (int i = 0; i < kRestoredOptions; ++i)
    pair->initial[i] = OptionOf(fd, kRestored[i].level, kRestored[i].name);
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  pair->peer_name_length = sizeof pair->peer_name;
  sys::Call(SYS_getpeername, fd, sys::Word(&pair->peer_name), sys::Word(&pair->peer_name_length));
  PrepareRegistrations(side);  // there are none: those to come
  const uint32_t tid = CurrentTid();
  {
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
    side->nonblocking.store((flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
    side->opening.store(pair->role == Role::kClient ? Opening::kConnected : Opening::kAccepted,
                        std::memory_order_relaxed);
    side->talk.store(note.talk, std::memory_order_relaxed);
    note.stage = Stage::kAttached;
    note.tuple = pair->tuple;
    SharedLifeWord* const word =
        pair->role == Role::kServer ? &note.mine.fifo.header->life : &note.theirs.fifo.header->life;
    pair->end = ParkedEnd(pair->role, word, note.mine.fifo, note.theirs.fifo);
    // No byte has gone by TCP: both directions begin on their FIFOs.
    note.mine.fifo.header->up.store(1, std::memory_order_relaxed);
    note.mine.fifo.header->consumer_ready.store(1, std::memory_order_relaxed);
    side->send.fifo = note.mine.fifo;
    side->send.known_consumer = 0;
    side->send.lives = Lives{word, pair->role};
    side->receive.lives = side->send.lives;
    side->receive.BecomeAware(note.theirs.fifo);
    side->receive.switch_offset = 0;
    side->receive.route.store(ReceiveRoute::kFifo, std::memory_order_release);
    side->send.route.store(SendRoute::kFifo, std::memory_order_release);
    FdTable::SetSide(fd, side);
    side->fd.store(fd, std::memory_order_release);
    side->reason.store(Reason::kNone, std::memory_order_relaxed);
    side->upgrades.store(1, std::memory_order_relaxed);
    side->attached.store(1, std::memory_order_release);
    WriteBell(side);
    pair->idle_since_ns.store(sys::MonotonicNs(), std::memory_order_relaxed);
    pair->stage.store(PairStage::kIdle, std::memory_order_release);
  }
  parked.made.fetch_add(1, std::memory_order_relaxed);
  ReclaimLater();
  TellBells(slot);
  Log("parked connection %d, slot %u", fd, slot);
  return true;
}

bool EndUnusedPair(Side* side) {
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr) return false;
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  if (pair->stage.load(std::memory_order_relaxed) != PairStage::kIdle || !pair->end ||
      !pair->end.Ended())
    return false;
  pair->end.End();
  return pair->end.MayLetGo();
}

void DetachPair(Side* side) {
  side->send.lives = {};
  side->receive.lives = {};
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr || !pair->end) return;
  pair->end.End();
  // A life that waits for its accept gets one, as an ordinary connection.
  const LifeWord word = pair->end.Word();
  pair->owed = pair->end.MayLetGo() ? LifeWord{} : word;
  // No life is left to be told of its end: by a reset, so that no TIME_WAIT keeps the server's name
  // from its next process. (A life that we have closed, and the server has not, shows our bit.)
  if (pair->role == Role::kClient && !word.Has(LifeWord::Closed(Role::kClient)) &&
      pair->stage.load(std::memory_order_relaxed) == PairStage::kIdle)
    pair->reset = true;
  pair->end = ParkedEnd{};
  sys::Call(SYS_epoll_ctl, agent.epoll_fd, EPOLL_CTL_DEL, pair->fd, 0);
}

bool CloseIdlePair(uint32_t slot) {
  Side* const side = SideAt(slot);
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr) return false;
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
    if (pair->stage.load(std::memory_order_relaxed) != PairStage::kIdle) return false;
    if (pair->owed.Waiting()) return true;
    pair->stage.store(PairStage::kMade, std::memory_order_release);
    FdTable::SetPrivate(pair->fd);
  }
  Unlist(slot);
  agent.sides[slot].stage = Stage::kNone;
  // The program's end comes first, as it did; then, if something was not read, the reset.
  if (pair->reset)
    ResetWhenClosed(pair->fd);
  else
    sys::Call(SYS_shutdown, pair->fd, SHUT_WR);
  LetGoOfPair(side);
  side->references.store(0, std::memory_order_release);
  side->holders.store(0, std::memory_order_release);
  FreeSide(side);
  return true;
}

void ParkTalkGone(uint32_t index) {
  if (!parks_something.load(std::memory_order_relaxed)) return;
  for (ParkedPair& pair : parked.pairs) {
    if (pair.stage.load(std::memory_order_acquire) == PairStage::kMade && pair.side != nullptr &&
        agent.sides[SlotOf(pair.side)].talk == index) {
      // What has not been connected by now will not be: an orphan's time is over.
      pair.idle_since_ns.store(0, std::memory_order_relaxed);
      GiveUpPair(&pair);
    }
  }
  for (ListenerQueue& queue : parked.queues) {
    for (QueueBoard& board : queue.boards) {
      if (board.talk != index + 1) continue;
      board.talk = 0;
      if (queue.in_use.load(std::memory_order_acquire) == 0) continue;
      // Killed between the queue of a life and its hint, or the ring: then nobody else tells.
      HintAll(*board.board.load(std::memory_order_acquire));
      RingOwnOf(queue.listener);
    }
  }
}

}  // namespace xenloop
