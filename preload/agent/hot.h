// Counts a connection's data operations and decides when to ask the agent for an upgrade. A
// connection that lives for a few operations only never costs more than these counters.
#pragma once

#include "preload/settings/config.h"
#include "preload/side/side.h"

namespace xenloop {

void ConsiderUpgrade(Side* side);  // slow part; sets the next attempt

inline void CountOperation(Side* side) {
  // Not a read-modify-write: a lost count between threads only delays an attempt.
  const uint64_t n = side->operations.load(std::memory_order_relaxed) + 1;
  side->operations.store(n, std::memory_order_relaxed);
  if (n >= side->next_attempt.load(std::memory_order_relaxed)) ConsiderUpgrade(side);
}

// Tests let the routes flip every so many operations.
inline bool SwitchDue(Side* side) {
  const uint64_t every = GetConfig().switch_every;
  if (every == 0) return false;
  const uint64_t n = side->operations.load(std::memory_order_relaxed) + 1;
  side->operations.store(n, std::memory_order_relaxed);
  if (n % every != 0) return false;
  side->next_attempt.store(n + 1, std::memory_order_relaxed);
  return true;
}

}  // namespace xenloop
