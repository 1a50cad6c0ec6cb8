// What the ABI layer tells of the life of the process: fork, exec, spawn, exit, sandboxes.
#pragma once

#include <sys/types.h>

#include "discovery/protocol/reasons.h"

namespace xenloop {

struct ProgramFile;  // see discovery/handover.h

void Bypassed(Reason reason);  // from now on bytes may move unseen (io_uring): all sockets of
                               // this process go by TCP, for good
void InstallForkHandlers();    // at the start of the library
void BeforeSpawn();  // posix_spawn, system, popen, vfork: children we do not see may inherit
                     // descriptors
// Before exec*: everything that survives goes back to TCP; notes for the next program, whose file
// (device 0, inode 0: unknown) is `program`.
void BeforeExec(const ProgramFile& program);
void AfterFailedExec();
void BeforeExit();  // _exit/_Exit/quick_exit and our destructor: statistics, last bytes
// _Fork, clone(2)-style forks without atfork handlers; after, in both: `child` as the call gave it.
void BeforeRawFork();
// seccomp: from here on the program's own system calls only. Sockets go back to TCP for good, no
// agent is started, statistics are written now.
void BeforeSandbox();
void AfterRawFork(pid_t child);

}  // namespace xenloop
