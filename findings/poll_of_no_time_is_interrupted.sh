#!/usr/bin/env bash
# poll, ppoll and select with a time-out of 0 never wait, and are interrupted by signals all the same.
#
# Guess:   EINTR is for a call that sleeps: a look with a time-out of 0 says how many are ready, 0 or more.
# Subject: Linux 6.18.44; only the kernel.
# Seen:    a signal whose handler runs while poll, ppoll or select looks makes it return EINTR (do_poll and
#          do_select ask for pending signals before they ask whether the time is up), also with SA_RESTART.
#          epoll_wait with a time-out of 0 never does.
# Matters: who looks before it sleeps in ppoll with a mask of signals must look with that mask, or take EINTR
#          of the look for "nothing": else the call is interrupted by a signal that its mask keeps out.
# Source:  fs/select.c, fs/eventpoll.c.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/look.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>
static void nothing(int signal) { (void)signal; }
int main(void) {
  struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, 0);
  int ends[2], set = epoll_create1(0);
  pipe(ends);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
  const struct itimerval often = {{0, 50}, {0, 50}};
  setitimer(ITIMER_REAL, &often, 0);
  const char *names[] = {"poll", "ppoll", "select", "epoll_wait"};
  for (int kind = 0; kind < 4; ++kind) {
    int interrupted = 0;
    for (int i = 0; i < 100000; ++i) {
      struct pollfd entries[64];
      for (int k = 0; k < 64; ++k) entries[k] = (struct pollfd){ends[0], POLLIN, 0};
      const struct timespec now = {0, 0};
      struct timeval no_time = {0, 0};
      fd_set readable;
      FD_ZERO(&readable);
      FD_SET(ends[0], &readable);
      const int found = kind == 0   ? poll(entries, 64, 0)
                        : kind == 1 ? ppoll(entries, 64, &now, 0)
                        : kind == 2 ? select(ends[0] + 1, &readable, 0, 0, &no_time)
                                    : epoll_wait(set, &event, 1, 0);
      interrupted += found < 0 && errno == EINTR;
    }
    printf("%-10s with no time: %s\n", names[kind], interrupted ? "EINTR seen" : "never EINTR");
  }
}
C
cc -O1 -w -o "$scratch/look" "$scratch/look.c"
"$scratch/look"
