// pthread_cancel ends a thread in each call that can wait, whether the wait is the kernel's or
// ours.
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "tests/abi/calls.h"

enum { kWaits = 14 };

static struct Pair shared;
static const char kZeros[4096];

static void* WaitForEver(void* argument) {
  const int form = (int)(long)argument;
  const int fd = shared.fds[0];
  char byte;
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  struct epoll_event event = {.events = EPOLLIN};
  const int epfd = epoll_create1(0);
  epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event);
  switch (form) {
    case 0:
      read(fd, &byte, 1);
      break;
    case 1:
      readv(fd, &iov, 1);
      break;
    case 2:
      recv(fd, &byte, 1, 0);
      break;
    case 3:
      recvfrom(fd, &byte, 1, 0, NULL, NULL);
      break;
    case 4:
      (void)!recvmsg(fd, &message, 0);
      break;
    case 5:
      poll(&poll_fd, 1, -1);
      break;
    case 6:
      ppoll(&poll_fd, 1, NULL, NULL);
      break;
    case 7:
      select(fd + 1, &set, NULL, NULL, NULL);
      break;
    case 8:
      pselect(fd + 1, &set, NULL, NULL, NULL, NULL);
      break;
    case 9:
      epoll_wait(epfd, &event, 1, -1);
      break;
    case 10:
      preadv2(fd, &iov, 1, -1, 0);
      break;
    case 11:
      epoll_pwait(epfd, &event, 1, -1, NULL);
      break;
    case 12:
      for (;;) write(fd, kZeros, sizeof kZeros);
    case 13:
      for (;;) send(fd, kZeros, sizeof kZeros, 0);
  }
  return NULL;
}

void TestCancellation(void) {
  for (long form = 0; form < kWaits; ++form) {
    shared = MakePair(kTcp);
    pthread_t thread;
    void* result = NULL;
    EXPECT(pthread_create(&thread, NULL, WaitForEver, (void*)form), 0);
    EXPECT(pthread_cancel(thread), 0);
    EXPECT(pthread_join(thread, &result), 0);
    char what[32];
    snprintf(what, sizeof what, "cancelled, form %ld", form);
    Expect(__FILE__, __LINE__, what, result == PTHREAD_CANCELED, true);
    ClosePair(&shared);
  }
}
