// A listener's virtual queue (parked.h): what waits there, and its end.
#include <sys/socket.h>

#include "preload/side/fallback.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"

namespace xenloop {

ListenerQueue* QueueOf(const Side* listener) {
  const uint32_t number = listener->queue.load(std::memory_order_acquire);
  // The word is the family's: the one that made it may have ended with it.
  if (number == 0 || !process_state.ready || !IsOurs(listener)) return nullptr;
  ListenerQueue* const queue = &parked.queues[number - 1];
  return queue->in_use.load(std::memory_order_acquire) != 0 && queue->listener == listener &&
                 queue->generation == listener->generation.load(std::memory_order_relaxed)
             ? queue
             : nullptr;
}

ListenerQueue* BeginQueue(Side* listener) {
  parks_something.store(true, std::memory_order_relaxed);
  for (ListenerQueue& queue : parked.queues) {
    uint32_t free = 0;
    if (queue.pairs.load(std::memory_order_acquire) != 0 ||
        !queue.in_use.compare_exchange_strong(free, 1, std::memory_order_acq_rel))
      continue;
    queue.listener = listener;
    queue.generation = listener->generation.load(std::memory_order_relaxed);
    for (std::atomic<uint32_t>* word : {&queue.count, &queue.published, &queue.over})
      word->store(0, std::memory_order_relaxed);
    queue.why.store(Reason::kNone, std::memory_order_relaxed);
    queue.blocks = queue.fenced = false;
    queue.seen_looks = queue.kicks = 0;
    return &queue;
  }
  return nullptr;
}

ListenerQueue* CountsFor(const Side* listener) {
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0 && queue.listener == listener &&
        queue.generation == listener->generation.load(std::memory_order_relaxed))
      return &queue;
  }
  return nullptr;
}

bool MayGoOn(ListenerQueue* queue) {
  const uint32_t over = queue->over.load(std::memory_order_acquire);
  if (over == kQueueGoesOn || over == kQueueOverForGood) return over == kQueueGoesOn;
  if (over == kQueueOverWhileItBlocks &&
      queue->listener->nonblocking.load(std::memory_order_relaxed) == 0)
    return false;
  if (queue->pairs.load(std::memory_order_acquire) != 0 || QueueOf(queue->listener) != nullptr ||
      queue->listener->holders.load(std::memory_order_relaxed) != 1)
    return false;
  queue->count.store(0, std::memory_order_relaxed);
  queue->published.store(0, std::memory_order_relaxed);
  queue->over.store(kQueueGoesOn, std::memory_order_release);
  return true;
}

// Under the lock: beneath it the FIFO with the word stays mapped.
LifeWord QueuedEnd::Word() const {
  const ParkedPair* const here = pair();
  Side* const side = here != nullptr ? here->side : nullptr;
  if (side == nullptr) return LifeWord{};
  const LockScope send(side->send.lock, CurrentTid());
  // What a program has, or an agent closes, does not wait, whatever the client writes.
  if (here->side != side || here->stage.load(std::memory_order_relaxed) != PairStage::kIdle)
    return LifeWord{};
  return here->end ? here->end.Word() : here->owed;
}

LifeAccept QueuedEnd::Accept() {
  ParkedPair* const here = pair();
  Side* const side = here != nullptr ? here->side : nullptr;
  if (side == nullptr) return LifeAccept::kNothing;
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  if (here->side != side || here->stage.load(std::memory_order_relaxed) != PairStage::kIdle)
    return LifeAccept::kNothing;
  LifeAccept result = LifeAccept::kNothing;
  if (here->end) {
    result = here->end.Accept();
  } else if (here->owed.Waiting()) {
    here->owed = LifeWord{};
    result = LifeAccept::kDead;
  }
  // From here on it is the program's, and not to be closed by the agent.
  if (result != LifeAccept::kNothing)
    here->stage.store(PairStage::kOpen, std::memory_order_release);
  return result;
}

constexpr uint64_t kSpread = 0x9e3779b97f4a7c15;  // odd, with no pattern

bool QueueHolds(const Side* listener, uint64_t* news) {
  const ListenerQueue* const queue = QueueOf(listener);
  if (queue == nullptr) return false;
  bool any = false;
  for (const QueueBoard& at : queue->boards) {
    const ParkedBoard* const board = at.board.load(std::memory_order_acquire);
    if (board == nullptr) continue;
    // seq_cst: behind our count as a sleeper; pairs with Hint, which is before the ring.
    uint64_t rest = board->hints.load(std::memory_order_seq_cst);
    for (; rest != 0; rest &= rest - 1) {
      const LifeWord word = at.ends[__builtin_ctzll(rest)].Word();
      if (!word.Waiting()) continue;
      any = true;
      // Each client numbers its own lives. A sum of plain numbers is soon another's.
      const auto at_board = static_cast<uint64_t>(&at - queue->boards);
      const auto slot = static_cast<uint64_t>(__builtin_ctzll(rest));
      *news += (word.Life() * kMostBoards * kMostParked + at_board * kMostParked + slot) * kSpread;
    }
  }
  // What is left after an accept may be told again; what comes after it has to be.
  if (any) *news += queue->taken.load(std::memory_order_relaxed) * (kSpread >> 1 | 1);
  return any;
}

namespace {
// Under the lock, so that the last one who has counted himself is told.
void TellAcceptors(ListenerQueue* queue) {
  const uint32_t asleep = queue->blocks && queue->listener->receive.kernel_users.Any() ? 1 : 0;
  for (QueueBoard& at : queue->boards) {
    ParkedBoard* const board = at.board.load(std::memory_order_acquire);
    // seq_cst: before the look at the queue; pairs with who queues a life, and then looks here.
    if (board != nullptr) board->accept_waiting.store(asleep, std::memory_order_seq_cst);
  }
}
}  // namespace

void AcceptorEnters(ListenerQueue* queue) {
  const LockScope scope(queue->lock, CurrentTid());
  if (scope.result() != LockResult::kReentered) TellAcceptors(queue);
}
void AcceptorLeft(ListenerQueue* queue) { AcceptorEnters(queue); }

void NameQueueBell(const Side* listener, uint32_t bell) {
  if (listener->queue.load(std::memory_order_relaxed) == 0) return;
  const ListenerQueue* const queue = QueueOf(listener);
  if (queue == nullptr) return;
  for (const QueueBoard& at : queue->boards) {
    ParkedBoard* const board = at.board.load(std::memory_order_acquire);
    // seq_cst: before whoever is woken by it looks at the queue; pairs with who queues a life.
    if (board != nullptr) board->bell.store(bell, std::memory_order_seq_cst);
  }
}

void ResetWhenClosed(int fd) {
  const linger now{1, 0};
  sys::Call(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, sys::Word(&now), sizeof now);
}

namespace {

// True: it waited to be accepted, and nobody will.
bool LosesListener(ParkedPair* pair) {
  Side* const side = pair->side;
  if (side == nullptr) return false;
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  if (pair->side != side) return false;
  if (pair->end) return pair->end.EndOfListener();
  return pair->stage.load(std::memory_order_relaxed) == PairStage::kIdle && pair->owed.Waiting();
}

}  // namespace

void EndQueue(Side* listener, QueueEnd how) {
  ListenerQueue* const queue = CountsFor(listener);
  if (queue == nullptr) return;
  uint32_t goes_on = kQueueGoesOn;  // what is over for good stays so
  queue->over.compare_exchange_strong(goes_on, kQueueOverForNow, std::memory_order_seq_cst);
  for (QueueBoard& at : queue->boards) {
    ParkedBoard* const board = at.board.load(std::memory_order_acquire);
    if (board == nullptr) continue;
    board->ready.store(0, std::memory_order_seq_cst);
    for (QueuedEnd& end : at.ends) {
      ParkedPair* const pair = end.pair();
      if (pair == nullptr) continue;
      const bool waited = how == QueueEnd::kClosed && LosesListener(pair);
      if (waited) {
        pair->reset = true;
        ResetWhenClosed(pair->fd);
      }
      if (waited && pair->stage.load(std::memory_order_acquire) == PairStage::kIdle)
        pair->owed = LifeWord{};
      EndPair(pair);
    }
  }
  if (how != QueueEnd::kClosed) return;
  // Of a process that the listener was inherited from, or by, it is not ours to take away.
  if (QueueOf(listener) == queue) listener->queue.store(0, std::memory_order_release);
  queue->in_use.store(0, std::memory_order_release);
}

}  // namespace xenloop
