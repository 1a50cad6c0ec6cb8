// Pointers that lead nowhere, where the library follows nothing: before a program's first socket,
// and behind a filter of system calls. poll and select say EFAULT there as everywhere.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>

static int failures;

static void Expect(const char* where, const char* what, int result) {
  if (result == -1 && errno == EFAULT) return;
  ++failures;
  fprintf(stderr, "%s: %s: %d, %s\n", where, what, result, strerror(errno));
}

static void AskNowhere(const char* where, void* nowhere) {
  struct timespec none = {0, 0};
  struct timeval now = {0, 0};
  Expect(where, "poll", poll(nowhere, 1, 0));
  Expect(where, "poll of 0", poll(NULL, 1, 0));
  Expect(where, "ppoll", ppoll(nowhere, 1, &none, NULL));
  Expect(where, "select", select(64, nowhere, NULL, NULL, &now));
  Expect(where, "pselect", pselect(64, NULL, nowhere, NULL, &none, NULL));
}

int main(void) {
  void* const nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  AskNowhere("before the first socket", nowhere);
  for (int i = 0; i < 3; ++i) {
    if (socket(AF_INET, SOCK_STREAM, 0) < 0) return 1;
  }
  AskNowhere("with sockets", nowhere);
  struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const struct sock_fprog filter = {1, allow};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0)
    AskNowhere("behind a filter", nowhere);
  return failures != 0;
}
