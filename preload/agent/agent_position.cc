// Where a reader stands, after a suspension without notice. The guest that was suspended has lost
// sight of its peers: what it has written into a FIFO they may have read, or not, in a page that it
// does not see any more. Its agent asks (WHERE), by way of the two daemons and the network, since
// they may be on two hosts now; the peer's agent seals that page, so that its answer stays true,
// and says (STANDS). Where nothing was under way the answer is not needed, but the question is: the
// peer would wait in that page for more, and for a word of ours that does not come.
//
// What vouches for both is the FIFO's identity: a random number that only the two programs and
// their daemons have seen.
#include <string.h>

#include "preload/agent/agent_tasks.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

// The network of a guest that has been resumed comes back within seconds; a daemon asks again
// itself while it knows the question.
constexpr uint64_t kAskAgainNs = 2 * kNsPerSecond;
constexpr uint64_t kPatienceNs = 30 * kNsPerSecond;

Talk* TalkForQuestions() {
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (agent.talks[i].in_use && agent.talks[i].asks && agent.talks[i].fd >= 0)
      return &agent.talks[i];
  }
  const long fd = ConnectToDaemon();
  const uint32_t index = fd < 0 ? kNoTalk : AdoptTalk(static_cast<int>(fd));
  if (index == kNoTalk) return nullptr;
  if (agent.talks[index].uid != 0) {
    TalkGone(index);
    return nullptr;
  }
  agent.talks[index].asks = true;
  return &agent.talks[index];
}

bool IsAsking(uint32_t slot) {
  const AgentSide& note = agent.sides[slot];
  return note.ask_identity != 0 &&
         SideAt(slot)->generation.load(std::memory_order_acquire) == note.generation;
}

void Ask(uint32_t slot) {
  const AgentSide& note = agent.sides[slot];
  Talk* const talk = TalkForQuestions();
  if (talk == nullptr) return;
  ControlMessage question;
  question.type = ControlType::kWhere;
  question.sender_slot = slot;
  question.sender_generation = note.generation;
  question.tuple = Reversed(note.tuple);
  question.words[0] = note.ask_identity;
  SendControl(*talk, question, nullptr, 0);  // else it is asked again
}

// The answer is in, or none will come: what waits for room may try now.
void GoOn(uint32_t slot) {
  agent.sides[slot].ask_identity = 0;
  ServiceSide(slot);
  RingOwnDoorbellAnyway();
}

}  // namespace

void AskPosition(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  const uint64_t identity = note.mine.fifo.header->identity;
  const bool needed =
      SideAt(slot)->send.route.load(std::memory_order_acquire) == SendRoute::kAsking;
  if (note.ask_identity != 0 || (note.asked_identity == identity && !needed)) return;
  if (identity == 0) return StopAsking(SideAt(slot));  // no guest's: memory of this machine, spoilt
  note.ask_identity = note.asked_identity = identity;
  const uint64_t now = AgentNs();
  note.ask_until_ns = now + kPatienceNs;
  agent.timers.StartWithin(Timer::kPositions, now, kAskAgainNs);
  Ask(slot);
}

uint64_t AskAgain(uint64_t now) {
  bool any = false;
  for (uint32_t slot = 0; slot < kMaxSides; ++slot) {
    if (agent.sides[slot].ask_identity == 0) continue;
    if (!IsAsking(slot)) {
      agent.sides[slot].ask_identity = 0;
    } else if (now < agent.sides[slot].ask_until_ns) {
      Ask(slot);
      any = true;
    } else {
      StopAsking(SideAt(slot));
      GoOn(slot);
    }
  }
  return any ? kAskAgainNs : kNotAgain;
}

bool OnStands(uint32_t index, const ControlMessage& message) {
  const uint32_t slot = message.receiver_slot;
  if (!agent.talks[index].asks) return false;
  if (slot >= kMaxSides || !IsAsking(slot) ||
      agent.sides[slot].generation != message.receiver_generation ||
      agent.sides[slot].ask_identity != message.words[0])
    return true;  // answered before
  Side* const side = SideAt(slot);
  const int lingering_fd = side->lingering_fd.load(std::memory_order_acquire);
  const int fd = lingering_fd >= 0 ? lingering_fd : side->fd.load(std::memory_order_acquire);
  {
    SocketShadow shadow(fd, side);
    LockScope scope(side->send.lock, CurrentTid());
    if (lingering_fd >= 0 || FindSide(fd) == side) side->send.Settle(shadow, message.words[1]);
  }
  Log("slot %u goes on: the peer had read %llu bytes", slot,
      static_cast<unsigned long long>(message.words[1]));
  GoOn(slot);
  return true;
}

bool OnWhere(uint32_t index, const ControlMessage& message) {
  Talk& talk = agent.talks[index];
  const uint64_t identity = message.words[0];
  if (talk.uid != 0 || IsBridged(talk) || identity == 0) return false;
  const uint32_t slot = FindPublished(message.tuple);
  if (slot == kMaxSides) return true;
  const AgentSide& note = agent.sides[slot];
  Side* const side = SideAt(slot);
  if (note.stage == Stage::kAttached && note.theirs.fifo.header->identity == identity) {
    // Whoever knows this has lost it. We may not have been told yet.
    FallBack(side->fd.load(std::memory_order_acquire), side, Reason::kPeerSuspended);
    ServiceSide(slot);
  }
  ControlMessage answer;
  answer.type = ControlType::kStands;
  answer.receiver_slot = message.sender_slot;
  answer.receiver_generation = message.sender_generation;
  answer.tuple = message.tuple;
  answer.words[0] = identity;
  {
    const LockScope scope(side->receive.lock, CurrentTid());
    if (side->receive.last_identity != identity ||
        side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp)
      return true;
    answer.words[1] = side->receive.last_consumed;
  }
  return SendControl(talk, answer, nullptr, 0) == 0;
}

}  // namespace xenloop
