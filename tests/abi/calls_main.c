// abi_calls: calls every name of interposed_functions.def, by its symbol, on pipes, UNIX sockets
// and TCP sockets.
//   abi_calls native      expects libc's own functions
//   abi_calls preloaded   expects those of libxenloop.so
//   abi_calls upgraded    the same, and TCP pairs that go by FIFO
#include <arpa/inet.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "tests/abi/calls.h"

static const char* const kNames[] = {
#define INTERPOSE(name) #name,
#define ALIAS(name, function) #name,
#include "preload/libc/interposed_functions.def"
#undef INTERPOSE
#undef ALIAS
};
enum { kNameCount = sizeof kNames / sizeof kNames[0] };

static bool called[kNameCount];
static int failures = 0;
static bool preloaded = false;
static bool upgraded = false;

void Expect(const char* file, int line, const char* what, long got, long want) {
  if (got == want) return;
  ++failures;
  fprintf(stderr, "%s:%d: %s: got %ld%s%s, want %ld%s%s\n", file, line, what, got,
          got < 0 ? " = -" : "", got < 0 ? strerrorname_np((int)-got) : "", want,
          want < 0 ? " = -" : "", want < 0 ? strerrorname_np((int)-want) : "");
}

void* Entry(const char* name) {
  for (int i = 0; i < kNameCount; ++i) {
    if (strcmp(kNames[i], name) == 0) called[i] = true;
  }
  void* const found = dlsym(RTLD_DEFAULT, name);
  if (found == NULL) {
    fprintf(stderr, "no symbol %s\n", name);
    exit(1);
  }
  return found;
}

bool IsNewerThanLibc(const char* name) {
  static const char* const newer[] = {"pidfd_spawn", "pidfd_spawnp"};
  void* const libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  for (size_t i = 0; i < sizeof newer / sizeof newer[0]; ++i) {
    if (strcmp(newer[i], name) == 0) return dlsym(libc, name) == NULL;
  }
  return false;
}

const char* KindName(enum Kind kind) {
  return kind == kPipe ? "pipe" : kind == kUnix ? "UNIX socket" : "TCP socket";
}

static void MakeTcpPair(int fds[2]) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  EXPECT(bind(listener, (struct sockaddr*)&address, sizeof address), 0);
  EXPECT(listen(listener, 5), 0);
  EXPECT(getsockname(listener, (struct sockaddr*)&address, &length), 0);
  fds[0] = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT(connect(fds[0], (struct sockaddr*)&address, sizeof address), 0);
  fds[1] = accept(listener, NULL, NULL);
  EXPECT(close(listener), 0);
  if (upgraded) {
    const int upgrade = 2;
    EXPECT(setsockopt(fds[0], SOL_SOCKET, 0x786C, &upgrade, sizeof upgrade), 0);
    EXPECT(setsockopt(fds[1], SOL_SOCKET, 0x786C, &upgrade, sizeof upgrade), 0);
  }
}

struct Pair MakePair(enum Kind kind) {
  struct Pair pair = {kind, {-1, -1}};
  if (kind == kPipe) {
    EXPECT(pipe(pair.fds), 0);
  } else if (kind == kUnix) {
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.fds), 0);
  } else {
    MakeTcpPair(pair.fds);
  }
  return pair;
}

void ClosePair(struct Pair* pair) {
  EXPECT(close(pair->fds[0]), 0);
  EXPECT(close(pair->fds[1]), 0);
}

void AwaitBytes(int fd, int bytes) {
  int there = 0;
  for (int tries = 0; tries < 5000 && there < bytes; ++tries) {
    if (tries > 0) usleep(1000);
    EXPECT(ioctl(fd, FIONREAD, &there), 0);
  }
  EXPECT(there, bytes);
}

int InChild(void (*body)(void*), void* argument) {
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    failures = 0;
    body(argument);
    _exit(failures != 0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

// Each name must come from the library exactly if there is one. Without it, a libc that is older
// than a name does not have it: nothing to call then.
static void CheckOrigins(void) {
  for (int i = 0; i < kNameCount; ++i) {
    Dl_info origin;
    if (!preloaded && IsNewerThanLibc(kNames[i])) continue;
    const bool found = dladdr(Entry(kNames[i]), &origin) != 0;
    const bool ours = found && strstr(origin.dli_fname, "libxenloop") != NULL;
    if (ours != preloaded) {
      ++failures;
      fprintf(stderr, "%s comes from %s\n", kNames[i], found ? origin.dli_fname : "nowhere");
    }
    called[i] = false;
  }
}

int main(int argc, char** argv) {
  upgraded = argc > 1 && strcmp(argv[1], "upgraded") == 0;
  preloaded = upgraded || (argc > 1 && strcmp(argv[1], "preloaded") == 0);
  alarm(120);
  signal(SIGPIPE, SIG_IGN);
  CheckOrigins();
  // Before the first socket, when the library makes no call of its own to find a bad pointer.
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, (void*)8, NULL, 8L), -EFAULT);
  TestReceive();
  TestSend();
  TestMessages();
  TestFiles();
  TestStreams();
  TestReadiness();
  TestEpoll();
  TestDescriptors();
  TestOtherKinds();
  TestOptions();
  TestProcesses();
  TestExec();
  TestCancellation();
  TestSignals();
  for (int i = 0; i < kNameCount; ++i) {
    if (!called[i] && (preloaded || !IsNewerThanLibc(kNames[i]))) {
      ++failures;
      fprintf(stderr, "%s was never called\n", kNames[i]);
    }
  }
  if (failures != 0) {
    fprintf(stderr, "%d failures; again: %s%s %s\n", failures,
            preloaded ? "LD_PRELOAD=.../libxenloop.so " : "", argv[0],
            argc > 1 ? argv[1] : "native");
  }
  return failures != 0;
}
