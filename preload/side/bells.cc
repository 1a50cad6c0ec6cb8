// See bells.h.

#include "preload/side/bells.h"

#include <sys/mman.h>

#include "channel/base/descriptor.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

// Of the descriptors that the program may have: so large a part for bells of ours at the most, and
// as large a one for those of all peers.
constexpr uint32_t kShare = 16;

const Transport* makes;                  // bells
Bell own[kMostBells];                    // a descriptor is made once, and stays
std::atomic<uint32_t> lent[kMostBells];  // to a set
uint32_t held_of_peers;                  // the agent's

uint32_t MostBells() {
  const auto share = static_cast<uint64_t>(sys::DescriptorLimit()) / kShare;
  return share < kMostBells ? static_cast<uint32_t>(share) : kMostBells;
}

bool MakeBell(uint32_t bell) {
  if (OwnBellFd(bell) >= 0) return true;
  if (makes == nullptr || agent_shared.doorbell.lines <= bell || agent_shared.doorbell.fd < 0)
    return false;
  const int fd = MakePrivate(makes->create_bell());
  if (fd < 0) return false;
  own[bell].rung = 0;
  __atomic_store_n(&own[bell].fd, fd, __ATOMIC_RELEASE);
  return true;
}

}  // namespace

void MakeCommonBell(const Transport& transport) {
  makes = &transport;
  MakeBell(kCommonBell);
}

uint32_t LendOwnBell(BellFor whom) {
  // Half of them are left to the sets.
  const uint32_t most = whom == BellFor::kSet ? MostBells() : MostBells() / 2;
  for (uint32_t bell = kCommonBell + 1; bell < most; ++bell) {
    uint32_t free = 0;
    if (lent[bell].load(std::memory_order_relaxed) != 0 ||
        !lent[bell].compare_exchange_strong(free, 1, std::memory_order_acq_rel))
      continue;
    if (MakeBell(bell)) return bell;
    GiveBackOwnBell(bell);
    return kAnyBell;
  }
  return kAnyBell;
}

void GiveBackOwnBell(uint32_t bell) {
  if (bell < kMostBells) lent[bell].store(0, std::memory_order_release);
}

int OwnBellFd(uint32_t bell) {
  if (bell == kAnyBell || bell >= kMostBells) return -1;
  const int fd = __atomic_load_n(&own[bell].fd, __ATOMIC_ACQUIRE);
  return fd > 0 ? fd : -1;
}

DoorbellPage* LineOfOwnBell(uint32_t bell) {
  DoorbellPage* const page = agent_shared.doorbell.page;
  return page != nullptr && OwnBellFd(bell) >= 0 ? LineOf(page, bell) : nullptr;
}

void RingOwnBell(uint32_t bell) {
  if (!FdTable::IsPrivate(OwnBellFd(bell))) return RingOwnDoorbell();
  RingBell(agent_shared.doorbell, &own[bell], bell);
}

void RingOwnBellAnyway(uint32_t bell) {
  if (!FdTable::IsPrivate(OwnBellFd(bell))) return RingOwnDoorbellAnyway();
  RingBellAnyway(agent_shared.doorbell, own[bell]);
}

void CloseOwnBells() {
  for (uint32_t bell = 0; bell < kMostBells; ++bell) {
    const int fd = OwnBellFd(bell);
    if (fd < 0) continue;
    // First: whoever rings must not meet the number's next owner.
    __atomic_store_n(&own[bell].fd, 0, __ATOMIC_RELEASE);
    lent[bell].store(0, std::memory_order_relaxed);
    ClosePrivate(fd);
  }
}

void ForgetOwnBells() {
  for (uint32_t bell = 0; bell < kMostBells; ++bell) {
    if (OwnBellFd(bell) < 0) continue;
    __atomic_store_n(&own[bell].fd, 0, __ATOMIC_RELEASE);
    lent[bell].store(0, std::memory_order_relaxed);
  }
}

bool NeedsTelling(const Side* side, uint32_t bell) {
  const uint32_t told = side->told_bell.load(std::memory_order_relaxed);
  return bell != kAnyBell && bell != told && (bell != kCommonBell || told == kAnyBell);
}

namespace {
// Side::polled: which bell is named for poll, how often that has changed, and whether the FIFOs say
// so.
constexpr uint32_t kSaid = 1u << 31;
constexpr uint32_t kOneChange = 1u << kSecondBellShift;
// A connection that so many threads have waited for in turn: each change costs more than a wake-up
// too many.
constexpr uint32_t kMostChanges = 16;

uint32_t NamedIn(uint32_t polled) { return polled & kBellMask; }
}  // namespace

uint32_t PollBellOf(const Side* side) {
  return NamedIn(side->polled.load(std::memory_order_seq_cst));
}

uint32_t BellsOf(const Side* side) {
  if (side->lent.load(std::memory_order_seq_cst) != 0) return kAnyBell;
  const uint32_t bell = side->bell.load(std::memory_order_relaxed);
  const uint32_t polled = PollBellOf(side);
  if (bell == kAnyBell || polled == kAnyBell) return bell;
  if (OwnBellFd(kCommonBell) < 0) return kAnyBell;
  return bell == kCommonBell ? polled : TwoBells(bell, polled);
}

void WriteBell(Side* side) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const uint32_t bells = BellsOf(side);
  NameQueueBell(side, bells);
  // seq_cst, both: before whoever is woken by it looks at the FIFO; pairs with WakeConsumer and
  // WakeProducer.
  const ReceiveRoute receives = side->receive.route.load(std::memory_order_relaxed);
  const Fifo& theirs = side->receive.fifo;
  if (receives == ReceiveRoute::kAware || receives == ReceiveRoute::kDraining ||
      receives == ReceiveRoute::kFifo) {
    theirs.header->consumer_bell.store(theirs.foreign ? kAnyBell : bells,
                                       std::memory_order_seq_cst);
  }
  const SendRoute sends = side->send.route.load(std::memory_order_relaxed);
  const Fifo& mine = side->send.fifo;
  if (sends == SendRoute::kOffered || sends == SendRoute::kSwitching || sends == SendRoute::kFifo)
    mine.header->producer_bell.store(mine.foreign ? kAnyBell : bells, std::memory_order_seq_cst);
}

namespace {
// Under both streams' locks.
void NameForPoll(Side* side, uint32_t bell) {
  const uint32_t before = side->polled.load(std::memory_order_relaxed);
  const uint32_t changes = before / kOneChange % (kMostChanges * 2);
  const uint32_t named = changes < kMostChanges ? bell : kCommonBell;
  const uint32_t now = named | (changes + (changes < kMostChanges ? 1 : 0)) * kOneChange;
  side->polled.store(now, std::memory_order_seq_cst);
  WriteBell(side);
  // Behind the headers: whoever finds it so goes to sleep by them.
  side->polled.store(now | kSaid, std::memory_order_seq_cst);
}
}  // namespace

void BellForPoll(Side* side, uint32_t bell, Self self) {
  // seq_cst: behind our count as a sleeper.
  const uint32_t polled = side->polled.load(std::memory_order_seq_cst);
  if ((polled & kSaid) != 0 && (NamedIn(polled) == bell || NamedIn(polled) == kCommonBell)) return;
  const sys::SignalsBlocked blocked;  // a handler may register this very connection elsewhere
  bool told = true;
  {
    const LockScope send(side->send.lock, self.tid);
    const LockScope receive(side->receive.lock, self.tid);
    const uint32_t before = PollBellOf(side);
    if (before == kCommonBell) bell = kCommonBell;
    NameForPoll(side, bell);
    // seq_cst: behind the new name. Whoever sleeps by the former one either has seen this or is
    // counted by now; and he may have been passed over in between.
    const DoorbellPage* const line = before > kCommonBell ? LineOfOwnBell(before) : nullptr;
    if (before != bell && line != nullptr && line->sleepers.load(std::memory_order_seq_cst) != 0) {
      NameForPoll(side, kCommonBell);
      RingOwnBell(kCommonBell);
    }
    told = PollBellOf(side) == kCommonBell;
  }
  if (!told && side->attached.load(std::memory_order_relaxed) != 0) RequestService(side);
}

void RingPeerBell(uint32_t talk, uint32_t bell) {
  // acquire: pairs with AddPeerBell.
  Bell* const bells = agent_shared.peer_bells[talk].load(std::memory_order_acquire);
  RingBell(agent_shared.peers[talk], bells != nullptr && bell < kMostBells ? &bells[bell] : nullptr,
           bell);
}

bool WantsPeerBell(uint32_t talk, uint32_t bell, uint32_t most) {
  if (bell == kAnyBell || bell >= kMostBells || held_of_peers >= MostBells()) return false;
  const Bell* const bells = agent_shared.peer_bells[talk].load(std::memory_order_relaxed);
  if (bells == nullptr) return true;
  uint32_t held = 0;
  for (uint32_t i = 0; i < kMostBells; ++i) held += bells[i].fd > 0 ? 1 : 0;
  return bells[bell].fd == 0 && held < most;
}

bool AddPeerBell(uint32_t talk, uint32_t bell, int fd) {
  Bell* bells = agent_shared.peer_bells[talk].load(std::memory_order_relaxed);
  if (bells == nullptr) {
    const long memory = sys::Call(SYS_mmap, 0, sizeof(Bell) * kMostBells, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory < 0 && memory > -4096) return false;
    bells = reinterpret_cast<Bell*>(memory);
    // release: for whoever rings.
    agent_shared.peer_bells[talk].store(bells, std::memory_order_release);
  }
  bells[bell].rung = 0;
  __atomic_store_n(&bells[bell].fd, fd, __ATOMIC_RELEASE);
  ++held_of_peers;
  return true;
}

void DropPeerBells(uint32_t talk) {
  Bell* const bells = agent_shared.peer_bells[talk].load(std::memory_order_relaxed);
  for (uint32_t i = 0; bells != nullptr && i < kMostBells; ++i) {
    if (bells[i].fd <= 0) continue;
    const int fd = bells[i].fd;
    __atomic_store_n(&bells[i].fd, 0, __ATOMIC_RELEASE);
    ClosePrivate(fd);
    --held_of_peers;
  }
}

void ForgetPeerBells() {
  held_of_peers = 0;
  for (const std::atomic<Bell*>& of_peer : agent_shared.peer_bells) {
    Bell* const bells = of_peer.load(std::memory_order_relaxed);
    for (uint32_t i = 0; bells != nullptr && i < kMostBells; ++i) {
      if (bells[i].fd != 0) bells[i] = Bell{};  // else the page stays shared with the parent
    }
  }
}

}  // namespace xenloop
