// See own_doorbell.h.
#include "preload/side/own_doorbell.h"

#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/borrowed.h"
#include "preload/side/self.h"

namespace xenloop {

AgentShared agent_shared;

void AgentShared::Renew() {
  tid.store(0, std::memory_order_relaxed);
  start_failure.store(Reason::kNone, std::memory_order_relaxed);
  // No filter has come by the fork; a limit may be another one soon.
  if (obstacle.load(std::memory_order_relaxed) != Reason::kNone)
    obstacle.store(Reason::kFilterUntried, std::memory_order_relaxed);
  // What the parent's agent was told (`xenloop off`, `leave`) nobody could take back here.
  refused_for_now.store(Switch::kOn, std::memory_order_relaxed);
  doorbell = Doorbell{};
  ForgetOwnBells();
  ForgetPeerBells();
  own_page_count.store(0, std::memory_order_relaxed);
  for (std::atomic<uint64_t>& word : postponed.words) {
    if (word.load(std::memory_order_relaxed) != 0) word.store(0, std::memory_order_relaxed);
  }
  newly_postponed.store(0, std::memory_order_relaxed);
  for (std::atomic<uint64_t>& word : borrowed.words) {
    if (word.load(std::memory_order_relaxed) != 0) word.store(0, std::memory_order_relaxed);
  }
  borrows.store(0, std::memory_order_relaxed);
  parent_owes.store(0, std::memory_order_relaxed);
  parent_lost.store(0, std::memory_order_relaxed);
  unread.store(0, std::memory_order_relaxed);
  asks_about.store(0, std::memory_order_relaxed);
  started.store(0, std::memory_order_relaxed);
}

void RingPeerOf(const Side* side, bool certain, uint32_t bell) {
  const uint32_t talk = side->talk.load(std::memory_order_relaxed);
  if (talk >= kMaxTalks) return;
  if (certain || bell == kAnyBell) return RingDoorbell(agent_shared.peers[talk], certain);
  EachBellIn(bell, [talk](uint32_t one) { RingPeerBell(talk, one); });
}
void RingOwnOf(const Side* side) {
  EachBellIn(IsOurs(side) ? BellsOf(side) : kAnyBell, RingOwnBell);
  if (!IsOurs(side) && IsParents(side)) RingDoorbell(agent_shared.parents_doorbell);
}
void RingOwnDoorbell() { RingDoorbell(agent_shared.doorbell); }
void RingOwnDoorbellAnyway() { RingAnyway(agent_shared.doorbell); }

int OwnDoorbellFd() {
  return agent_shared.started.load(std::memory_order_acquire) == 2 ? agent_shared.doorbell.fd : -1;
}

bool MeetsGuests() { return agent_shared.own_page_count.load(std::memory_order_relaxed) != 0; }

SleeperPages AddSleeper(uint32_t bell, uint32_t second) {
  SleeperPages counted;
  counted.pid = process_state.pid;
  counted.own = agent_shared.doorbell.page;
  if (counted.own != nullptr) counted.own->Count(1);
  counted.of_bell = LineOfOwnBell(bell);
  if (counted.of_bell != nullptr) counted.of_bell->Count(1);
  counted.of_second = second == bell ? nullptr : LineOfOwnBell(second);
  if (counted.of_second != nullptr) counted.of_second->Count(1);
  // seq_cst: who borrows says so before its first wait.
  if (agent_shared.borrows.load(std::memory_order_seq_cst) != 0)
    counted.parents = agent_shared.parents_doorbell.page;
  if (counted.parents != nullptr) counted.parents->Count(1);
  // A page that is added after this look is for FIFOs that are attached later still. Attaching one
  // rings our own doorbell: a sleeper wakes then, and counts itself anew in all pages.
  counted.guests = agent_shared.own_page_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < counted.guests; ++i) agent_shared.own_pages[i]->Count(1);
  return counted;
}
void RemoveSleeper(const SleeperPages& counted) {
  if (counted.pid != process_state.pid) return;  // forked in a handler: the parent's count
  if (counted.own != nullptr) counted.own->Count(~0u);
  if (counted.of_bell != nullptr) counted.of_bell->Count(~0u);
  if (counted.of_second != nullptr) counted.of_second->Count(~0u);
  if (counted.parents != nullptr) counted.parents->Count(~0u);
  for (uint32_t i = 0; i < counted.guests; ++i) agent_shared.own_pages[i]->Count(~0u);
}
bool TookDoorbell(uint32_t bell) {
  DoorbellPage* const own = agent_shared.doorbell.page;
  if (own == nullptr) return false;
  own->Count(0);
  const uint32_t guests = agent_shared.own_page_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < guests; ++i) agent_shared.own_pages[i]->Count(0);
  DoorbellPage* const of_bell = LineOfOwnBell(bell);
  if (of_bell != nullptr) of_bell->Count(0);
  return (of_bell != nullptr ? of_bell : own)->sleepers.load(std::memory_order_seq_cst) != 0;
}

}  // namespace xenloop
