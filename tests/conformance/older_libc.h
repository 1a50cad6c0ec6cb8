// What glibc 2.31 (Debian 11) does not have yet, as newer ones do it.
#pragma once

#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

namespace conformance {

#if !__GLIBC_PREREQ(2, 32)
inline const char* strerrorname_np(int error) { return strerror(error); }
#endif

#if !__GLIBC_PREREQ(2, 34)
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
inline int close_range(unsigned first, unsigned last, int flags) {
  return static_cast<int>(syscall(SYS_close_range, first, last, flags));
}
inline void closefrom(int first) { close_range(static_cast<unsigned>(first), ~0u, 0); }
#endif

#if !__GLIBC_PREREQ(2, 35)
inline int epoll_pwait2(int epoll, epoll_event* events, int most, const timespec* timeout,
                        const sigset_t* mask) {
  constexpr size_t kMaskBytes = 8;
  return static_cast<int>(
      syscall(SYS_epoll_pwait2, epoll, events, most, timeout, mask, kMaskBytes));
}
#endif

}  // namespace conformance
