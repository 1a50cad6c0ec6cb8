// A system call made in line, as Rust's rustix and liburing make theirs: it passes through no
// symbol of libc, and no library in front of libc sees it. -errno, and errno stays as it is.

#pragma once

#include <sys/syscall.h>

namespace conformance {

template <typename T>
long Argument(T* pointer) {
  return reinterpret_cast<long>(pointer);
}
inline long Argument(long number) { return number; }

inline long InlineCallOfLongs(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result = 0;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#else
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
#endif
}

template <typename A, typename B, typename C, typename D = long, typename E = long,
          typename F = long>
long InlineCall(long number, A a, B b, C c, D d = 0, E e = 0, F f = 0) {
  return InlineCallOfLongs(number, Argument(a), Argument(b), Argument(c), Argument(d), Argument(e),
                           Argument(f));
}

}  // namespace conformance
