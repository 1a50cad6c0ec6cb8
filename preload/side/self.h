// Who is executing: the thread, its processor, its process. Cheap enough for every call.
#pragma once

#include <pthread.h>

#include <cstdint>

#include "channel/base/sys.h"
#include "preload/side/side.h"

namespace xenloop {

struct ProcessState {
  bool ready = false;      // the constructor has run and acceleration is on
  bool sandboxed = false;  // seccomp: no system call but those the program itself makes
  bool in_doubt = false;   // a filter may have come unseen: likewise (see confinement.h)
  bool lends = false;      // a child may run in our memory: vfork, or clone with CLONE_VM
  bool forks = false;      // this process has forked, or is a fork
  bool switches = false;   // tests let the routes flip every so many operations
  bool bypassed = false;   // the program has ways to its sockets that we cannot see: TCP for all
  bool leaves_unseen = false;  // a note of ours stands in a side (unseen_holders.h)
  bool same_numbers = true;    // for processes, here and where we were forked from
  int32_t forked_from = 0;     // 0: not forked since the program began
  int32_t pid = 0;             // whose memory this is: not getpid() in a vfork child, else the same
  long rseq_offset = 0;        // from the thread pointer to glibc's rseq area; 0: none
  uint32_t processors = 1;     // of this machine; known once there is an agent
};
extern ProcessState process_state;

// Descriptors are followed, or may be again when a doubt is over.
inline bool MayKnow() { return process_state.ready || process_state.in_doubt; }

extern __thread uint32_t cached_tid;

// The thread's id as libc knows it: a lock notes who holds it. No system call, which a program in a
// sandbox may not be allowed to make. 0: this libc does not tell.
inline uint32_t TidOfLibc() {
  pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
  if (pthread_mutex_lock(&lock) != 0) return 0;
  const int owner = lock.__data.__owner;
  pthread_mutex_unlock(&lock);
  return owner > 0 ? static_cast<uint32_t>(owner) : 0;
}

inline uint32_t CurrentTid() {
  if (__builtin_expect(cached_tid == 0, 0)) {
    const uint32_t tid = TidOfLibc();
    cached_tid = tid != 0 ? tid : static_cast<uint32_t>(sys::GetTid());
  }
  return cached_tid;
}

// The processor we are on, plus 1; 0 if the kernel does not say without a system call.
inline uint32_t CurrentCpu() {
  if (process_state.rseq_offset == 0) return 0;
  const char* area =
      static_cast<const char*>(__builtin_thread_pointer()) + process_state.rseq_offset;
  const uint32_t cpu =
      *reinterpret_cast<const volatile uint32_t*>(area + 4);  // struct rseq, cpu_id
  return cpu < 0x7fffffff ? cpu + 1 : 0;
}

// True if this process's agent looks after the side (not one inherited over fork and still run by
// the parent).
inline bool IsOurs(const Side* side) {
  return side->owner_pid.load(std::memory_order_relaxed) == process_state.pid;
}

inline Self CurrentSelf() { return Self{CurrentTid(), CurrentCpu()}; }

}  // namespace xenloop
