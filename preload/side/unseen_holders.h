// Forked children that have left our sight for a sandbox, with connections of the family in their
// hands: sshd's child before the login is one. Nobody tells when such a child ends, so it leaves
// its process id in the side, and its parent takes it out of the count when that process is gone.
// Unless somebody else may have the connection from it: it has forked, started a program or sent
// descriptors in a message, which its hooks note in the arena without a system call.
#pragma once

#include "preload/side/side.h"

namespace xenloop {

// This process has a number of a side that others hold as well, and will not follow it any longer.
// Once a number.
void LeaveUnseen(Side* side);
// What we have left so may be somebody else's soon, of whom nobody will know.
void UnseenMayHandOn();
// A look, by the parent, whether such a child is gone. What has gone over the connection meanwhile
// counts as so many operations: it is as hot as if we had seen them. `fd`: a number of ours.
void UpdateUnseen(int fd, Side* side);
// This process lets go of the side, which such a child may have alone then: nobody would look.
void LeftToUnseen(const Side* side);
// A look at those, before a fork makes more of them.
void UpdateLeftToUnseen();

}  // namespace xenloop
