// Which comes next at a listener: a life of one of its boards, or the kernel's next connection.
// Lives come first: an ordinary connection that is older than a life of the same client is not
// there. So that others get their turn, the kernel is asked now and then whether it has a
// connection; then the lives that wait at that moment come before it (the fence), and no others.
// Knows no sockets.
//
// A `Queue` has until_look, before_fence, fenced and boards[], each with board, fence and ends: for
// the library that is ListenerQueue, for the simulation its own. One thread at a time.
#pragma once

#include <algorithm>
#include <iterator>

#include "channel/parked_queue.h"

namespace xenloop {

inline constexpr uint32_t kKernelsTurn = 8;  // accepts; while it has something, every one

template <typename Queue>
void SetFence(Queue* queue) {
  queue->fenced = true;
  queue->before_fence = 0;
  for (auto& at : queue->boards) {
    at.fence = 0;
    const ParkedBoard* const board = at.board;
    uint64_t rest = board != nullptr ? board->hints.load(std::memory_order_seq_cst) : 0;
    for (; rest != 0; rest &= rest - 1) {
      const auto& end = at.ends[__builtin_ctzll(rest)];
      const LifeWord word = end ? end.Word() : LifeWord{};
      if (!word.Waiting()) continue;
      at.fence = std::max(at.fence, word.Life());
      ++queue->before_fence;
    }
  }
}

// True: the kernel's next connection comes now.
template <typename Queue, typename KernelHasOne>
bool IsKernelsTurn(Queue* queue, const KernelHasOne& kernel_has_one,
                   uint32_t kernels_turn = kKernelsTurn) {
  if (!queue->fenced) {
    if (queue->until_look > 1) {
      --queue->until_look;
      return false;
    }
    const bool has_one = kernel_has_one();
    queue->until_look = has_one ? 1 : kernels_turn;
    if (has_one) SetFence(queue);
  }
  if (!queue->fenced || queue->before_fence != 0) return false;
  queue->fenced = false;
  return true;
}

struct AcceptedInTurn {
  LifeAccept result = LifeAccept::kNothing;
  size_t board = 0;
  int slot = -1;
};

// When it is not the kernel's turn: a life that the fence lets through, of the boards from `first`
// on.
template <typename Queue>
AcceptedInTurn AcceptInTurn(Queue* queue, size_t first) {
  const size_t boards = std::size(queue->boards);
  for (size_t i = 0; i < boards; ++i) {
    auto& at = queue->boards[(first + i) % boards];
    ParkedBoard* const board = at.board;
    if (board == nullptr) continue;
    const AcceptedLife life = AcceptFirst(*board, at.ends, queue->fenced ? at.fence : ~uint64_t{0});
    if (life.result == LifeAccept::kNothing) continue;
    if (queue->fenced) --queue->before_fence;
    return {life.result, (first + i) % boards, life.slot};
  }
  queue->fenced = false;  // another thread, or an end, has had what was counted
  return {};
}

}  // namespace xenloop
