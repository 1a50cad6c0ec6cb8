// Sockets and exec: what one program leaves for the next under the same pid, and what that takes up.
#pragma once

#include "discovery/handover.h"
#include "preload/fd_table.h"
#include "preload/side.h"

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

inline constexpr const char* kStandardStream =
    "standard input or output: libc reads and writes it unseen";

// libc's own stdio and the next program's may use this socket as descriptor 0, 1 or 2.
bool IsStandardStream(const Side* side);

// The file that an exec will run, as fstatat(2) names it; as execvp(3) looks for it. Zeroes if there
// is none, or nothing that an exec could hand over.
ProgramFile ProgramAt(int directory, const char* path, int flags);
ProgramFile ProgramInPath(const char* file);

bool SurvivesExec(int fd);

// Before an exec of `program`: leaves notes on the sockets that survive it, whose fallback is done,
// and lets go of the others.
void LeaveForNextProgram(const ProgramFile& program);
// The exec has failed: as if it had not been.
void TakeBackFromNextProgram();
// At start: follows the sockets that the former program has left a note on.
void AdoptFromFormerProgram();

// This process is about to end, or to become a program in which none of the side's descriptors is
// left: takes them out of the table, and lets go.
void EndShare(Side* side);
// One process less holds the side; frees it where only programs outside the arena go on with it.
void LetGo(Side* side);
// A look whether the others of the former program's family still hold the socket.
void UpdateInherited(Side* side);

}  // namespace xenloop
