// sendfile, splice, dprintf, stdio and asynchronous I/O on each kind of descriptor.
#include <aio.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "tests/abi/calls.h"

int __dprintf_chk(int, int, const char*, ...);
int __vdprintf_chk(int, int, const char*, va_list);

static char buffer[8192];

static int MakeFile(const char* text) {
  const int file = memfd_create("abi_calls", 0);
  EXPECT(write(file, text, strlen(text)), (long)strlen(text));
  EXPECT(lseek(file, 0, SEEK_SET), 0);
  return file;
}

static void TestSendfile(enum Kind kind) {
  ENTRY(sendfile);
  ENTRY(sendfile64);
  struct Pair pair = MakePair(kind);
  const int file = MakeFile("hello, world");
  EXPECT(call_sendfile(pair.fds[1], file, NULL, 5), 5);
  off_t offset = 5;
  EXPECT(call_sendfile(pair.fds[1], file, &offset, 7), 7);
  EXPECT_TRUE(offset == 12);
  EXPECT(call_sendfile64(pair.fds[1], file, NULL, 100), 7);
  EXPECT(syscall(SYS_sendfile, pair.fds[1], file, NULL, 100L), 0);
  EXPECT(call_sendfile(pair.fds[1], -1, NULL, 5), -EBADF);
  EXPECT(call_sendfile(-1, file, NULL, 5), -EBADF);
  AwaitBytes(pair.fds[0], 19);
  EXPECT(read(pair.fds[0], buffer, 100), 19);
  EXPECT(memcmp(buffer, "hello, world, world", 19), 0);
  EXPECT(close(file), 0);
  ClosePair(&pair);
}

static void TestSplice(enum Kind kind, bool by_number) {
  ENTRY(splice);
  struct Pair pair = MakePair(kind);
  struct Pair through = MakePair(kPipe);
  EXPECT(write(pair.fds[1], "hello", 5), 5);
  if (by_number) {
    EXPECT(syscall(SYS_splice, pair.fds[0], NULL, through.fds[1], NULL, 100L, 0L), 5);
    EXPECT(syscall(SYS_splice, through.fds[0], NULL, pair.fds[1], NULL, 100L, 0L), 5);
  } else {
    EXPECT(call_splice(pair.fds[0], NULL, through.fds[1], NULL, 100, 0), 5);
    EXPECT(call_splice(through.fds[0], NULL, pair.fds[1], NULL, 100, 0), 5);
  }
  EXPECT(read(pair.fds[0], buffer, 100), 5);
  EXPECT(memcmp(buffer, "hello", 5), 0);
  ClosePair(&through);
  ClosePair(&pair);
}

void TestFiles(void) {
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
    TestSendfile(kind);
    TestSplice(kind, false);
    TestSplice(kind, true);
  }
}

static int PrintList(int fd, bool fortified, const char* format, ...) {
  ENTRY(vdprintf);
  ENTRY(__vdprintf_chk);
  va_list arguments;
  va_start(arguments, format);
  const int length = fortified ? call___vdprintf_chk(fd, 1, format, arguments)
                               : call_vdprintf(fd, format, arguments);
  va_end(arguments);
  return length;
}

static void TestPrint(enum Kind kind) {
  ENTRY(dprintf);
  ENTRY(__dprintf_chk);
  struct Pair pair = MakePair(kind);
  EXPECT(call_dprintf(pair.fds[1], "%d-%s", 7, "a"), 3);
  EXPECT(call___dprintf_chk(pair.fds[1], 1, "%d-%s", 8, "b"), 3);
  EXPECT(PrintList(pair.fds[1], false, "%d-%s", 9, "c"), 3);
  EXPECT(PrintList(pair.fds[1], true, "%d-%s", 6, "d"), 3);
  AwaitBytes(pair.fds[0], 12);
  EXPECT(read(pair.fds[0], buffer, 100), 12);
  EXPECT(memcmp(buffer, "7-a8-b9-c6-d", 12), 0);
  EXPECT(call_dprintf(pair.fds[1], "%s", ""), 0);
  EXPECT(call_dprintf(pair.fds[1], "%5000s", "long"), 5000);
  for (int taken = 0; taken < 5000;) {
    const ssize_t got = read(pair.fds[0], buffer + taken, sizeof buffer - (size_t)taken);
    EXPECT_TRUE(got > 0);
    if (got <= 0) break;
    taken += (int)got;
  }
  EXPECT(memcmp(buffer + 4990, "      long", 10), 0);
  EXPECT(call_dprintf(-1, "x"), -EBADF);
  ClosePair(&pair);
}

// Two streams on one connection: what one end prints, the other reads by lines.
static void TestStream(enum Kind kind, bool old_names) {
  ENTRY(fdopen);
  ENTRY_LIKE(_IO_fdopen, fdopen);
  ENTRY(fclose);
  ENTRY_LIKE(_IO_fclose, fclose);
  struct Pair pair = MakePair(kind);
  EXPECT(write(pair.fds[1], "by write\n", 9), 9);
  FILE* const out = old_names ? call__IO_fdopen(pair.fds[1], "w") : call_fdopen(pair.fds[1], "w");
  FILE* const in = old_names ? call__IO_fdopen(pair.fds[0], "r") : call_fdopen(pair.fds[0], "r");
  EXPECT_TRUE(in != NULL && out != NULL);
  EXPECT(fprintf(out, "by fprintf\n"), 11);
  EXPECT_TRUE(fgets(buffer, 100, in) != NULL && strcmp(buffer, "by write\n") == 0);
  EXPECT(fflush(out), 0);
  EXPECT_TRUE(fgets(buffer, 100, in) != NULL && strcmp(buffer, "by fprintf\n") == 0);
  EXPECT(fprintf(out, "left to fclose\n"), 15);
  EXPECT(old_names ? call__IO_fclose(out) : call_fclose(out), 0);
  EXPECT_CLOSED(fcntl(pair.fds[1], F_GETFD));
  EXPECT_TRUE(fgets(buffer, 100, in) != NULL && strcmp(buffer, "left to fclose\n") == 0);
  EXPECT_TRUE(fgets(buffer, 100, in) == NULL && feof(in));
  EXPECT(old_names ? call__IO_fclose(in) : call_fclose(in), 0);
  EXPECT_CLOSED(fcntl(pair.fds[0], F_GETFD));
  EXPECT_TRUE(call_fdopen(-1, "r") == NULL && errno == EBADF);
}

static void TestReopen(enum Kind kind, bool large) {
  ENTRY(freopen);
  ENTRY(freopen64);
  struct Pair pair = MakePair(kind);
  FILE* const out = fdopen(pair.fds[1], "w");
  EXPECT(fprintf(out, "farewell"), 8);
  FILE* const now =
      large ? call_freopen64("/dev/null", "w", out) : call_freopen("/dev/null", "w", out);
  EXPECT_TRUE(now == out);
  EXPECT(read(pair.fds[0], buffer, 100), 8);
  EXPECT(read(pair.fds[0], buffer, 100), 0);
  EXPECT(fclose(out), 0);
  EXPECT(close(pair.fds[0]), 0);
}

// fcloseall closes no descriptor in glibc, which is why it is not interposed.
static void CloseAll(void* unused) {
  struct Pair pair = MakePair(kTcp);
  FILE* const out = fdopen(pair.fds[1], "w");
  fprintf(out, "held");
  EXPECT(fcloseall(), 0);
  EXPECT(read(pair.fds[0], buffer, 100), 4);
  EXPECT_TRUE(fcntl(pair.fds[1], F_GETFD) >= 0);
}

static long Finish(struct aiocb* control) {
  const struct aiocb* const list[] = {control};
  while (aio_error(control) == EINPROGRESS) aio_suspend(list, 1, NULL);
  return aio_return(control);
}

static void TestAsynchronous(enum Kind kind, bool large) {
  ENTRY(aio_read);
  ENTRY_LIKE(aio_read64, aio_read);
  ENTRY(aio_write);
  ENTRY_LIKE(aio_write64, aio_write);
  ENTRY(lio_listio);
  ENTRY_LIKE(lio_listio64, lio_listio);
  struct Pair pair = MakePair(kind);
  struct aiocb out = {.aio_fildes = pair.fds[1], .aio_buf = "hello", .aio_nbytes = 5};
  struct aiocb in = {.aio_fildes = pair.fds[0], .aio_buf = buffer, .aio_nbytes = 5};
  EXPECT(large ? call_aio_write64(&out) : call_aio_write(&out), 0);
  EXPECT(Finish(&out), 5);
  EXPECT(large ? call_aio_read64(&in) : call_aio_read(&in), 0);
  EXPECT(Finish(&in), 5);
  EXPECT(memcmp(buffer, "hello", 5), 0);
  memset(buffer, 0, sizeof buffer);
  out.aio_lio_opcode = LIO_WRITE;
  in.aio_lio_opcode = LIO_READ;
  struct aiocb* const both[] = {&out, NULL, &in};
  EXPECT(
      large ? call_lio_listio64(LIO_WAIT, both, 3, NULL) : call_lio_listio(LIO_WAIT, both, 3, NULL),
      0);
  EXPECT(Finish(&out), 5);
  EXPECT(Finish(&in), 5);
  EXPECT(memcmp(buffer, "hello", 5), 0);
  ClosePair(&pair);
}

void TestStreams(void) {
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
    TestPrint(kind);
    TestStream(kind, false);
    TestStream(kind, true);
    TestReopen(kind, false);
    TestReopen(kind, true);
    if (kind == kPipe) continue;
    TestAsynchronous(kind, false);
    TestAsynchronous(kind, true);
  }
  EXPECT(InChild(CloseAll, NULL), 0);
}
