// The parked pairs of one client process and one listener, as the listener's virtual queue: their
// life words, and a bitmap that says which of them to look at. Decides in which order they are
// accepted. The words are the queue: there is nothing that could be half entered, entered twice, or
// stand for what is not there. Bits of the map are hints; setting them costs looks and nothing
// else.
#pragma once

#include "channel/parked_end.h"

namespace xenloop {

inline constexpr int kMostParked = 64;

// In the memory of the listener's process, mapped by the client's. Layout: channel/PARKING.md.
struct ParkedBoard {
  alignas(64) std::atomic<uint64_t> hints;  // set by the client, taken by the server
  // Written by the server: not 0, a thread may sleep in the kernel's accept, which tells of no
  // life. It looks at the words behind this, the client at this behind the words.
  std::atomic<uint32_t> accept_waiting;
  // As a FIFO's bell word: who waits for the listener in poll or epoll.
  std::atomic<uint32_t> bell;
  // Written by the server: no thread is in the kernel's accept or poll that knows nothing of this.
  alignas(64) std::atomic<uint32_t> ready;
  std::atomic<uint32_t> most_waiting;  // written by the server: the listener's backlog
  alignas(64) SharedLifeWord words[kMostParked];
};
static_assert(offsetof(ParkedBoard, accept_waiting) == 8);
static_assert(offsetof(ParkedBoard, bell) == 12);
static_assert(offsetof(ParkedBoard, ready) == 64);
static_assert(offsetof(ParkedBoard, most_waiting) == 68);
static_assert(offsetof(ParkedBoard, words) == 128);
static_assert(sizeof(ParkedBoard) == 128 + 8 * kMostParked);

// ---- client ----

// After Queue, still under the lock that numbers the lives: whoever sees the bit of a life sees
// those of all that were queued before it. Then look for sleepers.
inline void Hint(ParkedBoard& board, int i) {
  board.hints.fetch_or(1ull << i, std::memory_order_seq_cst);
}
// After Withdraw, under the same lock.
inline void TakeHintBack(ParkedBoard& board, int i) {
  board.hints.fetch_and(~(1ull << i), std::memory_order_seq_cst);
}
// As many wait as the server's program has room for. (A hint may be one too many.)
inline bool IsFull(const ParkedBoard& board) {
  uint64_t waiting = board.hints.load(std::memory_order_relaxed);
  uint32_t left = board.most_waiting.load(std::memory_order_relaxed);
  while (waiting != 0 && left != 0) {
    waiting &= waiting - 1;
    --left;
  }
  return left == 0;
}

// ---- server: one thread at a time ----

struct AcceptedLife {
  LifeAccept result = LifeAccept::kNothing;
  int slot = -1;
};

// The life that was queued first, if it is none behind `last`; `ends` are the server's ends of the
// pairs, by slot. What is not set up here is no pair, whatever the client says.
template <typename End>
AcceptedLife AcceptFirst(ParkedBoard& board, End (&ends)[kMostParked],
                         uint64_t last = ~uint64_t{0}) {
  // One look at the map: word by word, a later life could be seen where an earlier one was not yet.
  uint64_t shown = board.hints.load(std::memory_order_seq_cst);
  while (shown != 0) {
    int first = -1;
    uint64_t first_life = 0;
    for (uint64_t rest = shown; rest != 0; rest &= rest - 1) {
      const int i = __builtin_ctzll(rest);
      const LifeWord word = ends[i] ? ends[i].Word() : LifeWord{};
      if (!word.Waiting()) {
        shown &= ~(1ull << i);
        // Not unless it still waits for nobody afterwards: it may have been queued since.
        board.hints.fetch_and(~(1ull << i), std::memory_order_seq_cst);
        if (ends[i] && ends[i].Word().Waiting()) Hint(board, i);
      } else if (first < 0 || word.Life() < first_life) {
        first = i;
        first_life = word.Life();
      }
    }
    if (first < 0 || first_life > last) break;
    shown &= ~(1ull << first);
    // The hint before the word: whoever queues the pair's next life sets it after the word.
    board.hints.fetch_and(~(1ull << first), std::memory_order_seq_cst);
    const LifeAccept result = ends[first].Accept();
    if (result != LifeAccept::kNothing) return {result, first};
  }
  return {};
}
// Something waits: the listener is readable.
template <typename End>
bool AnyWaiting(const ParkedBoard& board, const End (&ends)[kMostParked]) {
  for (uint64_t rest = board.hints.load(std::memory_order_seq_cst); rest != 0; rest &= rest - 1) {
    const int i = __builtin_ctzll(rest);
    if (ends[i] && ends[i].Word().Waiting()) return true;
  }
  return false;
}
// The client is dead: what it has queued may have no hint.
inline void HintAll(ParkedBoard& board) { board.hints.store(~0ull, std::memory_order_seq_cst); }

}  // namespace xenloop
