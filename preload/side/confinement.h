// Does a system call filter stand over this process? Asked with calls that no filter can forbid
// that came with the program: the loader has made them under it.
#pragma once

#include <cstdint>

#include "channel/base/descriptor.h"

namespace xenloop {

enum class Filter : uint8_t { kNone, kStands, kUnknown };

Filter LookForFilter();
// The same while the program may make descriptors: it does not see ours.
inline Filter LookForFilterAsOurs() {
  const sys::LowNumber low;
  return LookForFilter();
}

// A filter may come unseen: keeps two looks ready that take one read(2) each, which the strictest
// of filters allows.
void PrepareLooks();
// With one of them; kUnknown when there is none left.
Filter TakePreparedLook();
bool HasPreparedLook();
// At the first socket that is followed: where no filter stands, pointers of the program are looked
// at from here on, and not only since there is an agent (libc/program_memory.h).
void LookAtProgramMemory();
// A call of ours that the program need not make as well is allowed: no filter stands, or the agent
// has tried it.
bool MayAskTheKernel();
bool IsPreparedLook(int fd);  // one of its descriptors
void DropLooks();

// May a new connection be followed? Ends a doubt (PR_SET_NO_NEW_PRIVS), by one of the looks.
bool MayFollow();

}  // namespace xenloop
