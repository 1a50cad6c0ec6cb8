// What the ABI layer tells of the life of the process: fork, exec, spawn, exit, sandboxes.
#pragma once

#include <sys/types.h>

namespace xenloop {

struct FileId;  // see discovery/handover.h

void InstallForkHandlers();  // at the start of the library

// Before a fork that libc's atfork handlers do not see (_Fork, clone, syscall); and after it, in
// both processes, with what the call returned.
void BeforeRawFork();
void AfterRawFork(pid_t child);

// Before posix_spawn, system and popen: a child that we do not see may inherit descriptors.
void BeforeSpawn();

// Before exec*: what survives goes back to TCP, with a note for the next program, whose file
// (device 0, inode 0: unknown) is `program`.
void BeforeExec(const FileId& program);
void AfterFailedExec();

// At _exit, _Exit, quick_exit and in our destructor: statistics, last bytes.
void BeforeExit();

// Before vfork, or clone with CLONE_VM: the same, and from now on a caller may be a child in our
// memory.
void BeforeLending();

}  // namespace xenloop
