// A signal's handler ends a call that waits in the kernel; where a call of the program waits with
// us, looking at FIFOs between system calls, it ends it too. Every handler of the program is
// entered through us (process/handlers.h) and counted here, for its thread. A wait compares the
// counts before each sleep, after it has looked for what is ready: that comes first, as in the
// kernel.
#pragma once

#include <signal.h>

#include <cstdint>

namespace xenloop {

inline constexpr int kMostSignals = 64;

// Of one thread; written by its handlers only. The counts wrap round.
struct HandlerCounts {
  uint64_t begun;  // handlers: its low half; those of them without SA_RESTART: its high half
  uint32_t last[kMostSignals + 1];  // what the low half was at the last one of each signal
};
extern __thread HandlerCounts handler_counts;
inline constexpr uint64_t kNotRestarting = uint64_t{1} << 32;

inline uint64_t HandlersBegun() { return __atomic_load_n(&handler_counts.begun, __ATOMIC_RELAXED); }

// What has happened since a call of the program has begun.
class Interruption {
 public:
  Interruption() : begun_(HandlersBegun()) {}

  // Ends a call that goes on after a handler with SA_RESTART; with a time limit, none does.
  bool Ends(bool restarts) const {
    const uint64_t changed = HandlersBegun() ^ begun_;
    return __builtin_expect(changed != 0, 0) && (!restarts || changed >= kNotRestarting);
  }
  // Ends a poll, select or epoll_wait under that mask (null: the thread's own). What the mask keeps
  // out came, as far as the program can tell, before the call.
  bool EndsWait(const sigset_t* mask) const {
    return __builtin_expect(HandlersBegun() != begun_, 0) && (mask == nullptr || CameThrough(mask));
  }

 private:
  bool CameThrough(const sigset_t* mask) const;

  const uint64_t begun_;
};

// At the beginning of a handler, on its thread. `context`: as the kernel hands it over; a call that
// was about to sleep (SleepingCall) is turned back.
void HandlerBegins(int signal, bool restarts, void* context);

// A system call that sleeps, made only while HandlersBegun() is `begun`: else, and where a handler
// begins before the kernel has the call, kHandlerBegan, and nothing was done. One that the kernel
// restarts behind a handler counts as not made.
inline constexpr int kHandlerBegan = -100002;
long SleepingCall(uint64_t begun, long number, long a, long b = 0, long c = 0, long d = 0,
                  long e = 0, long f = 0);

// Tests: the next wait that is about to sleep is interrupted by that signal, where only we can
// notice it.
void PlantSignal(int signal);
void RaisePlanted();
extern int planted_signal;
inline void BeforeLastLook() {
  if (__builtin_expect(__atomic_load_n(&planted_signal, __ATOMIC_RELAXED) != 0, 0)) RaisePlanted();
}

}  // namespace xenloop
