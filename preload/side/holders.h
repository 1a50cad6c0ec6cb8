// Which processes have a descriptor of a side: letting go of one, and what a process without a
// right to our tables must not do.
#pragma once

#include "preload/side/side.h"

namespace xenloop {

// libc's own stdio and the next program's may use this socket as descriptor 0, 1 or 2.
bool IsStandardStream(const Side* side);

// This process is about to end, or to become a program in which none of the side's descriptors is
// left: takes them out of the table, and lets go.
void EndShare(Side* side);
// One process less holds the side; frees it where only programs outside the arena go on with it.
void LetGo(Side* side);
// A look whether the others of the former program's family still hold the socket.
void UpdateInherited(Side* side);

// SO_COOKIE, or 0.
uint64_t CookieOf(int fd);
// Nobody holds the side whom its `holders` do not count, so that another may be told of all.
bool AllHoldersAreKnown(const Side* side);

// True in a vfork child that shares our memory (its pid is not ours): such a child must not touch
// our tables.
bool InBorrowedMemory();

}  // namespace xenloop
