// Sockets and exec: what one program leaves for the next under the same pid, and what that takes
// up.
#pragma once

#include "discovery/handover.h"
#include "preload/side/side.h"

namespace xenloop {

// The file that an exec will run, as fstatat(2) names it; as execvp(3) looks for it. Zeroes if
// there is none, or nothing that an exec could hand over.
FileId ProgramAt(int directory, const char* path, int flags);
FileId ProgramInPath(const char* file);

bool SurvivesExec(int fd);

// Before an exec of `program`: leaves notes on the sockets that survive it, whose fallback is done,
// and lets go of the others.
void LeaveForNextProgram(const FileId& program);
// The exec has failed: as if it had not been.
void TakeBackFromNextProgram();
// At start: follows the sockets that the former program has left a note on.
void AdoptFromFormerProgram();

}  // namespace xenloop
