// Descriptors of other kinds than the library follows, and streams: made as without it.
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "tests/abi/calls.h"

static char buffer[200];

static void TestTimersAndTheLike(void) {
  ENTRY(timerfd_create);
  ENTRY(signalfd);
  ENTRY(inotify_init);
  ENTRY(inotify_init1);
  ENTRY(fanotify_init);
  ENTRY(posix_openpt);
  ENTRY(getpt);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR2);
  const int made[] = {
      call_timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
      (int)syscall(SYS_timerfd_create, CLOCK_MONOTONIC, (long)TFD_NONBLOCK),
      call_signalfd(-1, &signals, SFD_NONBLOCK),
      call_inotify_init1(IN_NONBLOCK),
  };
  for (unsigned i = 0; i < sizeof made / sizeof *made; ++i) {
    EXPECT_TRUE(made[i] >= 0);
    EXPECT(read(made[i], buffer, sizeof buffer), -EAGAIN);
    EXPECT(fcntl(made[i], F_GETFD), i == 0 ? FD_CLOEXEC : 0);
  }
  EXPECT(call_signalfd(made[2], &signals, 0), made[2]);
  for (unsigned i = 0; i < sizeof made / sizeof *made; ++i) EXPECT(close(made[i]), 0);
  const int inotify = call_inotify_init();
  EXPECT(inotify_rm_watch(inotify, 7), -EINVAL);
  EXPECT(close(inotify), 0);
  EXPECT(call_timerfd_create(-1, 0), -EINVAL);
  EXPECT(call_inotify_init1(-1), -EINVAL);
  EXPECT(call_signalfd(-1, &signals, -1), -EINVAL);
  EXPECT_TRUE(call_fanotify_init(~0U, 0) == -1);  // whose errno depends on who asks
  for (int form = 0; form < 2; ++form) {
    const int terminal = form == 0 ? call_posix_openpt(O_RDWR | O_NOCTTY) : call_getpt();
    if (terminal < 0) continue;  // no devpts here
    EXPECT(isatty(terminal), 1);
    EXPECT(close(terminal), 0);
  }
}

static int OtherProcess(const char* name, long number, int a, int b, unsigned flags, int two) {
  int (*const one_number)(int, unsigned) = (int (*)(int, unsigned))Entry(name);
  if (one_number == NULL)
    return (int)(two ? syscall(number, a, b, flags) : syscall(number, a, flags));
  return two ? ((int (*)(int, int, unsigned))(void (*)(void))one_number)(a, b, flags)
             : one_number(a, flags);
}
static void TestProcessDescriptors(void) {
  const int self = OtherProcess("pidfd_open", SYS_pidfd_open, getpid(), 0, 0, false);
  if (self < 0) return;  // refused by a sandbox, or an older kernel
  EXPECT(read(self, buffer, 1), -EINVAL);
  EXPECT(OtherProcess("pidfd_open", SYS_pidfd_open, -1, 0, 0, false), -EINVAL);
  int ends[2];
  EXPECT(pipe(ends), 0);
  const int same = OtherProcess("pidfd_getfd", SYS_pidfd_getfd, self, ends[1], 0, true);
  if (same >= 0) {
    ExpectConnected(same, ends[0]);
    EXPECT(close(same), 0);
  }
  EXPECT(close(ends[0]) + close(ends[1]) + close(self), 0);
}

static int TemporaryBy(int form, char* path, int flags) {
  ENTRY(mkstemp);
  ENTRY_LIKE(mkstemp64, mkstemp);
  ENTRY(mkostemp);
  ENTRY_LIKE(mkostemp64, mkostemp);
  ENTRY(mkstemps);
  ENTRY_LIKE(mkstemps64, mkstemps);
  ENTRY(mkostemps);
  ENTRY_LIKE(mkostemps64, mkostemps);
  switch (form) {
    case 0:
      return call_mkstemp(path);
    case 1:
      return call_mkstemp64(path);
    case 2:
      return call_mkostemp(path, flags);
    case 3:
      return call_mkostemp64(path, flags);
    case 4:
      return call_mkstemps(path, 2);
    case 5:
      return call_mkstemps64(path, 2);
    case 6:
      return call_mkostemps(path, 2, flags);
    default:
      return call_mkostemps64(path, 2, flags);
  }
}
static void TestTemporaryFiles(void) {
  for (int form = 0; form < 8; ++form) {
    char path[] = "/tmp/abi_calls.XXXXXX.c";
    if (form < 4) path[sizeof path - 3] = '\0';
    const int fd = TemporaryBy(form, path, O_CLOEXEC);
    EXPECT_TRUE(fd >= 0 && strstr(path, "XXXXXX") == NULL);
    EXPECT(fcntl(fd, F_GETFD), form / 2 % 2 == 1 ? FD_CLOEXEC : 0);
    EXPECT(write(fd, "x", 1), 1);
    EXPECT(close(fd), 0);
    EXPECT(unlink(path), 0);
    char wrong[] = "/tmp/abi_calls.c";
    EXPECT(TemporaryBy(form, wrong, 0), -EINVAL);
  }
}

static void TestOpenedStreams(void) {
  ENTRY(fopen);
  ENTRY_LIKE(_IO_fopen, fopen);
  ENTRY_LIKE(fopen64, fopen);
  ENTRY(tmpfile);
  ENTRY_LIKE(tmpfile64, tmpfile);
  for (int form = 0; form < 5; ++form) {
    FILE* const stream = form == 0   ? call_fopen("/dev/zero", "re")
                         : form == 1 ? call__IO_fopen("/dev/zero", "re")
                         : form == 2 ? call_fopen64("/dev/zero", "re")
                         : form == 3 ? call_tmpfile()
                                     : call_tmpfile64();
    EXPECT_TRUE(stream != NULL);
    EXPECT(read(fileno(stream), buffer, 4), form < 3 ? 4 : 0);
    EXPECT(fclose(stream), 0);
  }
  EXPECT_TRUE(call_fopen("/tmp/no/such/folder", "r") == NULL && errno == ENOENT);
  EXPECT_TRUE(call_fopen("/dev/zero", "no mode") == NULL && errno == EINVAL);
}

void TestOtherKinds(void) {
  TestTimersAndTheLike();
  TestProcessDescriptors();
  TestTemporaryFiles();
  TestOpenedStreams();
}
