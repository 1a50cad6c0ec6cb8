// The one walk over the sides that this process has descriptors of.
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

}  // namespace xenloop
