// Readers that stand still. A FIFO holds less than TCP's buffers would, so a program that sends a
// lot before it looks for answers could wait for ever for room that TCP has. A direction whose FIFO
// is full while its reader does not move therefore goes by TCP for that while. It is the sender's
// side that does it, alone: the reader may be stopped, or all its threads busy sending. The other
// direction stays where it is: what the reader has sent must not wait for it. When the reader goes
// on, that one ends too, and the connection is offered anew.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "channel/base/time.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

// Longer than a reader that is running, or waits for a processor, keeps us waiting. Tests at marked
// points fill FIFOs and look at them full.
constexpr uint64_t kPatienceNs = 40 * kNsPerMs;
// A reader in another guest may wait for the hypervisor besides, which gives its processors away
// for 30 ms at a time.
constexpr uint64_t kPatienceWithGuestsNs = 200 * kNsPerMs;
constexpr uint64_t kPatienceOfTestsNs = 400 * kNsPerMs;
// One that two processes share cannot come back to a FIFO while both have it (side/borrowed.h).
constexpr uint64_t kPatienceWithSharedNs = 400 * kNsPerMs;
// One that has gone on before a full FIFO reads, and may have work between two reads: ssh's client
// grows its buffer to 2 MB and copies it whole for each 32 KiB: 50 ms and more for a FIFO's bytes.
constexpr uint64_t kPatienceWithReaderNs = 200 * kNsPerMs;
// Between two looks at one that stands still: there may be thousands, on purpose.
constexpr uint64_t kLongestPauseNs = 10 * kNsPerSecond;

// A reader that has had so much by TCP takes bytes: its kernel does not keep as much for it.
constexpr uint64_t kMovedBytes = 8 << 20;
// Operations until the next attempt, doubled each time that this reader stands still.
constexpr uint64_t kLeastOperations = 16;
constexpr uint32_t kMostDoublings = 10;
// One less for so long on FIFOs.
constexpr uint64_t kGoodNs = 10 * kNsPerSecond;

uint64_t PatienceNs(const Fifo& fifo) {
  if (GetConfig().test_points) return kPatienceOfTestsNs;
  if (fifo.header->consumer_shared.load(std::memory_order_relaxed) != 0)
    return kPatienceWithSharedNs;
  return fifo.foreign ? kPatienceWithGuestsNs : kPatienceNs;
}

// When to look again; 0: there is nothing to look for any more.
uint64_t LookAtFifo(AgentSide& note, Side* side, uint64_t now) {
  uint64_t patience;
  {
    const LockScope scope(side->send.lock, CurrentTid());
    if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo) return 0;
    const Fifo fifo = side->send.fifo;
    patience = PatienceNs(fifo);
    // Both only grow. Before the FIFO's first byte it reads what TCP holds, up to some megabytes.
    const uint64_t position = IndexOf(fifo.header->consumer.load(std::memory_order_acquire)) +
                              fifo.header->tcp_read.load(std::memory_order_relaxed);
    // Not at the first look: a fast stream fills its FIFO often, and is to ask for this seldom.
    const bool first = note.watched_since_ns == 0;
    if (!first && position != note.watched_position) note.comes_back = true;
    if (!first && fifo.HasRoom()) return 0;
    if (first || position != note.watched_position) {
      note.watched_since_ns = now;
      note.watched_position = position;
    }
  }
  if (note.comes_back) patience = std::max(patience, kPatienceWithReaderNs);
  if (now - note.watched_since_ns < patience) return note.watched_since_ns + patience;
  const int fd = side->fd.load(std::memory_order_acquire);
  FallBackSending(fd, side, Reason::kReaderStandsStill);
  tcp_info info;
  if (side->send.route.load(std::memory_order_acquire) == SendRoute::kFifo ||
      AskTcpInfo(fd, &info) != 0) {
    return now + patience;  // the number was closed just now: by another of the side, soon
  }
  CountBypass(note, note.watched_position, 1, now);
  note.bypassed = true;
  note.watched_position = info.tcpi_bytes_acked;
  note.watched_since_ns = now;
  return now + patience;
}

bool HoldsUnread(Side* side) {
  const LockScope scope(side->receive.lock, CurrentTid());
  return side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kTcp &&
         side->receive.fifo && side->receive.fifo.AvailableBytes() > 0;
}

uint64_t LookAtTcp(AgentSide& note, Side* side, uint64_t now) {
  const int fd = side->fd.load(std::memory_order_acquire);
  tcp_info info;
  int queued = 0;
  const AgentAsks asks(fd);
  if (!asks.May() || TcpInfoOf(fd, &info) != 0 ||
      info.tcpi_state != SocketShadow::kTcpEstablished ||
      sys::Call(SYS_ioctl, fd, SIOCOUTQ, sys::Word(&queued)) != 0) {
    return 0;
  }
  const bool flushed = side->send.route.load(std::memory_order_acquire) == SendRoute::kTcp;
  // What our own program has not read yet must not wait for a peer that may be stopped.
  if (flushed && !HoldsUnread(side) &&
      (queued == 0 || info.tcpi_bytes_acked - note.watched_position >= kMovedBytes)) {
    PutOffAttempt(note, side);
    note.bypassed = false;
    FallBackReceiving(fd, side);
    return 0;
  }
  const uint64_t pause = now - note.watched_since_ns;  // as long as it stands still already
  return now + (pause < kLongestPauseNs ? pause : kLongestPauseNs);
}

uint64_t LookAt(uint32_t slot, uint64_t now) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  if (note.stage != Stage::kAttached || side->references.load(std::memory_order_acquire) == 0 ||
      note.generation != side->generation.load(std::memory_order_acquire)) {
    return 0;
  }
  return note.bypassed ? LookAtTcp(note, side, now) : LookAtFifo(note, side, now);
}

}  // namespace

void CountBypass(AgentSide& note, uint64_t taken, uint32_t doublings, uint64_t now) {
  // Who has taken nothing may not know of FIFOs, however long there was nothing to be taken.
  const uint64_t good = taken != 0 ? (now - note.attached_at_ns) / kGoodNs : 0;
  note.bypasses -= good < note.bypasses ? static_cast<uint32_t>(good) : note.bypasses;
  note.bypasses += doublings;
  if (note.bypasses > kMostDoublings) note.bypasses = kMostDoublings;
}

void PutOffAttempt(AgentSide& note, Side* side) {
  const uint64_t after = GetConfig().upgrade_after;
  side->next_attempt.store(
      side->operations.load(std::memory_order_relaxed) +
          ((after > kLeastOperations ? after : kLeastOperations) << note.bypasses),
      std::memory_order_relaxed);
}

void WatchBypassed(uint32_t slot, uint64_t now) {
  AgentSide& note = agent.sides[slot];
  tcp_info info;
  if (note.stage != Stage::kAttached ||
      AskTcpInfo(SideAt(slot)->fd.load(std::memory_order_acquire), &info) != 0)
    return;
  note.bypassed = true;
  note.watched_position = info.tcpi_bytes_acked;
  note.watched_since_ns = now;
  note.watch_at_ns = now;
  Arena()->watched.Add(slot);
  agent.timers.StartWithin(Timer::kReaders, now, 0);
}

uint64_t WatchReaders(uint64_t now) {
  uint64_t next = kNotAgain;
  EachSlotIn(Arena()->watched.words, [&next, now](uint32_t slot) {
    if (!IsOurs(SideAt(slot))) return;
    AgentSide& note = agent.sides[slot];
    if (note.watch_at_ns <= now) {
      // seq_cst: taken before the look; pairs with RequestWatch.
      Arena()->watched.Remove(slot);
      note.watch_at_ns = LookAt(slot, now);
      if (note.watch_at_ns == 0) {
        note.watched_since_ns = 0;
        return;
      }
      Arena()->watched.Add(slot);
    }
    if (note.watch_at_ns < next) next = note.watch_at_ns;
  });
  return next == kNotAgain ? kNotAgain : next - now;
}

}  // namespace xenloop
