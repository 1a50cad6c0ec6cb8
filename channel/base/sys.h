// Raw Linux system calls that return -errno and never touch errno, never pass through a libc symbol
// and are never a cancellation point. Everything below preload/'s ABI layer that talks to the
// kernel on its own account uses these, so that our own work can neither recurse into our hooks nor
// be seen by the program.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace xenloop::sys {

#if defined(__x86_64__)
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
inline void Pause() { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
inline void Pause() { __asm__ volatile("yield"); }
#else
#error "libxenloop knows x86-64 and arm64"
#endif

template <typename T>
inline long Word(T value) {
  if constexpr (sizeof(T) > 4) {
    return reinterpret_cast<long>(reinterpret_cast<const volatile void*>(value));
  } else {
    return static_cast<long>(value);
  }
}
inline long Word(const volatile void* pointer) { return reinterpret_cast<long>(pointer); }

inline int Close(int fd) { return static_cast<int>(Call(SYS_close, fd)); }
inline ssize_t Read(int fd, void* buffer, size_t length) {
  return Call(SYS_read, fd, reinterpret_cast<long>(buffer), static_cast<long>(length));
}
inline ssize_t Write(int fd, const void* buffer, size_t length) {
  return Call(SYS_write, fd, reinterpret_cast<long>(buffer), static_cast<long>(length));
}
inline pid_t GetPid() { return static_cast<pid_t>(Call(SYS_getpid)); }
inline pid_t GetTid() { return static_cast<pid_t>(Call(SYS_gettid)); }
inline void Yield() { Call(SYS_sched_yield); }

// Sleeps while *word == expected; timeout (relative, CLOCK_MONOTONIC) null: for ever. 0, -EAGAIN,
// -EINTR, -ETIMEDOUT. Shared futex: the word may lie in memory mapped by several processes; or of
// this process only: the word may lie in any memory.
inline int FutexWait(const volatile void* word, uint32_t expected, const timespec* timeout,
                     bool of_this_process = false) {
  return static_cast<int>(Call(SYS_futex, reinterpret_cast<long>(word),
                               of_this_process ? FUTEX_WAIT_PRIVATE : FUTEX_WAIT,
                               static_cast<long>(expected), reinterpret_cast<long>(timeout)));
}
inline int FutexWakeAll(const volatile void* word, bool of_this_process = false) {
  return static_cast<int>(Call(SYS_futex, reinterpret_cast<long>(word),
                               of_this_process ? FUTEX_WAKE_PRIVATE : FUTEX_WAKE, 0x7fffffff));
}

// May a file of ours be so long? Beyond RLIMIT_FSIZE the kernel would kill the program with
// SIGXFSZ.
inline bool MayWriteFileOf(uint64_t bytes) {
  uint64_t limit[2] = {0, 0};
  constexpr long kFileSize = 1;  // RLIMIT_FSIZE
  return Call(SYS_prlimit64, 0, kFileSize, 0, reinterpret_cast<long>(limit)) == 0 &&
         limit[0] >= bytes;
}

inline uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);  // vDSO; not one of our hooks, async-signal-safe
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// Where libc's clock may be the program's plaything, and stand still. A system call.
inline uint64_t KernelsMonotonicNs() {
  timespec now;
  constexpr long kMonotonic = 1;  // CLOCK_MONOTONIC
  if (Call(SYS_clock_gettime, kMonotonic, reinterpret_cast<long>(&now)) < 0) return MonotonicNs();
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// Blocks every signal for a slow critical section; the kernel's sigset is 8 bytes. All but the one
// by which glibc has every thread change its user and group: setuid() waits for an answer, and a
// thread started under this mask (the agent) would never give it. Its handler makes one system
// call.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    constexpr int kSetXid = 33;  // SIGSETXID in nptl
    const uint64_t all = ~(1ull << (kSetXid - 1));
    Call(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&all),
         reinterpret_cast<long>(&saved_), 8);
  }
  ~SignalsBlocked() {
    Call(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&saved_), 0, 8);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  uint64_t saved_ = 0;
};

}  // namespace xenloop::sys
