// Bytes that nobody takes. Who waits or reads by calls that do not pass through us (an inline
// system call, a function taken from libc's own handle, a ring, another process) sees what TCP
// brings, and bytes in a FIFO never come for it. No call tells of such a reader; but what lies in a
// FIFO and is not taken for a while can go by TCP, where everybody finds it, and a reader that is
// only slow loses nothing by it. So every send into a FIFO asks for a look, and one timer looks for
// all of them: a flag a process and a bit a side, which cost a system call only where nobody has
// asked since the last look; while nothing is unread no timer runs.
#include "channel/base/time.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kBetweenLooksNs = 100 * kNsPerMs;
// From the first look that finds bytes: a reader that is running, or waits for a processor, has
// moved by then, and one in another guest, which may wait for the hypervisor besides.
constexpr uint64_t kPatienceNs = 400 * kNsPerMs;
constexpr uint64_t kPatienceWithGuestsNs = 600 * kNsPerMs;
constexpr uint64_t kPatienceOfTestsNs = 400 * kNsPerMs;  // at marked points they look at FIFOs

// How often the pause until the next attempt is doubled: for a reader that has taken bytes of this
// FIFO it was too slow once; one that has taken none at all may not know of FIFOs.
constexpr uint32_t kDoublingsIfSlow = 1;
constexpr uint32_t kDoublingsIfUnknowing = 4;

uint64_t PatienceNs(const Fifo& fifo) {
  if (GetConfig().test_points) return kPatienceOfTestsNs;
  return fifo.foreign ? kPatienceWithGuestsNs : kPatienceNs;
}

// Both directions, and first the one that we read: who reads unseen may write unseen as well, and
// what it writes must not be overtaken by what it has sent through us. (But what our own program
// has not read yet must not wait for a peer that may be stopped.)
void GoByTcp(uint32_t slot, uint64_t now) {
  Side* const side = SideAt(slot);
  const int fd = side->fd.load(std::memory_order_acquire);
  bool nothing_to_read = false;
  {
    const LockScope scope(side->receive.lock, CurrentTid());
    nothing_to_read = side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp &&
                      side->receive.fifo.AvailableBytes() == 0;
  }
  if (nothing_to_read) FallBackReceiving(fd, side);
  FallBackSending(fd, side, Reason::kUnread);
  // The number was closed just now: by another of the side, soon.
  if (side->send.route.load(std::memory_order_acquire) == SendRoute::kFifo) return;
  PutOffAttempt(agent.sides[slot], side);
  WatchBypassed(slot, now);  // until TCP has taken all: then the other direction ends too
}

// False: nothing is unread any more, or it goes by TCP.
bool IsStillUnread(uint32_t slot, uint64_t now) {
  AgentSide& note = agent.sides[slot];
  Side* const side = SideAt(slot);
  if (note.stage != Stage::kAttached || side->references.load(std::memory_order_acquire) == 0 ||
      note.generation != side->generation.load(std::memory_order_acquire)) {
    return false;
  }
  uint64_t taken = 0;
  uint64_t patience = 0;
  {
    const LockScope scope(side->send.lock, CurrentTid());
    const Fifo fifo = side->send.fifo;
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo || fifo.Sealed() ||
        fifo.AvailableBytes() == 0) {
      note.unread_since_ns = 0;
      return false;
    }
    patience = PatienceNs(fifo);
    // Both only grow: before the FIFO's first byte it reads what TCP holds.
    taken = IndexOf(fifo.header->consumer.load(std::memory_order_acquire)) +
            fifo.header->tcp_read.load(std::memory_order_relaxed);
  }
  if (note.unread_since_ns == 0 || taken != note.unread_taken) {
    note.unread_since_ns = now;
    note.unread_taken = taken;
  }
  if (now - note.unread_since_ns < patience) return true;
  note.unread_since_ns = 0;
  note.lay_unread = true;
  note.reads_unseen = taken == 0;
  CountBypass(note, taken, taken == 0 ? kDoublingsIfUnknowing : kDoublingsIfSlow, now);
  GoByTcp(slot, now);
  return false;
}

}  // namespace

namespace {
// A child of ours has asked: it has our sides, but not our flag.
bool AChildHasAsked() {
  bool any = false;
  if (!process_state.forks) return any;
  EachSlotIn(Arena()->unread.words, [&any](uint32_t slot) { any = any || IsOurs(SideAt(slot)); });
  return any;
}
}  // namespace

void StartUnreadLooks() {
  if (agent_shared.unread.load(std::memory_order_seq_cst) != 0 || AChildHasAsked())
    agent.timers.StartWithin(Timer::kUnread, AgentNs(), kBetweenLooksNs);
}

uint64_t LookForUnread(uint64_t now) {
  // seq_cst, this and the bits: taken away before the looks; pairs with AwaitReading.
  agent_shared.unread.store(0, std::memory_order_seq_cst);
  bool any = false;
  EachSlotIn(Arena()->unread.words, [&any, now](uint32_t slot) {
    if (!IsOurs(SideAt(slot))) return;
    Arena()->unread.Remove(slot);
    if (!IsStillUnread(slot, now)) return;
    Arena()->unread.Add(slot);
    any = true;
  });
  if (any) agent_shared.unread.store(1, std::memory_order_seq_cst);
  const uint64_t datagrams = LookForUnreadDatagrams();
  return any && kBetweenLooksNs < datagrams ? kBetweenLooksNs : datagrams;
}

bool MayBeOfferedAgain(const AgentSide& note, const Side* side) {
  return !note.reads_unseen || side->operations.load(std::memory_order_relaxed) >=
                                   side->next_attempt.load(std::memory_order_relaxed);
}

}  // namespace xenloop
