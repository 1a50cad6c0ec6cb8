// What may be asked of a socket, and told to it: options, ioctl, fcntl, shutdown.
#include <sys/ioctl.h>

#include "tests/abi/calls.h"

static char buffer[64];

static void TestOptionsOf(enum Kind kind, bool by_number) {
  ENTRY(getsockopt);
  ENTRY(setsockopt);
  ENTRY(shutdown);
  ENTRY(ioctl);
  struct Pair pair = MakePair(kind);
  int value = 0;
  socklen_t length = sizeof value;
  EXPECT(by_number ? syscall(SYS_getsockopt, pair.fds[0], (long)SOL_SOCKET, (long)SO_TYPE, &value,
                             &length)
                   : call_getsockopt(pair.fds[0], SOL_SOCKET, SO_TYPE, &value, &length),
         0);
  EXPECT_TRUE(value == SOCK_STREAM && length == sizeof value);
  EXPECT(call_getsockopt(pair.fds[0], SOL_SOCKET, 0x7777, &value, &length), -ENOPROTOOPT);
  value = 1;
  EXPECT(by_number ? syscall(SYS_setsockopt, pair.fds[0], (long)SOL_SOCKET, (long)SO_KEEPALIVE,
                             &value, (long)sizeof value)
                   : call_setsockopt(pair.fds[0], SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value),
         0);
  EXPECT(call_setsockopt(pair.fds[0], SOL_SOCKET, 0x7777, &value, sizeof value), -ENOPROTOOPT);
  EXPECT(call_setsockopt(pair.fds[0], SOL_SOCKET, SO_RCVTIMEO, &value, 1), -EINVAL);
  const struct timeval brief = {0, 2000};
  EXPECT(call_setsockopt(pair.fds[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief), 0);
  EXPECT(read(pair.fds[0], buffer, 1), -EAGAIN);

  EXPECT(write(pair.fds[1], "hello", 5), 5);
  AwaitBytes(pair.fds[0], 5);
  EXPECT(recv(pair.fds[0], buffer, 1, MSG_PEEK), 1);
  EXPECT(by_number ? syscall(SYS_ioctl, pair.fds[0], (long)FIONREAD, &value)
                   : call_ioctl(pair.fds[0], FIONREAD, &value),
         0);
  EXPECT_TRUE(value == 5);
  EXPECT(read(pair.fds[0], buffer, 64), 5);
  value = 1;
  EXPECT(call_ioctl(pair.fds[0], FIONBIO, &value), 0);
  EXPECT_TRUE((fcntl(pair.fds[0], F_GETFL) & O_NONBLOCK) != 0);
  EXPECT(read(pair.fds[0], buffer, 1), -EAGAIN);
  EXPECT(syscall(SYS_fcntl, pair.fds[0], (long)F_SETFL, 0L), 0);
  EXPECT(fcntl(pair.fds[0], F_GETFL) & O_NONBLOCK, 0);
  EXPECT(call_ioctl(pair.fds[0], 0x7777), -ENOTTY);

  EXPECT(call_shutdown(pair.fds[1], 7), -EINVAL);
  EXPECT(write(pair.fds[1], "last", 4), 4);
  EXPECT(by_number ? syscall(SYS_shutdown, pair.fds[1], (long)SHUT_WR)
                   : call_shutdown(pair.fds[1], SHUT_WR),
         0);
  EXPECT(write(pair.fds[1], "x", 1), -EPIPE);
  EXPECT(read(pair.fds[0], buffer, 64), 4);
  EXPECT(read(pair.fds[0], buffer, 64), 0);
  ExpectConnected(pair.fds[0], pair.fds[1]);  // the other way is open
  ClosePair(&pair);
}

void TestOptions(void) {
  for (enum Kind kind = kUnix; kind <= kTcp; ++kind) {
    TestOptionsOf(kind, false);
    TestOptionsOf(kind, true);
  }
  const int alone = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT(read(alone, buffer, 1), -ENOTCONN);
  EXPECT(shutdown(alone, SHUT_RD), -ENOTCONN);
  EXPECT(close(alone), 0);
  EXPECT_CLOSED(shutdown(alone, SHUT_RD));
  EXPECT_CLOSED(ioctl(alone, FIONREAD, buffer));
}
