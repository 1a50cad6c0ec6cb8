// How two agents make a connection for lives to come: the client's says from which name it is going
// to connect (ASK), the server's prepares for it (JOIN), the client's connects, the server's
// program accepts it without knowing (IsToBeParked), and its agent says so (READY). No byte goes by
// it, and its name is known before it is there, so it needs no other proof.
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "channel/base/descriptor.h"
#include "channel/base/time.h"
#include "channel/local/local_transport.h"
#include "discovery/owner.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_park.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// A listener is found once it is hot itself; so it is looked for soon, and ever more seldom.
constexpr uint64_t kFirstPauseNs = 10 * kNsPerMs;
constexpr uint64_t kLongestPauseNs = 2 * kNsPerSecond;
constexpr uint64_t kBoardBytes = kMinFifoBytes;
static_assert(sizeof(ParkedBoard) <= kBoardBytes && kFifoDataOffset % alignof(ParkedBoard) == 0);

// A board is the data of a FIFO that is none: memory made, passed and checked as theirs.
ParkedBoard* BoardIn(const FifoMapping& mapping) {
  return reinterpret_cast<ParkedBoard*>(mapping.fifo.data);
}

// For others than the own user the streams' proofs are not there yet.
bool MayMeet(const Talk& talk) {
  return GetConfig().park && !IsBridged(talk) && talk.netns_cookie == agent.netns_cookie &&
         (agent.netns_cookie != 0 || !GetConfig().realm) &&
         (talk.uid == agent.uid || talk.uid == 0) &&
         agent_shared.refused_for_now.load(std::memory_order_relaxed) == Switch::kOn;
}

// ---- both ends ----

bool BeginPair(ParkedPair* pair, uint32_t talk) {
  Side* const side = AllocateSide();
  if (side == nullptr) return false;
  pair->side = side;
  side->owner_pid.store(process_state.pid, std::memory_order_release);
  side->next_attempt.store(~0ull, std::memory_order_relaxed);
  side->pair.store(static_cast<uint32_t>(pair - parked.pairs) + 1, std::memory_order_release);
  AgentSide& note = agent.sides[SlotOf(side)];
  note = AgentSide{};
  note.generation = side->generation.load(std::memory_order_relaxed);
  note.stage = Stage::kParking;
  note.talk = talk;
  ++agent.talks[talk].sides;
  return true;
}

ControlMessage MessageOf(const ParkedPair* pair, ControlType type) {
  const uint32_t slot = SlotOf(pair->side);
  const AgentSide& note = agent.sides[slot];
  ControlMessage message;
  message.type = type;
  message.sender_slot = slot;
  message.sender_generation = note.generation;
  message.receiver_slot = note.peer_slot;
  message.receiver_generation = note.peer_generation;
  return message;
}

int CreateFifoOf(ParkedPair* pair, Ticket* ticket) {
  AgentSide& note = agent.sides[SlotOf(pair->side)];
  const Talk& talk = agent.talks[note.talk];
  return talk.transport->create_fifo(talk.fifo_bytes, &note.mine, ticket);
}

// ---- the client's end ----

// From which address the kernel would connect there.
bool SourceTo(const Destination& to, sockaddr_storage* source, socklen_t* length) {
  const long probe =
      sys::MakeDescriptor(SYS_socket, to.name.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return false;
  const bool known = sys::Call(SYS_connect, probe, sys::Word(&to.name), to.name_length) == 0 &&
                     sys::Call(SYS_getsockname, probe, sys::Word(source), sys::Word(length)) == 0;
  sys::Close(static_cast<int>(probe));
  if (source->ss_family == AF_INET) reinterpret_cast<sockaddr_in*>(source)->sin_port = 0;
  if (source->ss_family == AF_INET6) reinterpret_cast<sockaddr_in6*>(source)->sin6_port = 0;
  return known;
}

// A socket that has its name already; private, or negative.
int NamedSocket(const Destination& to, Tuple* tuple) {
  sockaddr_storage source = {};
  socklen_t length = sizeof source;
  if (!SourceTo(to, &source, &length)) return -1;
  const int fd =
      MakePrivateBy(SYS_socket, to.name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  tuple->peer = to.to;
  if (sys::Call(SYS_bind, fd, sys::Word(&source), length) == 0 &&
      sys::Call(SYS_getsockname, fd, sys::Word(&source), sys::Word(&length)) == 0 &&
      ToEndpoint(source, &tuple->local))
    return fd;
  ClosePrivate(fd);
  return -1;
}

uint32_t TalkToListener(const Endpoint& to) {
  for (const Endpoint& name : {to, AnyAddress(to.port), Endpoint{{}, to.port}}) {
    if (name.IsV4() && !to.IsV4()) continue;
    uint64_t ids[4];
    const size_t found = agent.registry.Lookup(agent.uid, HashOf(ListenerHint(name)), ids, 4);
    for (size_t i = 0; i < found; ++i) {
      const uint32_t talk = ids[i] != agent.id ? TalkTo(ids[i], agent.uid) : kNoTalk;
      if (talk != kNoTalk) return talk;
    }
  }
  return kNoTalk;
}

ParkedPair* PairAt(uint32_t talk, const ControlMessage& message, Role role) {
  const uint32_t slot = message.receiver_slot;
  if (slot >= kMaxSides) return nullptr;
  const AgentSide& note = agent.sides[slot];
  if (note.stage != Stage::kParking || note.talk != talk ||
      note.generation != message.receiver_generation)
    return nullptr;
  ParkedPair* const pair = PairOf(SideAt(slot));
  return pair != nullptr && pair->role == role &&
                 pair->stage.load(std::memory_order_acquire) == PairStage::kMade
             ? pair
             : nullptr;
}

// The board of the destination's listener, of which there is one at a time.
bool HasBoard(Destination* to, uint64_t id, Ticket* ticket) {
  const LockScope scope(to->lock, CurrentTid());
  if (to->board != nullptr && to->board_id == id) return true;
  // Another pair has the former server's, or will have once it is ready.
  if (to->board != nullptr && to->made.load(std::memory_order_relaxed) > 1) return false;
  FifoMapping mapping;
  Ticket second;
  second.fds[0] = ticket->fds[1];
  ticket->fds[1] = -1;
  if (LocalTransport().map_fifo(&second, &mapping) != 0) return false;
  if (to->board != nullptr) ReleaseFifo(&to->mapping);
  to->mapping = mapping;
  to->board = BoardIn(mapping);
  to->board_id = id;
  return true;
}

void OnParkJoin(ParkedPair* pair, const ControlMessage& message, Ticket* ticket) {
  AgentSide& note = agent.sides[SlotOf(pair->side)];
  Destination& to = parked.destinations[pair->place];
  note.peer_slot = message.sender_slot;
  note.peer_generation = message.sender_generation;
  pair->hint = static_cast<uint32_t>(message.words[0] % kMostParked);
  // A long time ago: the other agent expects no connection any more.
  const uint64_t age = sys::MonotonicNs() - pair->idle_since_ns.load(std::memory_order_relaxed);
  if (note.theirs.fifo || age > kLongestMakingNs || !HasBoard(&to, message.words[1], ticket))
    return GiveUpPair(pair);
  {
    const LockScope scope(to.lock, CurrentTid());
    pair->board = to.board;
  }
  Ticket first;
  first.fds[0] = ticket->fds[0];
  ticket->fds[0] = -1;
  if (LocalTransport().map_fifo(&first, &note.theirs) != 0) return GiveUpPair(pair);
  const long result = sys::Call(SYS_connect, pair->fd, sys::Word(&to.name), to.name_length);
  if (result != 0 && result != -EINPROGRESS) GiveUpPair(pair);
}

// Whoever says that he has the listener might have another user's connections otherwise.
bool IsAtTheOtherEnd(const Talk& talk, const Tuple& tuple) {
  uid_t owner = 0;
  return talk.uid == 0 || (OwnerOf(Reversed(tuple), &owner) == 0 && owner == talk.uid);
}

void OnParkReady(ParkedPair* pair) {
  Destination& to = parked.destinations[pair->place];
  const AgentSide& note = agent.sides[SlotOf(pair->side)];
  if (!note.theirs.fifo || !IsAtTheOtherEnd(agent.talks[note.talk], pair->tuple) ||
      !AttachPair(pair))
    return GiveUpPair(pair);
  to.pause_ns = 0;
  to.why.store(Reason::kNone, std::memory_order_relaxed);
  // The kernel tells who asks first that it succeeded, and all others that it is connected.
  sys::Call(SYS_connect, pair->fd, sys::Word(&to.name), to.name_length);
  for (std::atomic<ParkedPair*>& place : to.pairs) {
    ParkedPair* none = nullptr;
    if (place.compare_exchange_strong(none, pair, std::memory_order_acq_rel)) return;
  }
}

// ---- the server's end ----

// Also of one that a listener had before.
QueueBoard* Ready(ListenerQueue* queue, QueueBoard* at) {
  WriteBell(queue->listener);
  AcceptorEnters(queue);  // who sleeps there already
  ParkedBoard& board = *at->board.load(std::memory_order_relaxed);
  board.most_waiting.store(queue->backlog, std::memory_order_relaxed);
  std::atomic<uint32_t>& ready = board.ready;
  ready.store(1, std::memory_order_seq_cst);
  if (queue->over.load(std::memory_order_seq_cst) != 0) ready.store(0, std::memory_order_seq_cst);
  return at;
}

// That of the talk, made if need be; or nullptr.
QueueBoard* BoardFor(ListenerQueue* queue, uint32_t talk) {
  QueueBoard* free = nullptr;
  for (QueueBoard& at : queue->boards) {
    if (at.talk == talk + 1) return Ready(queue, &at);
    bool empty = at.talk == 0;
    for (const QueuedEnd& end : at.ends) empty = empty && !end;
    if (empty && free == nullptr) free = &at;
  }
  if (free == nullptr) return nullptr;
  if (free->board.load(std::memory_order_relaxed) == nullptr) {
    FifoMapping mapping;
    Ticket ticket;
    if (LocalTransport().create_fifo(kBoardBytes, &mapping, &ticket) != 0) return nullptr;
    free->board_fd = MakePrivate(ticket.fds[0]);
    if (free->board_fd < 0) return nullptr;
    free->board.store(BoardIn(mapping), std::memory_order_release);
  }
  free->id = agent.id + ++parked.boards;
  free->talk = talk + 1;
  // What a client before has left: else the board would look full.
  free->board.load(std::memory_order_relaxed)->hints.store(0, std::memory_order_seq_cst);
  return Ready(queue, free);
}

// Prepares the server's end. False: nothing is left of it but the pair.
bool Expect(ParkedPair* pair, ListenerQueue* queue, QueueBoard* board, uint32_t talk,
            const ControlMessage& ask, Ticket* ticket) {
  uint32_t hint = 0;
  while (hint < kMostParked && board->ends[hint]) ++hint;
  if (hint == kMostParked || !BeginPair(pair, talk)) return false;
  pair->place = static_cast<uint32_t>(queue - parked.queues);
  pair->board_at = static_cast<uint32_t>(board - queue->boards);
  pair->hint = hint;
  pair->board = board->board.load(std::memory_order_relaxed);
  pair->tuple = ask.tuple;
  queue->pairs.fetch_add(1, std::memory_order_acq_rel);
  board->ends[hint].Set(pair);
  parked.expected.fetch_add(1, std::memory_order_acq_rel);
  AgentSide& note = agent.sides[SlotOf(pair->side)];
  note.peer_slot = ask.sender_slot;
  note.peer_generation = ask.sender_generation;
  Ticket mine;
  if (agent.talks[talk].transport->map_fifo(ticket, &note.theirs) != 0 ||
      CreateFifoOf(pair, &mine) != 0) {
    GiveUpPair(pair);
    return false;
  }
  ControlMessage join = MessageOf(pair, ControlType::kParkJoin);
  join.words[0] = hint;
  join.words[1] = board->id;
  const int both[2] = {mine.fds[0], board->board_fd};
  const int error = SendControl(agent.talks[talk], join, both, 2);
  sys::Close(mine.fds[0]);
  if (error != 0) GiveUpPair(pair);
  return error == 0;
}

void OnParkAsk(uint32_t talk, const ControlMessage& message, Ticket* ticket) {
  ListenerQueue* const queue =
      MayMeet(agent.talks[talk]) && PeerMayHold(agent.talks[talk], message.tuple)
          ? QueueFor(message.tuple.local)
          : nullptr;
  const bool room = queue != nullptr && MayBeAskedOf(*queue, message.tuple);
  QueueBoard* const board = room ? BoardFor(queue, talk) : nullptr;
  ParkedPair* const pair = board != nullptr ? TakePair(Role::kServer) : nullptr;
  if (pair != nullptr && Expect(pair, queue, board, talk, message, ticket)) {
    agent.timers.StartWithin(Timer::kParked, AgentNs(), kNsPerSecond);
    return;
  }
  if (pair != nullptr && pair->side == nullptr)
    pair->stage.store(PairStage::kFree, std::memory_order_release);
  Log("not to be parked: queue %d, room %d, board %d", queue != nullptr, room, board != nullptr);
  ControlMessage refusal;
  refusal.type = ControlType::kParkRefuse;
  refusal.receiver_slot = message.sender_slot;
  refusal.receiver_generation = message.sender_generation;
  SendControl(agent.talks[talk], refusal, nullptr, 0);
}

}  // namespace

void NotNow(Destination* to, Reason why) {
  to->why.store(why, std::memory_order_relaxed);
  to->wanted.store(0, std::memory_order_relaxed);
  to->pause_ns = to->pause_ns == 0 ? kFirstPauseNs : std::min(2 * to->pause_ns, kLongestPauseNs);
  to->not_before_ns.store(sys::MonotonicNs() + to->pause_ns, std::memory_order_relaxed);
}

void AskToPark(Destination* destination) {
  if (sys::MonotonicNs() < destination->not_before_ns.load(std::memory_order_relaxed)) return;
  {
    // From here on it keeps its name.
    const LockScope scope(destination->lock, CurrentTid());
    if (destination->in_use.load(std::memory_order_relaxed) != 2) return;
    destination->made.fetch_add(1, std::memory_order_acq_rel);
  }
  const auto not_made = [destination] {
    destination->made.fetch_sub(1, std::memory_order_acq_rel);
  };
  const uint32_t talk = TalkToListener(destination->to);
  if (talk != kNoTalk && !agent.talks[talk].ready) {  // once it has said HELLO
    not_made();
    parked.wanted.store(1, std::memory_order_relaxed);
    return;
  }
  ParkedPair* const pair =
      talk != kNoTalk && MayMeet(agent.talks[talk]) ? TakePair(Role::kClient) : nullptr;
  if (pair == nullptr) {
    const bool found = talk != kNoTalk && MayMeet(agent.talks[talk]);
    NotNow(destination, found ? Reason::kNoDescriptors : Reason::kParkNoListener);
    return not_made();
  }
  pair->place = static_cast<uint32_t>(destination - parked.destinations);
  pair->fd = NamedSocket(*destination, &pair->tuple);
  if (pair->fd < 0 || !BeginPair(pair, talk)) {
    if (pair->fd >= 0) ClosePrivate(pair->fd);
    pair->stage.store(PairStage::kFree, std::memory_order_release);
    NotNow(destination, Reason::kNoDescriptors);
    return not_made();
  }
  Ticket ticket;
  if (CreateFifoOf(pair, &ticket) != 0) {
    GiveUpPair(pair);
    return;
  }
  ControlMessage ask = MessageOf(pair, ControlType::kParkAsk);
  ask.tuple = Reversed(pair->tuple);
  const int error = SendControl(agent.talks[talk], ask, ticket.fds, 1);
  sys::Close(ticket.fds[0]);
  if (error != 0) GiveUpPair(pair);
}

void TellParkReady(ParkedPair* pair) {
  const AgentSide& note = agent.sides[SlotOf(pair->side)];
  SendControl(agent.talks[note.talk], MessageOf(pair, ControlType::kParkReady), nullptr, 0);
}

bool WantsParkMessage(uint32_t talk, const ControlMessage& message) {
  if (!GetConfig().park) return false;
  if (message.type == ControlType::kParkAsk) return true;
  return message.type == ControlType::kParkJoin && PairAt(talk, message, Role::kClient) != nullptr;
}

bool OnParkMessage(uint32_t talk, const ControlMessage& message, Ticket* ticket) {
  if (!GetConfig().park) return false;  // we have published nothing, and asked nobody
  if (message.type == ControlType::kParkAsk) {
    OnParkAsk(talk, message, ticket);
    return true;
  }
  ParkedPair* const pair = PairAt(talk, message, Role::kClient);
  if (pair == nullptr) return true;  // given up meanwhile
  if (message.type == ControlType::kParkJoin) {
    OnParkJoin(pair, message, ticket);
  } else if (message.type == ControlType::kParkReady) {
    OnParkReady(pair);
  } else {
    GiveUpPair(pair);
  }
  return true;
}

}  // namespace xenloop
