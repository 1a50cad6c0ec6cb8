// What the files of abi_calls share: a check, a pair of connected descriptors of each kind, and the
// list of names that were called. Expected values are literals; the run without the library
// (abi_calls_native) shows that they are the kernel's, the runs with it that they are ours.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum Kind { kPipe, kUnix, kTcp };

// [0] reads and [1] writes; sockets do both.
struct Pair {
  enum Kind kind;
  int fds[2];
};

struct Pair MakePair(enum Kind kind);
void ClosePair(struct Pair* pair);
// Returns once `bytes` are there to be read: what was written in several calls arrives at a TCP
// socket in several segments, the last of them possibly later (ksoftirqd), also on loopback.
void AwaitBytes(int fd, int bytes);
// Does `out` (still) lead to `in`?
void ExpectConnected(int out, int in);
const char* KindName(enum Kind kind);

// The exported symbol `name`, whatever library it is from; notes that it was called.
void* Entry(const char* name);

// A name that the libc of this machine does not have yet; the library has it all the same.
bool IsNewerThanLibc(const char* name);

// Result or -errno of the call before.
static inline long Outcome(long result) { return result == -1 ? -errno : result; }

void Expect(const char* file, int line, const char* what, long got, long want);
#define EXPECT(call, want) (errno = 0, Expect(__FILE__, __LINE__, #call, Outcome(call), want))
// For a call on a descriptor that has just been closed: its number may be in use again for moments,
// by the agent on its way to a high one (D-5). Tried for 2 s at most.
#define EXPECT_CLOSED(call)                                  \
  do {                                                       \
    long last_outcome = 0;                                   \
    for (int tries = 0; tries < 2000; ++tries) {             \
      errno = 0;                                             \
      last_outcome = Outcome(call);                          \
      if (last_outcome == -EBADF) break;                     \
      usleep(1000);                                          \
    }                                                        \
    Expect(__FILE__, __LINE__, #call, last_outcome, -EBADF); \
  } while (0)
#define EXPECT_TRUE(condition) Expect(__FILE__, __LINE__, #condition, !!(condition), 1)

// Declares `name` as a local pointer to the exported symbol of that name, of the type of `like`.
#define ENTRY_LIKE(name, like) __typeof__(&(like)) call_##name = (__typeof__(&(like)))Entry(#name)
#define ENTRY(name) ENTRY_LIKE(name, name)

// Runs `body` in a forked child; its exit status, or 256 + signal.
int InChild(void (*body)(void* argument), void* argument);

void TestReceive(void);
void TestSend(void);
void TestMessages(void);
void TestFiles(void);
void TestStreams(void);
void TestReadiness(void);
void TestEpoll(void);
void TestDescriptors(void);
void TestOtherKinds(void);
void TestOptions(void);
void TestProcesses(void);
void TestExec(void);
void TestCancellation(void);
void TestSignals(void);
