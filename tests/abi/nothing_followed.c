// Pointers that lead nowhere, where the library follows nothing: before a program's first socket,
// where a filter of system calls may have come (PR_SET_NO_NEW_PRIVS), behind one that did not come,
// and behind one that did. The kernel says EFAULT there as everywhere.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
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

static void SendNowhere(const char* where, int fd, void* nowhere) {
  Expect(where, "sendmsg", (int)sendmsg(fd, nowhere, MSG_NOSIGNAL));
  struct msghdr message = {0};
  message.msg_control = nowhere;
  message.msg_controllen = 64;
  Expect(where, "sendmsg of control bytes", (int)sendmsg(fd, &message, MSG_NOSIGNAL));
}

int main(void) {
  void* const nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  AskNowhere("before the first socket", nowhere);
  for (int i = 0; i < 3; ++i) {
    if (socket(AF_INET, SOCK_STREAM, 0) < 0) return 1;
  }
  int both[2];
  if (epoll_create1(0) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, both) != 0) return 1;
  AskNowhere("with sockets", nowhere);
  SendNowhere("with sockets", both[0], nowhere);
  struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const struct sock_fprog filter = {1, allow};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
  AskNowhere("in doubt", nowhere);
  SendNowhere("in doubt", both[0], nowhere);
  const int later = socket(AF_INET, SOCK_STREAM, 0);
  AskNowhere("without a filter", nowhere);
  SendNowhere("without a filter", both[0], nowhere);
  Expect("without a filter", "recvmsg", (int)recvmsg(later, nowhere, 0));
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return 1;
  AskNowhere("behind a filter", nowhere);
  SendNowhere("behind a filter", both[0], nowhere);
  return failures != 0;
}
