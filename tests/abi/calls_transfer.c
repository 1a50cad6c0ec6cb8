// read, write, recv, send and relatives: each form moves "hello" over each kind of descriptor that
// it applies to, and fails as the kernel does where there is nothing, nobody or no such thing.
#include <limits.h>
#include <signal.h>

#include "tests/abi/calls.h"

// No header declares these.
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __recv_chk(int, void*, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void*, size_t, size_t, int, struct sockaddr*, socklen_t*);

static char buffer[64];

static long ByRead(int fd, int flags) {
  ENTRY(read);
  return call_read(fd, buffer, 5);
}
static long ByRead2(int fd, int flags) {
  ENTRY_LIKE(__read, read);
  return call___read(fd, buffer, 5);
}
static long ByReadChk(int fd, int flags) {
  ENTRY(__read_chk);
  return call___read_chk(fd, buffer, 5, 64);
}
static long ByReadSyscall(int fd, int flags) {
  ENTRY(syscall);
  return call_syscall(SYS_read, fd, buffer, 5L);
}
static const struct iovec kHalves[] = {{buffer, 2}, {buffer + 2, 3}};
static long ByReadv(int fd, int flags) {
  ENTRY(readv);
  return call_readv(fd, kHalves, 2);
}
static long ByReadvSyscall(int fd, int flags) { return syscall(SYS_readv, fd, kHalves, 2L); }
static int NoWait(int flags) { return (flags & MSG_DONTWAIT) != 0 ? RWF_NOWAIT : 0; }
static long ByPreadv2(int fd, int flags) {
  ENTRY(preadv2);
  return call_preadv2(fd, kHalves, 2, -1, NoWait(flags));
}
static long ByPreadv64v2(int fd, int flags) {
  ENTRY_LIKE(preadv64v2, preadv2);
  return call_preadv64v2(fd, kHalves, 2, -1, NoWait(flags));
}
static long ByPreadv2Syscall(int fd, int flags) {
  return syscall(SYS_preadv2, fd, kHalves, 2L, -1L, -1L, (long)NoWait(flags));
}
static long ByRecv(int fd, int flags) {
  ENTRY(recv);
  return call_recv(fd, buffer, 5, flags);
}
static long ByRecvChk(int fd, int flags) {
  ENTRY(__recv_chk);
  return call___recv_chk(fd, buffer, 5, 64, flags);
}
static long ByRecvfrom(int fd, int flags) {
  ENTRY(recvfrom);
  return call_recvfrom(fd, buffer, 5, flags, NULL, NULL);
}
static long ByRecvfromChk(int fd, int flags) {
  ENTRY(__recvfrom_chk);
  return call___recvfrom_chk(fd, buffer, 5, 64, flags, NULL, NULL);
}
static long ByRecvfromSyscall(int fd, int flags) {
  return syscall(SYS_recvfrom, fd, buffer, 5L, (long)flags, NULL, NULL);
}
static long ByRecvmsg(int fd, int flags) {
  ENTRY(recvmsg);
  struct msghdr message = {.msg_iov = (struct iovec*)kHalves, .msg_iovlen = 2};
  return call_recvmsg(fd, &message, flags);
}
static long ByRecvmsgSyscall(int fd, int flags) {
  struct msghdr message = {.msg_iov = (struct iovec*)kHalves, .msg_iovlen = 2};
  return syscall(SYS_recvmsg, fd, &message, (long)flags);
}
static long ByRecvmmsg(int fd, int flags) {
  ENTRY(recvmmsg);
  struct mmsghdr message = {{.msg_iov = (struct iovec*)kHalves, .msg_iovlen = 2}, 0};
  const int count = call_recvmmsg(fd, &message, 1, flags, NULL);
  return count == 1 ? (long)message.msg_len : count;
}
static long ByRecvmmsgSyscall(int fd, int flags) {
  struct mmsghdr message = {{.msg_iov = (struct iovec*)kHalves, .msg_iovlen = 2}, 0};
  const long count = syscall(SYS_recvmmsg, fd, &message, 1L, (long)flags, NULL);
  return count == 1 ? (long)message.msg_len : count;
}

// What a form can do beyond reading.
enum Ability { kPlain, kCanSkipWaiting, kSocketsOnly };

static const struct {
  const char* name;
  long (*receive)(int fd, int flags);
  enum Ability ability;
} kReceivers[] = {
    {"read", ByRead, kPlain},
    {"__read", ByRead2, kPlain},
    {"__read_chk", ByReadChk, kPlain},
    {"syscall(read)", ByReadSyscall, kPlain},
    {"readv", ByReadv, kPlain},
    {"syscall(readv)", ByReadvSyscall, kPlain},
    {"preadv2", ByPreadv2, kCanSkipWaiting},
    {"preadv64v2", ByPreadv64v2, kCanSkipWaiting},
    {"syscall(preadv2)", ByPreadv2Syscall, kCanSkipWaiting},
    {"recv", ByRecv, kSocketsOnly},
    {"__recv_chk", ByRecvChk, kSocketsOnly},
    {"recvfrom", ByRecvfrom, kSocketsOnly},
    {"__recvfrom_chk", ByRecvfromChk, kSocketsOnly},
    {"syscall(recvfrom)", ByRecvfromSyscall, kSocketsOnly},
    {"recvmsg", ByRecvmsg, kSocketsOnly},
    {"syscall(recvmsg)", ByRecvmsgSyscall, kSocketsOnly},
    {"recvmmsg", ByRecvmmsg, kSocketsOnly},
    {"syscall(recvmmsg)", ByRecvmmsgSyscall, kSocketsOnly},
};

#define EXPECT_OF(name, kind, call, want)                                    \
  do {                                                                       \
    char what[128];                                                          \
    snprintf(what, sizeof what, "%s on a %s: " #call, name, KindName(kind)); \
    errno = 0;                                                               \
    Expect(__FILE__, __LINE__, what, Outcome(call), want);                   \
  } while (0)

void TestReceive(void) {
  for (size_t i = 0; i < sizeof kReceivers / sizeof kReceivers[0]; ++i) {
    const char* const name = kReceivers[i].name;
    long (*const receive)(int, int) = kReceivers[i].receive;
    const enum Ability ability = kReceivers[i].ability;
    EXPECT_OF(name, kPipe, receive(-1, 0), -EBADF);
    for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
      struct Pair pair = MakePair(kind);
      EXPECT_OF("write", kind, write(pair.fds[1], "hello", 5), 5);
      if (kind == kPipe && ability == kSocketsOnly) {
        EXPECT_OF(name, kind, receive(pair.fds[0], 0), -ENOTSOCK);
        ClosePair(&pair);
        continue;
      }
      memset(buffer, 0, sizeof buffer);
      EXPECT_OF(name, kind, receive(pair.fds[0], 0), 5);
      EXPECT_OF(name, kind, memcmp(buffer, "hello", 5), 0);
      if (ability != kPlain) EXPECT_OF(name, kind, receive(pair.fds[0], MSG_DONTWAIT), -EAGAIN);
      EXPECT(fcntl(pair.fds[0], F_SETFL, O_NONBLOCK), 0);
      EXPECT_OF(name, kind, receive(pair.fds[0], 0), -EAGAIN);
      if (kind == kPipe) {
        close(pair.fds[1]);
        EXPECT_OF(name, kind, receive(pair.fds[0], 0), 0);
        close(pair.fds[0]);
        continue;
      }
      EXPECT(shutdown(pair.fds[1], SHUT_WR), 0);
      EXPECT(fcntl(pair.fds[0], F_SETFL, 0), 0);
      EXPECT_OF(name, kind, receive(pair.fds[0], 0), 0);
      ClosePair(&pair);
    }
  }
}

static const struct iovec kOut[] = {{"hel", 3}, {"lo", 2}};

static long OutByWrite(int fd) {
  ENTRY(write);
  return call_write(fd, "hello", 5);
}
static long OutByWrite2(int fd) {
  ENTRY_LIKE(__write, write);
  return call___write(fd, "hello", 5);
}
static long OutByWriteSyscall(int fd) { return syscall(SYS_write, fd, "hello", 5L); }
static long OutByWritev(int fd) {
  ENTRY(writev);
  return call_writev(fd, kOut, 2);
}
static long OutByWritevSyscall(int fd) { return syscall(SYS_writev, fd, kOut, 2L); }
static long OutByPwritev2(int fd) {
  ENTRY(pwritev2);
  return call_pwritev2(fd, kOut, 2, -1, 0);
}
static long OutByPwritev64v2(int fd) {
  ENTRY_LIKE(pwritev64v2, pwritev2);
  return call_pwritev64v2(fd, kOut, 2, -1, RWF_NOWAIT);
}
static long OutByPwritev2Sync(int fd) { return pwritev2(fd, kOut, 2, -1, RWF_SYNC | RWF_HIPRI); }
static long OutByPwritev2Syscall(int fd) {
  return syscall(SYS_pwritev2, fd, kOut, 2L, -1L, -1L, 0L);
}
static long OutBySend(int fd) {
  ENTRY(send);
  return call_send(fd, "hello", 5, 0);
}
static long OutBySend2(int fd) {
  ENTRY_LIKE(__send, send);
  return call___send(fd, "hello", 5, MSG_NOSIGNAL);
}
static long OutBySendto(int fd) {
  ENTRY(sendto);
  return call_sendto(fd, "hello", 5, 0, NULL, 0);
}
static long OutBySendtoSyscall(int fd) {
  return syscall(SYS_sendto, fd, "hello", 5L, 0L, NULL, 0L);
}
static long OutBySendmsg(int fd) {
  ENTRY(sendmsg);
  const struct msghdr message = {.msg_iov = (struct iovec*)kOut, .msg_iovlen = 2};
  return call_sendmsg(fd, &message, 0);
}
static long OutBySendmsgSyscall(int fd) {
  const struct msghdr message = {.msg_iov = (struct iovec*)kOut, .msg_iovlen = 2};
  return syscall(SYS_sendmsg, fd, &message, 0L);
}
static long OutBySendmmsg(int fd) {
  ENTRY(sendmmsg);
  struct mmsghdr message = {{.msg_iov = (struct iovec*)kOut, .msg_iovlen = 2}, 0};
  const int count = call_sendmmsg(fd, &message, 1, 0);
  return count == 1 ? (long)message.msg_len : count;
}
static long OutBySendmmsgSyscall(int fd) {
  struct mmsghdr message = {{.msg_iov = (struct iovec*)kOut, .msg_iovlen = 2}, 0};
  const long count = syscall(SYS_sendmmsg, fd, &message, 1L, 0L);
  return count == 1 ? (long)message.msg_len : count;
}

static const struct {
  const char* name;
  long (*send)(int fd);
  bool sockets_only;
} kSenders[] = {
    {"write", OutByWrite, false},
    {"__write", OutByWrite2, false},
    {"syscall(write)", OutByWriteSyscall, false},
    {"writev", OutByWritev, false},
    {"syscall(writev)", OutByWritevSyscall, false},
    {"pwritev2", OutByPwritev2, false},
    {"pwritev64v2", OutByPwritev64v2, false},
    {"pwritev2(RWF_SYNC)", OutByPwritev2Sync, false},
    {"syscall(pwritev2)", OutByPwritev2Syscall, false},
    {"send", OutBySend, true},
    {"__send", OutBySend2, true},
    {"sendto", OutBySendto, true},
    {"syscall(sendto)", OutBySendtoSyscall, true},
    {"sendmsg", OutBySendmsg, true},
    {"syscall(sendmsg)", OutBySendmsgSyscall, true},
    {"sendmmsg", OutBySendmmsg, true},
    {"syscall(sendmmsg)", OutBySendmmsgSyscall, true},
};

static void Overrun(void* which) {
  char small[4];
  close(2);  // "buffer overflow detected" is what we want to hear, once
  if (which == ByReadChk) __read_chk(0, small, 5, sizeof small);
  if (which == ByRecvChk) __recv_chk(0, small, 5, sizeof small, 0);
  if (which == ByRecvfromChk) __recvfrom_chk(0, small, 5, sizeof small, 0, NULL, NULL);
}

static void TestArguments(enum Kind kind) {
  struct Pair pair = MakePair(kind);
  const int in = pair.fds[0];
  const int out = pair.fds[1];
  static struct iovec many[IOV_MAX + 1];
  EXPECT(readv(in, many, IOV_MAX + 1), -EINVAL);
  EXPECT(readv(in, many, -1), -EINVAL);
  EXPECT(writev(out, many, IOV_MAX + 1), -EINVAL);
  EXPECT(writev(out, many, -1), -EINVAL);
  EXPECT(writev(out, many, IOV_MAX), 0);
  EXPECT(writev(out, NULL, 0), 0);
  const struct iovec negative = {buffer, (size_t)-1};
  EXPECT(readv(in, &negative, 1), -EINVAL);
  EXPECT(writev(out, &negative, 1), -EINVAL);
  EXPECT(read(in, buffer, 0), 0);
  EXPECT(readv(in, many, 2), 0);
  EXPECT(write(out, buffer, 0), 0);
  EXPECT(pwritev2(out, kOut, 2, 0, 0), -ESPIPE);
  EXPECT(preadv2(in, kHalves, 2, 0, 0), -ESPIPE);
  EXPECT(preadv2(in, kHalves, 2, -1, 1 << 20), -EOPNOTSUPP);
  EXPECT(pwritev2(out, kOut, 2, -1, 1 << 20), -EOPNOTSUPP);
  if (kind != kPipe) {
    const struct msghdr long_message = {.msg_iov = many, .msg_iovlen = IOV_MAX + 1};
    EXPECT(sendmsg(out, &long_message, 0), -EMSGSIZE);
    EXPECT(recvmsg(in, (struct msghdr*)&long_message, 0), -EMSGSIZE);
    EXPECT(sendmsg(out, NULL, 0), -EFAULT);
    EXPECT(recvmsg(in, NULL, 0), -EFAULT);
    EXPECT(recv(in, buffer, 5, MSG_ERRQUEUE | MSG_DONTWAIT), -EAGAIN);
  }
  EXPECT(write(out, "still in order", 14), 14);
  EXPECT(read(in, buffer, 64), 14);
  ClosePair(&pair);
}

void TestSend(void) {
  for (size_t i = 0; i < sizeof kSenders / sizeof kSenders[0]; ++i) {
    const char* const name = kSenders[i].name;
    EXPECT_OF(name, kPipe, kSenders[i].send(-1), -EBADF);
    for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
      struct Pair pair = MakePair(kind);
      if (kind == kPipe && kSenders[i].sockets_only) {
        EXPECT_OF(name, kind, kSenders[i].send(pair.fds[1]), -ENOTSOCK);
        ClosePair(&pair);
        continue;
      }
      EXPECT_OF(name, kind, kSenders[i].send(pair.fds[1]), 5);
      memset(buffer, 0, sizeof buffer);
      EXPECT_OF("read", kind, read(pair.fds[0], buffer, sizeof buffer), 5);
      EXPECT_OF(name, kind, memcmp(buffer, "hello", 5), 0);
      if (kind == kPipe) {
        close(pair.fds[0]);
        EXPECT_OF(name, kind, kSenders[i].send(pair.fds[1]), -EPIPE);
        close(pair.fds[1]);
        continue;
      }
      EXPECT(shutdown(pair.fds[1], SHUT_WR), 0);
      EXPECT_OF(name, kind, kSenders[i].send(pair.fds[1]), -EPIPE);
      ClosePair(&pair);
    }
  }
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) TestArguments(kind);
  EXPECT(InChild(Overrun, ByReadChk), 256 + SIGABRT);
  EXPECT(InChild(Overrun, ByRecvChk), 256 + SIGABRT);
  EXPECT(InChild(Overrun, ByRecvfromChk), 256 + SIGABRT);
}
