#!/usr/bin/env bash
# Another process looks at /proc/PID/fd, as lsof, fuser and ss -p do: a socket that is closed meanwhile is not gone.
#
# Guess:   to read a link of /proc/PID/fd, or to stat() it, changes nothing for PID. When its close() of a listener that
#          nobody else holds has returned, the port is free, and it can bind it again.
# Subject: /proc/PID/fd, bind(), Linux 6.18.44; only the kernel.
# Seen:    now and then bind() says EADDRINUSE right behind that close(): in about one of five hundred rounds beside a
#          process that does nothing but readlink(), one of a thousand beside stat(). Without a looker never. While the
#          link is read, the reader holds the open file, and the socket ends with the last hold, in the reader's process.
# Matters: a server that closes and binds anew without SO_REUSEADDR fails at random on a machine that is watched; so does
#          a test that expects ECONNREFUSED, or an end of file at the other side, as soon as close() has returned.
# Source:  proc(5) says nothing of it; fs/proc/fd.c, proc_fd_link: a file is taken and put back, and what the last put
#          leaves to do is done when that task returns to its program.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v cc >/dev/null || { echo "needs a C compiler"; exit 77; }
cat >"$work/looked_at.c" <<'END'
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kNumber = 9, kSeconds = 6 };

static pid_t Looker(char how) {
  const pid_t parent = getpid();
  const pid_t child = how == 'n' ? -1 : fork();
  if (child != 0) return child;
  char path[64], target[64];
  struct stat file;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)parent, kNumber);
  while (getppid() == parent) {
    if (how == 'r') (void)!readlink(path, target, sizeof target);
    if (how == 's') (void)!stat(path, &file);
  }
  _exit(0);
}

int main(int count, char** arguments) {
  const char how = arguments[1][0];
  const pid_t looker = Looker(how);
  const time_t end = time(NULL) + kSeconds;
  long rounds = 0;
  int taken = 0;
  while (time(NULL) < end && taken == 0) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f5b1103)};
    socklen_t length = sizeof name;
    const int first = socket(AF_INET, SOCK_STREAM, 0);
    if (dup2(first, kNumber) < 0 || close(first) != 0 || bind(kNumber, (struct sockaddr*)&name, sizeof name) != 0 ||
        listen(kNumber, 1) != 0 || getsockname(kNumber, (struct sockaddr*)&name, &length) != 0)
      return 2;
    for (volatile int pause = (int)(rounds % 64) * 20; pause > 0; pause = pause - 1) continue;
    close(kNumber);
    const int next = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(next, (struct sockaddr*)&name, sizeof name) != 0 && errno == EADDRINUSE) ++taken;
    close(next);
    ++rounds;
  }
  if (looker > 0) kill(looker, SIGKILL);
  printf("%s\n", taken != 0 ? "EADDRINUSE" : "always free");
  return 0;
}
END
cc -O2 -o "$work/looked_at" "$work/looked_at.c"
seen=
for how in nobody readlink stat; do
  said=$("$work/looked_at" "$how")
  printf '%-9s %s\n' "$how:" "$said"
  seen+="$said;"
done
[[ $seen == "always free;EADDRINUSE;EADDRINUSE;" ]] || { echo "CHANGED: $seen"; exit 1; }
echo "as found"
