// The walks over sides: those that this process has descriptors of, and the used part of the arena.
#pragma once

#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {

template <typename Visit>
void EachDescriptor(Visit visit) {
  for (int fd = 0; fd < FdTable::End(); ++fd) {
    if (Side* side = FdTable::FindSide(fd)) visit(fd, side);
  }
}
// Calls `visit` once for each side, with the lowest of its descriptors here.
template <typename Visit>
void EachSide(Visit visit) {
  uint64_t seen[kSideWords] = {};
  EachDescriptor([&](int fd, Side* side) {
    const uint32_t slot = SlotOf(side);
    const uint64_t bit = 1ull << (slot % 64);
    if ((seen[slot / 64] & bit) != 0) return;
    seen[slot / 64] |= bit;
    visit(fd, side);
  });
}

// True as soon as `found` says so of a slot. Asks about each slot of the arena that may be in use,
// and some that are not: whole words are left out, since a note of the agent may outlive its side.
template <typename Found>
bool AnySlot(Found found) {
  for (uint32_t w = 0; w < kSideWords; ++w) {
    if (Arena()->used.words[w].load(std::memory_order_relaxed) == 0) continue;
    for (uint32_t slot = w * 64; slot < (w + 1) * 64; ++slot) {
      if (found(slot)) return true;
    }
  }
  return false;
}
template <typename Visit>
void EachSlot(Visit visit) {
  AnySlot([&visit](uint32_t slot) {
    visit(slot);
    return false;
  });
}

}  // namespace xenloop
