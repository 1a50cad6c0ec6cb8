/* A small program for the tests of the tools to run and to examine. Says "ready", then:
     probe wait     waits for SIGUSR1 and exits with 9
     probe die N    dies of signal N
     probe exit N   exits with N
     probe args ... prints its arguments, one a line */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PROBE_LOOKS_LIKE_GO
__attribute__((section(".go.buildinfo"), used)) static const char kBuildInfo[32] = "\xff Go";
#endif

int main(int argc, char** argv) {
  sigset_t signals;
  int received = 0;
  const char* command = argc > 1 ? argv[1] : "";
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  if (strcmp(command, "args") == 0) {
    for (int i = 2; i < argc; ++i) puts(argv[i]);
    return 0;
  }
  puts("ready");
  fflush(stdout);
  if (strcmp(command, "exit") == 0 && argc > 2) return atoi(argv[2]);
  if (strcmp(command, "die") == 0 && argc > 2) raise(atoi(argv[2]));
  if (strcmp(command, "wait") == 0) {
    sigwait(&signals, &received);
    return 9;
  }
  return 0;
}
