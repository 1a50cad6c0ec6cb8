// A user's runtime directory, DIR/xenloop-UID, and the files in it: trusted only if they are what
// they must be, the user's own and writable by nobody else.
#pragma once

#include <sys/types.h>

#include "discovery/protocol/reasons.h"

namespace xenloop {

// DIR/xenloop-UID, and below it `name` unless that is empty. False: too long. Without printf, which
// costs every program four pages at its start.
bool RuntimePath(const char* base, uid_t uid, const char* name, char (&path)[160]);

// Makes it unless it is there. 0, or -errno with *reason set.
int MakeRuntimeDirectory(const char* base, uid_t uid, Reason* reason);

// Opens (flags as open(2); `mode` for O_CREAT) a regular file in it. A descriptor out of the
// program's way, or -errno with *reason set; never through a symbolic link, never blocks.
int OpenRuntimeFile(const char* base, uid_t uid, const char* name, int flags, unsigned mode,
                    Reason* reason);

}  // namespace xenloop
