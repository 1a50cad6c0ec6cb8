// See parked.h: close, and the options that a life may set.
#include <sys/socket.h>

#include "preload/ready/epoll.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"
#include "preload/socket/parked.h"

namespace xenloop {
namespace {

// The program alone has it, is in no call on it, and has done nothing to it that a next life would
// find.
bool MayHaveAnotherLife(const Side* side) {
  return side->references.load(std::memory_order_acquire) == 1 &&
         side->holders.load(std::memory_order_relaxed) == 1 &&
         side->pinned.load(std::memory_order_relaxed) == 0 &&
         side->kept.load(std::memory_order_relaxed) == 0 &&
         side->inherited.load(std::memory_order_relaxed) == 0 &&
         side->shut.load(std::memory_order_relaxed) == 0 &&
         (side->options_set.load(std::memory_order_relaxed) & kOtherOption) == 0 &&
         side->blocked_calls.load(std::memory_order_acquire) == 0 &&
         side->blocked_sends.load(std::memory_order_acquire) == 0 &&
         !side->send.kernel_users.Any() && !side->receive.kernel_users.Any() && !InBorrowedMemory();
}

void RestoreOptions(const Side* side, const ParkedPair& pair) {
  const uint32_t set = side->options_set.load(std::memory_order_relaxed);
  for (int i = 0; i < kRestoredOptions; ++i) {
    if ((set & (1u << i)) == 0) continue;
    sys::Call(SYS_setsockopt, pair.fd, kRestored[i].level, kRestored[i].name,
              sys::Word(&pair.initial[i]), sizeof pair.initial[i]);
  }
}

}  // namespace

bool CloseParked(int fd, Side* side) {
  if (!side->Connected() && side->references.load(std::memory_order_acquire) == 1)
    EndQueue(side, QueueEnd::kClosed);
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr) return false;
  if (FindSide(fd) != side || !MayHaveAnotherLife(side)) return false;
  EpollDropsNumber(side, fd);
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  SocketShadow shadow(fd, side);
  if (send.result() != LockResult::kAcquired || receive.result() != LockResult::kAcquired ||
      FindSide(fd) != side || pair->stage.load(std::memory_order_relaxed) != PairStage::kOpen ||
      !pair->end || side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
      side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kFifo)
    return false;
  const uint64_t sent = side->send.FifoBytes();
  const uint64_t received = side->receive.FifoBytes();
  if (pair->end.Close(pair->end.life()) == LifeClose::kReal) return false;
  CountLife(sent, received);
  // Under our locks nobody takes it for a next life.
  RestoreOptions(side, *pair);
  side->held = {};
  FdTable::Take(fd, side);
  FdTable::SetSide(pair->fd, side);
  side->fd.store(pair->fd, std::memory_order_release);
  pair->idle_since_ns.store(sys::MonotonicNs(), std::memory_order_relaxed);
  pair->stage.store(PairStage::kIdle, std::memory_order_release);
  parked.parked.fetch_add(1, std::memory_order_relaxed);
  side->send.WakeConsumer(shadow);
  return true;
}

void SentInALife(int fd, Side* side) {
  if (side->pair.load(std::memory_order_relaxed) == 0) return;
  bool closed;
  {
    const LockScope scope(side->send.lock, CurrentTid());
    closed = FindSide(fd) == side && side->send.lives.OtherHasLeft(side->send.fifo);
  }
  if (closed) FallBack(fd, side, Reason::kParkEnded);
}

void OptionIsSet(Side* side, int level, int name) {
  if (side->queue.load(std::memory_order_relaxed) != 0) EndQueue(side, QueueEnd::kGoesOn);
  side->options_set.fetch_or(OptionBit(level, name), std::memory_order_relaxed);
}

}  // namespace xenloop
