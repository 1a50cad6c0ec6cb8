// Bells (side/bells.h) between agents: ours are told to the peers that need them, each once a talk,
// theirs are taken, within bounds.
#include <string.h>

#include "preload/agent/agent_tasks.h"
#include "preload/side/bells.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

// Each costs us a descriptor. A peer has one for each of its epoll sets that is worth it.
constexpr uint32_t kMostOfOthers = 16;

uint64_t told[kMaxTalks][kMostBells / 64];  // a bit a bell

bool TellBell(uint32_t index, uint32_t bell) {
  uint64_t& word = told[index][bell / 64];
  const uint64_t bit = 1ull << (bell % 64);
  const int fd = OwnBellFd(bell);
  if (fd < 0 || (word & bit) != 0) return fd >= 0;
  ControlMessage message;
  message.type = ControlType::kBell;
  message.words[0] = bell;
  // What finds no room is told when there is some; the doorbell serves meanwhile.
  if (!FdTable::IsPrivate(fd) || SendControl(agent.talks[index], message, &fd, 1) != 0)
    return false;
  word |= bit;
  return true;
}

}  // namespace

void TellBells(uint32_t slot) {
  const uint32_t index = agent.sides[slot].talk;
  Side* const side = SideAt(slot);
  const uint32_t bell = side->bell.load(std::memory_order_relaxed);
  const uint32_t for_poll = PollBellOf(side);
  const bool needs_telling = bell < kMostBells && NeedsTelling(side, bell);
  if (index == kNoTalk || (!needs_telling && for_poll <= kCommonBell)) return;
  const Talk& talk = agent.talks[index];
  if (talk.transport->map_bell == nullptr || talk.fd < 0 || !talk.ready || talk.leaving) return;
  if (needs_telling && TellBell(index, kCommonBell) && TellBell(index, bell))
    side->told_bell.store(bell, std::memory_order_relaxed);
  if (for_poll > kCommonBell && for_poll < kMostBells) TellBell(index, for_poll);
}

void TellBellsAnew(uint32_t talk) {
  EachSlot([talk](uint32_t slot) {
    if (agent.sides[slot].stage == Stage::kAttached && agent.sides[slot].talk == talk)
      TellBells(slot);
  });
}

void ForgetToldBells(uint32_t talk) {
  for (uint64_t& word : told[talk]) {
    if (word != 0) word = 0;
  }
}

bool WantsBell(uint32_t talk, const ControlMessage& message) {
  return message.words[0] < kMostBells &&
         WantsPeerBell(talk, static_cast<uint32_t>(message.words[0]),
                       IsTrusted(agent.talks[talk]) ? kMostBells : kMostOfOthers);
}

bool OnBell(uint32_t index, const ControlMessage& message, Ticket* ticket) {
  const Talk& talk = agent.talks[index];
  if (talk.transport->map_bell == nullptr || message.words[0] == kAnyBell ||
      message.words[0] >= DoorbellOf(talk).lines)
    return false;
  if (!WantsBell(index, message) || ticket->fds[0] < 0) return true;  // or we had none left
  int fd = talk.transport->map_bell(ticket);
  if (fd < 0) return false;
  fd = MakePrivate(fd);
  if (fd >= 0 && !AddPeerBell(index, static_cast<uint32_t>(message.words[0]), fd)) ClosePrivate(fd);
  return true;
}

}  // namespace xenloop
