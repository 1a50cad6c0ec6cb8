// A program of one thread is seen as one at a fork, also after traffic that went past TCP: who
// counts threads there (Python 3.12 and later) must count no thread of ours. With the argument
// `fifo` some bytes must have gone past TCP.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/abi/loopback.h"
#include "tests/abi/raw_tcp.h"

enum { kRounds = 20000, kForks = 5, kBytes = 100 };

static void Require(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int Threads(void) {
  DIR* const tasks = opendir("/proc/self/task");
  Require(tasks != NULL, "/proc/self/task");
  int count = 0;
  for (struct dirent* task; (task = readdir(tasks)) != NULL;) count += task->d_name[0] != '.';
  closedir(tasks);
  return count;
}

static void Move(int from, int to) {
  char bytes[kBytes] = {0};
  Require(send(from, bytes, sizeof bytes, 0) == sizeof bytes, "send");
  Require(recv(to, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes, "recv");
}

// Two ends in this process; until bytes go past TCP, where they are expected to.
static void Talk(int ends[2], int fifo) {
  struct sockaddr_in address;
  const int listener = ListenOnLoopback(&address);
  Require(listener >= 0, "a listener");
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  Require(connect(ends[0], (struct sockaddr*)&address, sizeof address) == 0, "connect");
  ends[1] = accept(listener, NULL, NULL);
  Require(ends[1] >= 0, "accept");
  close(listener);
  for (int64_t received = kBytes; received <= (int64_t)kRounds * kBytes; received += kBytes) {
    Move(ends[0], ends[1]);
    Move(ends[1], ends[0]);
    if (fifo ? RawBytesReceived(ends[0]) < received : received >= 200 * kBytes) return;
    if (received > 5000 * kBytes) usleep(100);  // an agent without a processor
  }
  Require(0, "no byte went past TCP");
}

static void Fork(int threads, const char* when) {
  const pid_t child = fork();
  if (child == 0) _exit(Threads());
  const int counted = Threads();  // where Python counts: in the parent, behind the fork
  int status = 0;
  Require(child > 0 && waitpid(child, &status, 0) == child, "fork");
  printf("%s: %d, in the child %d\n", when, counted, WEXITSTATUS(status));
  Require(counted <= threads, when);
  Require(WEXITSTATUS(status) == 1, "the child's threads");
}

int main(int argc, char** argv) {
  const int fifo = argc > 1 && strcmp(argv[1], "fifo") == 0;
  int ends[2];
  alarm(100);
  Fork(1, "before any traffic");
  for (int i = 0; i < kForks; ++i) {
    Talk(ends, fifo);
    close(ends[i % 2]);
    close(ends[1 - i % 2]);
    Fork(1, "after a connection");
  }
  // One that lives on: the thread may stay, and so do the bytes.
  Talk(ends, fifo);
  Fork(fifo ? 2 : 1, "beside a connection");
  for (int i = 0; i < 100; ++i) {
    Move(ends[0], ends[1]);
    Move(ends[1], ends[0]);
  }
  close(ends[0]);
  close(ends[1]);
  Fork(1, "after the last");
  return 0;
}
