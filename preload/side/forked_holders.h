// Forked children that end without a close: they exit, are killed, or become another program. Such
// a child stays counted as a holder of what it has from its parent, and where the parent has closed
// that, as a server does which forks for each connection, nobody would look at it again. So a child
// notes itself in what it inherits, and its parent frees what a child that is gone had alone,
// before later forks. (Of several children one is noted; what another has had as well may stay.)
#pragma once

#include "preload/side/side.h"

namespace xenloop {

// In the child, before anything else is done with its sides.
void NoteForkedHolder();
// First of all: this process takes itself out of the count.
void ForkedHolderLetsGo(Side* side);
// The process `pid` is gone, and is taken out of the count by us: first of all, too.
void ForkedHolderIsTakenOut(Side* side, int32_t pid);
// We have let go of a side that others hold.
void LeftToForked();
// Before a fork: a look at what has been left so, once there is enough of it.
void FreeLeftByForked(bool (*program_has_one_thread)());

}  // namespace xenloop
