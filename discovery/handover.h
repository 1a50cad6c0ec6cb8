// Connections that outlive an exec, or are passed to another process by SCM_RIGHTS. What the old
// owner knew of them (nobody else holds the socket, or who does) would be lost; it leaves a note
// for the new one: for the program that comes after it under the same pid, or for who receives by
// the UNIX socket at the other end. A file DIR/xenloop-UID/handovers, a table of 512 buckets by key
// with 8 notes of 56 bytes; read and written with pread and pwrite, never mapped. A note that is
// missing, old, of another connection or for another taker means: not known, the socket stays on
// TCP.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace xenloop {

// As fstat(2) says.
struct FileId {
  uint64_t device = 0;
  uint64_t inode = 0;
};

struct Handover {
  uint64_t check = 0;    // over the rest
  uint64_t cookie = 0;   // SO_COOKIE of the socket: no other has it until the machine restarts
  uint64_t left_ns = 0;  // CLOCK_MONOTONIC; tells one attempt to hand it on from the next
  FileId taker;          // the program's file, or the UNIX socket
  int32_t pid = 0;       // or a key of PassedKey; 0: a free place
  int32_t fd = -1;
  uint32_t shared = 0;   // 0, or 1: other processes hold the socket (in the file: see handover.cc)
  uint32_t opening = 0;  // preload/side/side.h
};
static_assert(sizeof(Handover) == 56);

inline constexpr size_t kMostHandovers = 8;

// The key of a note on a connection that is passed on: a number that no process has.
inline pid_t PassedKey(uint64_t cookie) { return -1 - static_cast<pid_t>(cookie % 0x7fffffff); }

// For left_ns.
uint64_t HandoverMoment();

// All by the runtime directory of `uid` below `base`; descriptors are closed again. 0 or -errno.
int LeaveHandovers(const char* base, uid_t uid, pid_t pid, Handover* notes, size_t count);
// The notes for `pid`, which are then gone (those of shared sockets stay, for IsStillShared). How
// many.
size_t TakeHandovers(const char* base, uid_t uid, pid_t pid, Handover* notes, size_t capacity);
// The note for `taker` on a connection that was passed on. It stays, for IsStillShared.
bool FindPassed(const char* base, uid_t uid, uint64_t cookie, const FileId& taker, Handover* note);
// The notes for `pid` are void. Makes no file.
void VoidHandovers(const char* base, uid_t uid, pid_t pid);
// Says to the process that took the socket, in the attempt of that moment, that nobody else of ours
// holds it any longer.
int SayNoLongerShared(const char* base, uid_t uid, pid_t pid, uint64_t cookie, uint64_t left_ns);
// True unless that has been said.
bool IsStillShared(const char* base, uid_t uid, pid_t pid, uint64_t cookie);

}  // namespace xenloop
