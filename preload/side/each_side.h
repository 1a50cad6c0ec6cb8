// The walks over sides: those that this process has descriptors of, a set of them, and the used
// part of the arena.
#pragma once

#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {

template <typename Visit>
void EachDescriptor(Visit visit) {
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    if (Side* side = FdTable::FindSide(fd)) visit(fd, side);
  }
}
// Calls `visit` once for each side, with the lowest of its descriptors here. Keeps no list of those
// it has visited: it runs on small stacks, too.
template <typename Visit>
void EachSide(Visit visit) {
  EachDescriptor([&](int fd, Side* side) {
    // Mostly it is the only one.
    if (side->references.load(std::memory_order_acquire) > 1) {
      for (int lower = 0; lower < fd; lower = FdTable::Next(lower)) {
        if (FdTable::FindSide(lower) == side) return;
      }
    }
    visit(fd, side);
  });
}

// Calls `visit` with each slot whose bit is set in kSideWords words; it may set and clear bits.
template <typename Words, typename Visit>
void EachSlotIn(const Words& words, Visit visit) {
  for (uint32_t w = 0; w < kSideWords; ++w) {
    for (uint64_t bits = words[w]; bits != 0; bits &= bits - 1)
      visit(w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits)));
  }
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
