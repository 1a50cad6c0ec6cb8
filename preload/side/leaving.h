// An exec lets go of a side before it is known whether the exec succeeds. Until then nobody may
// count on it: whoever would have the side alone asks here first, and takes it for shared.
//
// Nothing of us runs in a process whose exec has succeeded. So the kernel says when it is over: a
// process that is at it holds a name of the abstract namespace of UNIX sockets, by a descriptor
// that exec closes.
#pragma once

#include "preload/side/side.h"

namespace xenloop {

// This process is about to let go of the side for an exec. False: it must not, since another is at
// that, or nobody could ask whether it is.
bool BeginLeaving(Side* side);
// It has taken the side back; and all that it let go of, after an exec that failed.
void EndLeaving(Side* side);
void EndLeavingAll();
// Seen false after `handed_pid` was stored, and before the holders are counted: who lets go of the
// side from then on sees `handed_pid`.
bool MayComeBack(Side* side);

}  // namespace xenloop
