// Descriptors and sockets from birth to death.
#include <arpa/inet.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/abi/calls.h"

static char buffer[64];

void ExpectConnected(int out, int in) {
  EXPECT(write(out, "ping", 4), 4);
  EXPECT(read(in, buffer, sizeof buffer), 4);
}

static void TestSockets(bool by_number) {
  ENTRY(socket);
  ENTRY(connect);
  ENTRY_LIKE(__connect, connect);
  ENTRY(listen);
  ENTRY(accept);
  ENTRY(accept4);
  const int listener = by_number ? (int)syscall(SYS_socket, (long)AF_INET, (long)SOCK_STREAM, 0L)
                                 : call_socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct sockaddr* const any = (struct sockaddr*)&address;
  socklen_t length = sizeof address;
  EXPECT(bind(listener, any, length), 0);
  EXPECT(by_number ? syscall(SYS_listen, listener, 5L) : call_listen(listener, 5), 0);
  EXPECT(getsockname(listener, any, &length), 0);

  const int first = call_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT(
      by_number ? syscall(SYS_connect, first, any, (long)length) : call_connect(first, any, length),
      0);
  EXPECT(call_connect(first, any, length), -EISCONN);
  struct sockaddr_in peer;
  socklen_t peer_length = sizeof peer;
  const int second = by_number ? (int)syscall(SYS_accept, listener, &peer, &peer_length)
                               : call_accept(listener, (struct sockaddr*)&peer, &peer_length);
  EXPECT_TRUE(second >= 0 && peer_length == sizeof peer && peer.sin_family == AF_INET);
  ExpectConnected(first, second);

  const int third = call_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const long outcome = Outcome(call___connect(third, any, length));
  EXPECT_TRUE(outcome == 0 || outcome == -EINPROGRESS);
  const int fourth = by_number ? (int)syscall(SYS_accept4, listener, NULL, NULL, (long)SOCK_CLOEXEC)
                               : call_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  EXPECT_TRUE(fourth >= 0);
  EXPECT(fcntl(fourth, F_GETFD), FD_CLOEXEC);
  ExpectConnected(third, fourth);

  EXPECT(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
  EXPECT(call_accept(listener, NULL, NULL), -EAGAIN);
  EXPECT(call_accept4(listener, NULL, NULL, -1), -EINVAL);
  EXPECT(close(listener), 0);
  EXPECT_CLOSED(call_accept(listener, NULL, NULL));
  EXPECT(call_listen(first, 5), -EINVAL);
  const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
  EXPECT(call_connect(first, &nobody, sizeof nobody), 0);
  EXPECT(write(first, "x", 1), -ECONNRESET);
  EXPECT(close(first), 0);
  EXPECT(close(second), 0);
  EXPECT(close(third), 0);
  EXPECT(close(fourth), 0);

  const int refused = call_socket(AF_INET, SOCK_STREAM, 0);
  EXPECT(call_connect(refused, any, length), -ECONNREFUSED);
  EXPECT(close(refused), 0);
  EXPECT(call_socket(AF_INET, 77, 0), -EINVAL);
  EXPECT(call_connect(-1, any, length), -EBADF);
  EXPECT(call_connect(0x7ffffff, NULL, 0), -EBADF);
}

static long DuplicateBy(int form, int fd) {
  ENTRY(dup);
  ENTRY(fcntl);
  ENTRY_LIKE(__fcntl, fcntl);
  ENTRY_LIKE(fcntl64, fcntl);
  switch (form) {
    case 0:
      return call_dup(fd);
    case 1:
      return syscall(SYS_dup, fd);
    case 2:
      return call_fcntl(fd, F_DUPFD, 100);
    case 3:
      return call___fcntl(fd, F_DUPFD_CLOEXEC, 100);
    case 4:
      return call_fcntl64(fd, F_DUPFD, 100);
    default:
      return syscall(SYS_fcntl, fd, (long)F_DUPFD_CLOEXEC, 100L);
  }
}

static long CloseBy(int form, int fd) {
  ENTRY(close);
  ENTRY_LIKE(__close, close);
  ENTRY(close_range);
  switch (form) {
    case 0:
      return call_close(fd);
    case 1:
      return call___close(fd);
    case 2:
      return call_close_range((unsigned)fd, (unsigned)fd, 0);
    case 3:
      return syscall(SYS_close, fd);
    default:
      return syscall(SYS_close_range, (long)fd, (long)fd, 0L);
  }
}

// A connection stays open until the last of its descriptors is closed.
static void TestDuplicate(enum Kind kind, int form) {
  struct Pair pair = MakePair(kind);
  const int copy = (int)DuplicateBy(form, pair.fds[1]);
  EXPECT_TRUE(copy >= 0 && (form < 2 || copy >= 100));
  EXPECT(fcntl(copy, F_GETFD), form == 3 || form == 5 ? FD_CLOEXEC : 0);
  ExpectConnected(copy, pair.fds[0]);
  EXPECT(CloseBy(form, pair.fds[1]), 0);
  if (form != 2 && form < 4) EXPECT_CLOSED(CloseBy(form, pair.fds[1]));
  ExpectConnected(copy, pair.fds[0]);
  EXPECT(close(copy), 0);
  EXPECT(read(pair.fds[0], buffer, 1), 0);
  EXPECT(close(pair.fds[0]), 0);
  EXPECT(DuplicateBy(form, pair.fds[0]), -EBADF);
}

static long OntoBy(int form, int from, int to) {
  ENTRY(dup2);
  ENTRY_LIKE(__dup2, dup2);
  ENTRY(dup3);
  switch (form) {
    case 0:
      return call_dup2(from, to);
    case 1:
      return call___dup2(from, to);
    case 2:
      return call_dup3(from, to, 0);
    case 3:
      return syscall(SYS_dup2, from, to);
    default:
      return syscall(SYS_dup3, from, to, 0L);
  }
}

static void TestReplace(enum Kind kind, int form) {
  struct Pair pair = MakePair(kind);
  struct Pair other = MakePair(kTcp);
  EXPECT(OntoBy(form, -1, other.fds[1]), -EBADF);
  if (form != 2 && form != 4) {
    EXPECT(OntoBy(form, other.fds[1], other.fds[1]), other.fds[1]);
  } else {
    EXPECT(OntoBy(form, other.fds[1], other.fds[1]), -EINVAL);
    EXPECT(dup3(pair.fds[1], other.fds[1], -1), -EINVAL);
  }
  ExpectConnected(other.fds[1], other.fds[0]);  // nothing happened to it
  EXPECT(OntoBy(form, pair.fds[1], other.fds[1]), other.fds[1]);
  EXPECT(read(other.fds[0], buffer, 1), 0);  // now it is closed
  ExpectConnected(other.fds[1], pair.fds[0]);
  EXPECT(close(pair.fds[1]), 0);
  ExpectConnected(other.fds[1], pair.fds[0]);
  EXPECT(close(other.fds[1]), 0);
  EXPECT(read(pair.fds[0], buffer, 1), 0);
  EXPECT(close(pair.fds[0]), 0);
  EXPECT(close(other.fds[0]), 0);
}

static int OpenBy(int form, const char* path) {
  ENTRY(open);
  ENTRY_LIKE(__open, open);
  ENTRY_LIKE(open64, open);
  ENTRY_LIKE(__open64, open);
  ENTRY(openat);
  ENTRY_LIKE(openat64, openat);
  ENTRY(creat);
  ENTRY_LIKE(creat64, creat);
  int (*call___open_2)(const char*, int) = Entry("__open_2");
  int (*call___open64_2)(const char*, int) = Entry("__open64_2");
  int (*call___openat_2)(int, const char*, int) = Entry("__openat_2");
  int (*call___openat64_2)(int, const char*, int) = Entry("__openat64_2");
  const int flags = O_RDWR | O_CREAT | O_TRUNC;
  switch (form) {
    case 0:
      return call_open(path, flags, 0640);
    case 1:
      return call___open(path, flags, 0640);
    case 2:
      return call_open64(path, flags, 0640);
    case 3:
      return call___open64(path, flags, 0640);
    case 4:
      return call_openat(AT_FDCWD, path, flags, 0640);
    case 5:
      return call_openat64(AT_FDCWD, path, flags, 0640);
    case 6:
      return call_creat(path, 0640);
    case 7:
      return call_creat64(path, 0640);
    case 8:
      return (int)syscall(SYS_openat, (long)AT_FDCWD, path, (long)flags, 0640L);
    case 9:
      return call___open_2(path, O_RDWR);
    case 10:
      return call___open64_2(path, O_RDWR);
    case 11:
      return call___openat_2(AT_FDCWD, path, O_RDWR);
    default:
      return call___openat64_2(AT_FDCWD, path, O_RDWR);
  }
}

static void TestOpen(void) {
  enum { kForms = 13, kThatCreate = 9 };
  char path[] = "/tmp/abi_calls.XXXXXX";
  EXPECT(close(mkstemp(path)), 0);
  const mode_t mask = umask(0);
  for (int form = 0; form < kForms; ++form) {
    struct stat status;
    if (form < kThatCreate) EXPECT(unlink(path), 0);
    const int fd = OpenBy(form, path);
    EXPECT_TRUE(fd >= 0);
    EXPECT(write(fd, "x", 1), 1);
    EXPECT(fstat(fd, &status), 0);
    EXPECT(status.st_mode & 07777, 0640);
    EXPECT(close(fd), 0);
    EXPECT(OpenBy(form, "/tmp/no/such/folder"), -ENOENT);
    EXPECT(OpenBy(form, NULL), -EFAULT);
  }
  umask(mask);
  EXPECT(unlink(path), 0);
}

static void TestPairsAndMemory(void) {
  ENTRY(pipe);
  ENTRY_LIKE(__pipe, pipe);
  ENTRY(pipe2);
  ENTRY(socketpair);
  ENTRY(eventfd);
  ENTRY(memfd_create);
  int ends[2];
  for (int form = 0; form < 5; ++form) {
    EXPECT(form == 0   ? call_pipe(ends)
           : form == 1 ? call___pipe(ends)
           : form == 2 ? call_pipe2(ends, O_CLOEXEC)
           : form == 3 ? (int)syscall(SYS_pipe2, ends, 0L)
                       : call_socketpair(AF_UNIX, SOCK_STREAM, 0, ends),
           0);
    EXPECT(write(ends[1], "ab", 2), 2);
    EXPECT(read(ends[0], buffer, 8), 2);
    EXPECT(fcntl(ends[0], F_GETFD), form == 2 ? FD_CLOEXEC : 0);
    EXPECT(close(ends[0]), 0);
    EXPECT(close(ends[1]), 0);
  }
  EXPECT(call_pipe2(ends, -1), -EINVAL);
  EXPECT(call_socketpair(AF_INET, SOCK_STREAM, 0, ends), -EOPNOTSUPP);
  const int counter = call_eventfd(3, EFD_NONBLOCK);
  EXPECT(read(counter, buffer, 8), 8);
  EXPECT(read(counter, buffer, 8), -EAGAIN);
  EXPECT(close(counter), 0);
  const int memory = call_memfd_create("abi", MFD_CLOEXEC);
  EXPECT(write(memory, "abc", 3), 3);
  EXPECT(fcntl(memory, F_GETFD), FD_CLOEXEC);
  EXPECT(close(memory), 0);
  EXPECT(call_memfd_create("abi", ~0U), -EINVAL);
}

// D-5: 1024, or three quarters of a small limit.
static int FirstNumberOfTheLibrary(void) {
  struct rlimit limit = {1024, 1024};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur >= 4096 ? 1024 : (int)(limit.rlim_cur * 3 / 4);
}

static void CloseMany(void* from) {
  ENTRY(closefrom);
  struct Pair pair = MakePair(kTcp);
  if (from == NULL) {
    EXPECT(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
    EXPECT(fcntl(pair.fds[0], F_GETFD), FD_CLOEXEC);
    EXPECT(close_range(3, ~0U, 0), 0);
  } else {
    call_closefrom(3);
  }
  for (int fd = 3; fd < FirstNumberOfTheLibrary(); ++fd) EXPECT_CLOSED(fcntl(fd, F_GETFD));
  EXPECT_CLOSED(write(pair.fds[1], "x", 1));
  pair = MakePair(kTcp);
  ExpectConnected(pair.fds[1], pair.fds[0]);
}

void TestDescriptors(void) {
  TestSockets(false);
  TestSockets(true);
  TestOpen();
  TestPairsAndMemory();
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
    for (int form = 0; form < 6; ++form) TestDuplicate(kind, form);
    for (int form = 0; form < 5; ++form) TestReplace(kind, form);
  }
  EXPECT(close_range(5, 4, 0), -EINVAL);
  EXPECT(close_range(5, 6, -1), -EINVAL);
  Entry("closefrom");  // called in a child, of which we do not hear
  EXPECT(InChild(CloseMany, NULL), 0);
  EXPECT(InChild(CloseMany, buffer), 0);
}
