// The lab's way into a domain: one TCP connection is one shell script. Static and without a
// library, so that it runs in the smallest image.
//
//   request   "TOKEN SECONDS SCRIPT_BYTES INPUT_BYTES\n" script input
//   answer    what the script prints, then "\nLAB-EXIT status\n"
//
// The token keeps other users of the host out. After SECONDS the script's process group is killed
// (status 124). What it leaves in the background with setsid stays.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t expired;
static volatile pid_t script_pid;

static void OnAlarm(int signal_number) {
  (void)signal_number;
  expired = 1;
  if (script_pid > 0) kill(-script_pid, SIGKILL);
}

static int ReadAll(int fd, char* to, size_t length) {
  while (length > 0) {
    const ssize_t n = read(fd, to, length);
    if (n <= 0) return -1;
    to += n;
    length -= (size_t)n;
  }
  return 0;
}

static int ReadLine(int fd, char* line, size_t capacity) {
  size_t used = 0;
  while (used + 1 < capacity && read(fd, line + used, 1) == 1) {
    if (line[used] == '\n') {
      line[used] = 0;
      return 0;
    }
    ++used;
  }
  return -1;
}

static void Serve(int fd, const char* token) {
  char line[200], given[100];
  unsigned seconds;
  size_t script_bytes, input_bytes;
  if (ReadLine(fd, line, sizeof line) != 0) return;
  if (sscanf(line, "%99s %u %zu %zu", given, &seconds, &script_bytes, &input_bytes) != 4) return;
  if (strcmp(given, token) != 0) return;
  char* script = calloc(1, script_bytes + 1);
  if (!script || ReadAll(fd, script, script_bytes) != 0) return;
  const int input = memfd_create("input", 0);
  char buffer[65536];
  while (input_bytes > 0) {
    const size_t want = input_bytes < sizeof buffer ? input_bytes : sizeof buffer;
    if (ReadAll(fd, buffer, want) != 0 || write(input, buffer, want) != (ssize_t)want) return;
    input_bytes -= want;
  }
  lseek(input, 0, SEEK_SET);

  signal(SIGALRM, OnAlarm);
  script_pid = fork();
  if (script_pid == 0) {
    setpgid(0, 0);
    dup2(input, 0);
    dup2(fd, 1);
    dup2(fd, 2);
    for (int other = 3; other < 20; ++other) close(other);
    execl("/bin/sh", "sh", "-c", script, (char*)0);
    _exit(127);
  }
  setpgid(script_pid, script_pid);
  alarm(seconds);
  int status = 0;
  while (waitpid(script_pid, &status, 0) < 0 && errno == EINTR) {
  }
  alarm(0);
  const int code = expired ? 124 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  const int length = snprintf(line, sizeof line, "\nLAB-EXIT %d\n", code);
  if (write(fd, line, (size_t)length) < 0) return;
  // A process left in the background may still hold the connection: end it here, for all.
  shutdown(fd, SHUT_RDWR);
}

int main(int argc, char** argv) {
  static char token[100];
  FILE* file = argc == 3 ? fopen(argv[2], "r") : NULL;
  if (!file || fscanf(file, "%99s", token) != 1) return 2;
  fclose(file);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((unsigned short)atoi(argv[1]))};
  if (bind(listener, (const struct sockaddr*)&address, sizeof address) || listen(listener, 32)) {
    perror("lab_shell");
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    if (fd < 0) continue;
    if (fork() == 0) {
      close(listener);
      signal(SIGPIPE, SIG_DFL);
      Serve(fd, token);
      _exit(0);
    }
    close(fd);
  }
}
