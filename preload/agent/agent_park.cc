// Connections for lives to come (side/parked.h): listeners are published, pairs attached, watched
// for a while, and let go. How two agents make a pair is in agent_park_talk.cc.
#include "preload/agent/agent_park.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
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
constexpr uint64_t kLongestMakingNs = 2 * kNsPerSecond;
// The server's end waits for its program's accept: else that would bring it the connection.
constexpr uint64_t kLongestUnacceptedNs = 60 * kNsPerSecond;

int OptionOf(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  const long result =
      sys::Call(SYS_getsockopt, fd, level, name, sys::Word(&value), sys::Word(&length));
  return result == 0 ? value : 0;
}

// Nothing about the listener changes what accept() would bring, or whose it is.
bool MayHaveQueue(const Side* listener, int fd) {
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  // Who waits for it by inline system calls would not be woken (D-22).
  const bool seen = EpollKnowsBy(listener, fd) ||
                    (listener->options_set.load(std::memory_order_relaxed) & kSeenInPoll) != 0;
  return seen && FindSide(fd) == listener &&
         listener->references.load(std::memory_order_acquire) == 1 &&
         listener->holders.load(std::memory_order_relaxed) == 1 &&
         listener->pinned.load(std::memory_order_relaxed) == 0 && flags >= 0 &&
         (flags & O_NONBLOCK) != 0 && OptionOf(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0 &&
         OptionOf(fd, SOL_SOCKET, SO_REUSEPORT) == 0 &&
         OptionOf(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 0 &&
         OptionOf(fd, IPPROTO_TCP, TCP_FASTOPEN) == 0 && OptionOf(fd, SOL_SOCKET, SO_LINGER) == 0 &&
         AskOptions(fd) == Reason::kNone && NetnsCookieOf(fd) == agent.netns_cookie;
}

// Its threads look at the virtual queue from now on, wherever they wait.
bool BecomesAware(ListenerQueue* queue) {
  Side* const listener = queue->listener;
  listener->owner_pid.store(process_state.pid, std::memory_order_release);
  // seq_cst: who goes to wait in the kernel counts himself, and then looks.
  listener->queue.store(static_cast<uint32_t>(queue - parked.queues) + 1,
                        std::memory_order_seq_cst);
  if (PrepareRegistrations(listener)) {
    WriteBell(listener);
    return true;
  }
  RestoreRegistrations(listener);
  listener->queue.store(0, std::memory_order_seq_cst);
  return false;
}

void PublishListener(ListenerQueue* queue) {
  Side* const listener = queue->listener;
  const int fd = listener->fd.load(std::memory_order_acquire);
  tcp_info info;
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  const bool may = MayHaveQueue(listener, fd) && TcpInfoOf(fd, &info) == 0 &&
                   sys::Call(SYS_getsockname, fd, sys::Word(&name), sys::Word(&length)) == 0 &&
                   ToEndpoint(name, &queue->name) &&
                   (QueueOf(listener) == queue || BecomesAware(queue));
  if (!may) {
    Log("listener %d cannot have parked connections", fd);
    const bool alone = listener->holders.load(std::memory_order_relaxed) == 1;
    queue->over.store(alone ? kQueueOverForGood : kQueueOverForNow, std::memory_order_relaxed);
    return;
  }
  queue->ipv6_only = name.ss_family == AF_INET6 && OptionOf(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
  queue->backlog = info.tcpi_sacked;  // of a listener: how many may wait
  // A thread that sleeps in the kernel and knows nothing: another time.
  const bool unaware = listener->receive.kernel_users.Any();
  const bool told =
      !unaware && agent.registry.Publish(HashOf(ListenerHint(queue->name)), agent.id) == 0;
  queue->published.store(told ? 2 : 0, std::memory_order_release);
}

// The listener is as it was before, once no connection of its queue is left.
void EndEmptyQueues() {
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) == 0 || queue.over.load() == 0 ||
        queue.pairs.load(std::memory_order_acquire) != 0 || queue.expected.load() != 0 ||
        QueueOf(queue.listener) != &queue)
      continue;
    RestoreRegistrations(queue.listener);
    queue.listener->queue.store(0, std::memory_order_seq_cst);
  }
}

bool NobodysConnectionIsAwaited(const ParkedPair& pair) {
  return pair.role == Role::kServer && pair.side == nullptr;
}

void NoLongerExpected(const ParkedPair& pair) {
  std::atomic<uint32_t>& expected = parked.queues[pair.place].expected;
  uint32_t now = expected.load(std::memory_order_relaxed);
  while (now != 0 && !expected.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel)) {
  }
}

// What is left of a pair whose client has gone between his connect and the accept.
void EndAwaited(ParkedPair* pair) {
  const int accepted = pair->accepted_fd.load(std::memory_order_acquire);
  NoLongerExpected(*pair);
  PairStage made = PairStage::kMade;
  if (pair->stage.compare_exchange_strong(made, PairStage::kFree, std::memory_order_acq_rel) &&
      accepted >= 0)
    ClosePrivate(accepted);
}

// The connection has come: the peer may begin lives on it.
void ServiceMade(ParkedPair* pair) {
  const int accepted = pair->accepted_fd.load(std::memory_order_acquire);
  if (pair->role != Role::kServer || accepted < 0 || pair->fd >= 0) return;
  if (NobodysConnectionIsAwaited(*pair)) return EndAwaited(pair);
  ListenerQueue& queue = parked.queues[pair->place];
  NoLongerExpected(*pair);
  pair->fd = accepted;
  if (queue.over.load(std::memory_order_seq_cst) != 0 || !AttachPair(pair)) return GiveUpPair(pair);
  TellParkReady(pair);
}

uint64_t LongestMakingOf(const ParkedPair& pair) {
  return pair.role == Role::kServer && pair.fd < 0 && parked.queues[pair.place].in_use.load() != 0
             ? kLongestUnacceptedNs
             : kLongestMakingNs;
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
  EndEmptyQueues();
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0 && queue.over.load() == 0 &&
        queue.published.load(std::memory_order_acquire) == 1)
      PublishListener(&queue);
  }
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
      const uint64_t since = now - pair.idle_since_ns.load(std::memory_order_relaxed);
      if (since <= LongestMakingOf(pair)) continue;
      if (NobodysConnectionIsAwaited(pair)) {
        EndAwaited(&pair);
      } else if (pair.side != nullptr) {
        GiveUpPair(&pair);
      }
    } else if (stage == PairStage::kIdle && EndIfIdle(&pair, now)) {
      parked.ended.fetch_add(1, std::memory_order_relaxed);
      FallBack(pair.fd, pair.side, Reason::kParkEnded);
    }
  }
  EndEmptyQueues();
  return any ? kBetweenLooksNs : kNotAgain;
}

void GiveUpPair(ParkedPair* pair) {
  Side* const side = pair->side;
  if (side == nullptr || pair->stage.load(std::memory_order_acquire) != PairStage::kMade) return;
  Log("connection %d is not to be parked", pair->fd);
  AgentSide& note = agent.sides[SlotOf(side)];
  if (pair->role == Role::kClient) NotNow(&parked.destinations[pair->place]);
  // It may be in the kernel's queue: the program's accept is not to bring it.
  const uint64_t since = sys::MonotonicNs() - pair->idle_since_ns.load(std::memory_order_relaxed);
  const bool awaited = pair->role == Role::kServer && pair->fd < 0 &&
                       parked.queues[pair->place].in_use.load() != 0 &&
                       since <= kLongestUnacceptedNs;
  if (pair->role == Role::kServer && pair->fd < 0 && !awaited) {
    NoLongerExpected(*pair);
    pair->fd = pair->accepted_fd.load(std::memory_order_acquire);
  }
  DropFifos(note);
  LeaveTalk(note);
  note.stage = Stage::kNone;
  LetGoOfPair(side);
  if (awaited) {
    pair->stage.store(PairStage::kMade, std::memory_order_release);
    WantParked();  // if it has come by now
  }
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
        agent.sides[SlotOf(pair.side)].talk == index)
      GiveUpPair(&pair);
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
