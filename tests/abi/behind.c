// A preload library that answers libc's functions by syscall(), as Debian's mptcpize does for
// socket(). Its functions may be tail calls: then the caller that syscall() sees is not in here.
#include <sys/syscall.h>

long syscall(long number, ...);

int behind_calls;  // that came to us

#define ANSWER(name)                                          \
  long name(long a, long b, long c, long d, long e, long f) { \
    __atomic_add_fetch(&behind_calls, 1, __ATOMIC_RELAXED);   \
    return syscall(SYS_##name, a, b, c, d, e, f);             \
  }
ANSWER(socket)
ANSWER(connect)
ANSWER(bind)
ANSWER(listen)
ANSWER(accept)
ANSWER(accept4)
ANSWER(shutdown)
ANSWER(getsockopt)
ANSWER(setsockopt)
ANSWER(getsockname)
ANSWER(ioctl)
ANSWER(fcntl)
ANSWER(close)
ANSWER(dup)
ANSWER(dup3)
ANSWER(read)
ANSWER(readv)
ANSWER(recvfrom)
ANSWER(recvmsg)
ANSWER(write)
ANSWER(writev)
ANSWER(sendto)
ANSWER(sendmsg)
ANSWER(epoll_create1)
ANSWER(epoll_ctl)
ANSWER(openat)
ANSWER(pipe2)
ANSWER(socketpair)
ANSWER(memfd_create)
#ifdef SYS_poll
ANSWER(dup2)
ANSWER(open)
ANSWER(creat)
ANSWER(pipe)
ANSWER(poll)
ANSWER(epoll_wait)
#endif

long recv(long a, long b, long c, long d) {
  __atomic_add_fetch(&behind_calls, 1, __ATOMIC_RELAXED);
  return syscall(SYS_recvfrom, a, b, c, d, 0L, 0L);
}
long send(long a, long b, long c, long d) {
  __atomic_add_fetch(&behind_calls, 1, __ATOMIC_RELAXED);
  return syscall(SYS_sendto, a, b, c, d, 0L, 0L);
}
