// The wait of a program that has one thread, for what is the kernel's alone: it is not counted,
// since nobody is there who could bring a socket to a FIFO meanwhile. A handler may run in it, and
// make threads: then no agent begins, and no UDP socket comes to a FIFO, before it has ended.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/libc/threads.h"

namespace xenloop {

class BareWait {
 public:
  static bool IsEnough() { return !forbidden_.load(std::memory_order_relaxed) && threads::Alone(); }
  // Tests look at what a handler does between two looks; here is only one.
  static void Forbid() { forbidden_.store(true, std::memory_order_relaxed); }
  static bool Any() { return outermost_.load(std::memory_order_relaxed) != 0; }
  // For an agent that is to begin. Where it may not, the program's further waits are counted: else
  // one that moves its bytes in handlers only, and waits for the signals, would never have one.
  static bool IsInTheWay() {
    if (Any()) Forbid();
    return Any();
  }
  // Its frame lies below, and will not be returned to. (Where that is not noticed, the program's
  // UDP sockets stay with the kernel.)
  static void AbandonBelow(uintptr_t limit) {
    if (outermost_.load(std::memory_order_relaxed) < limit)
      outermost_.store(0, std::memory_order_relaxed);
  }

  // Where it is enough; and whether it is, and what else it rests upon, is looked at once more
  // behind this: a handler may have run in between, and from here on it can change nothing of that.
  BareWait() : outer_(outermost_.load(std::memory_order_relaxed)) {
    if (outer_ == 0) outermost_.store(reinterpret_cast<uintptr_t>(this), std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~BareWait() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    outermost_.store(outer_, std::memory_order_relaxed);
  }
  BareWait(const BareWait&) = delete;
  BareWait& operator=(const BareWait&) = delete;

 private:
  static inline std::atomic<uintptr_t> outermost_{0};
  static inline std::atomic<bool> forbidden_{false};

  const uintptr_t outer_;
};

}  // namespace xenloop
