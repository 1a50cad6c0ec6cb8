// Prints where a warm recv runs: the offsets in libxenloop.so of all instructions of one recv()
// that finds its 64 bytes in a FIFO. The program is run with the library preloaded; a child of it
// has a connection with itself, and is followed instruction by instruction. Exit 77: this machine
// allows no tracing, or nothing was upgraded.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/raw_tcp.h"

enum { kMessage = 64, kMostRounds = 5000, kWarm = 20, kMostOffsets = 100000 };

static void Require(int good, const char* what) {
  if (good) return;
  perror(what);
  exit(1);
}

// The two stops between which the parent follows us. A function of its own, so that both are in
// each process.
__attribute__((noinline)) static void Stop(void) { raise(SIGSTOP); }

static void Child(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  Require(bind(listener, (struct sockaddr*)&address, length) == 0, "bind");
  Require(listen(listener, 1) == 0, "listen");
  Require(getsockname(listener, (struct sockaddr*)&address, &length) == 0, "getsockname");
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  Require(connect(client, (struct sockaddr*)&address, length) == 0, "connect");
  const int server = accept(listener, NULL, NULL);
  Require(server >= 0, "accept");
  char message[kMessage] = {0};
  int64_t by_tcp = -1;
  int warm = 0;
  for (int round = 0; warm < kWarm; ++round) {
    if (round == kMostRounds) exit(77);
    Require(send(client, message, sizeof message, 0) == sizeof message, "send");
    Require(recv(server, message, sizeof message, MSG_WAITALL) == sizeof message, "recv");
    Require(send(server, message, sizeof message, 0) == sizeof message, "send");
    Require(recv(client, message, sizeof message, MSG_WAITALL) == sizeof message, "recv");
    const int64_t now = RawBytesReceived(server);
    warm = now == by_tcp ? warm + 1 : 0;
    by_tcp = now;
    if (warm == 0) nanosleep(&(struct timespec){0, 1000000}, NULL);  // the agent is at work
  }
  Require(send(client, message, sizeof message, 0) == sizeof message, "send");
  Stop();
  const ssize_t received = recv(server, message, sizeof message, 0);
  Stop();
  Require(received == sizeof message, "recv");
  _exit(0);
}

// Where the library's file begins in that process, and where its mappings end.
static void FindLibrary(pid_t pid, uint64_t* begin, uint64_t* end) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/maps", (int)pid);
  FILE* maps = fopen(name, "r");
  Require(maps != NULL, name);
  char line[4096];
  *begin = *end = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    if (strstr(line, "libxenloop.so") == NULL || sscanf(line, "%lx-%lx", &from, &to) != 2) continue;
    if (*begin == 0) *begin = from;
    *end = to;
  }
  fclose(maps);
  if (*begin == 0) fprintf(stderr, "libxenloop.so is not preloaded\n");
  if (*begin == 0) exit(1);
}

int main(void) {
  const pid_t child = fork();
  Require(child >= 0, "fork");
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(77);
    Child();
  }
  int status = 0;
  Require(waitpid(child, &status, 0) == child, "waitpid");
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  uint64_t begin, end;
  FindLibrary(child, &begin, &end);
  int steps = 0;
  for (;;) {
    Require(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0, "PTRACE_SINGLESTEP");
    Require(waitpid(child, &status, 0) == child, "waitpid");
    if (!WIFSTOPPED(status)) return 1;
    if (WSTOPSIG(status) == SIGSTOP) break;  // the second stop
    struct user_regs_struct registers;
    Require(ptrace(PTRACE_GETREGS, child, NULL, &registers) == 0, "PTRACE_GETREGS");
    if (registers.rip >= begin && registers.rip < end)
      printf("0x%llx\n", (unsigned long long)(registers.rip - begin));
    Require(++steps < kMostOffsets, "the call does not end");
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return 0;
}
