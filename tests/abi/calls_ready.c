// poll, select and epoll: ready, not ready, what becomes of the timeout, and arguments that are
// refused.
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "tests/abi/calls.h"

int __poll_chk(struct pollfd*, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);

static const struct timespec kShort = {0, 2000000};
static const struct timespec kInvalid = {0, 1000000000};

static int PollBy(int form, struct pollfd* fds, nfds_t count) {
  ENTRY(poll);
  ENTRY_LIKE(__poll, poll);
  ENTRY(__poll_chk);
  ENTRY(ppoll);
  ENTRY(__ppoll_chk);
  sigset_t mask;
  sigemptyset(&mask);
  struct timespec changeable = kShort;
  switch (form) {
    case 0:
      return call_poll(fds, count, 2);
    case 1:
      return call___poll(fds, count, 2);
    case 2:
      return call___poll_chk(fds, count, 2, count * sizeof *fds);
    case 3:
      return call_ppoll(fds, count, &kShort, &mask);
    case 4:
      return call___ppoll_chk(fds, count, &kShort, NULL, count * sizeof *fds);
    case 5:
      return (int)syscall(SYS_poll, fds, count, 2L);
    case 6:
      return (int)syscall(SYS_ppoll, fds, count, &changeable, &mask, 8L);
    default:
      return 99;
  }
}
enum { kPollForms = 7 };

static void TestPoll(enum Kind kind, int form) {
  char byte;
  struct Pair pair = MakePair(kind);
  struct pollfd fds[] = {
      {.fd = pair.fds[0], .events = POLLIN}, {.fd = -1, .events = POLLIN}, {.fd = pair.fds[1]}};
  EXPECT(PollBy(form, fds, 3), 0);
  fds[2].events = POLLOUT;
  EXPECT(PollBy(form, fds, 3), 1);
  EXPECT_TRUE(fds[0].revents == 0 && fds[1].revents == 0 && fds[2].revents == POLLOUT);
  EXPECT(write(pair.fds[1], "x", 1), 1);
  AwaitBytes(pair.fds[0], 1);
  fds[2].events = 0;
  EXPECT(PollBy(form, fds, 3), 1);
  EXPECT_TRUE(fds[0].revents == POLLIN && fds[2].revents == 0);
  EXPECT(read(pair.fds[0], &byte, 1), 1);
  EXPECT(PollBy(form, fds, 3), 0);
  fds[0].fd = 1 << 19;
  EXPECT(PollBy(form, fds, 3), 1);
  EXPECT_TRUE(fds[0].revents == POLLNVAL);
  EXPECT(PollBy(form, NULL, 0), 0);
  ClosePair(&pair);
}

static void OverrunPoll(void* timed) {
  struct pollfd fds[2] = {{.fd = -1}, {.fd = -1}};
  close(2);
  if (timed == NULL) __poll_chk(fds, 2, 0, sizeof fds[0]);
  __ppoll_chk(fds, 2, NULL, NULL, sizeof fds[0]);
}

static int SelectBy(int form, int count, fd_set* read, fd_set* write, bool* was_changed) {
  ENTRY(select);
  ENTRY_LIKE(__select, select);
  ENTRY(pselect);
  struct timeval limit = {10, 0};
  struct timespec fine_limit = {10, 0};
  int ready = 99;
  switch (form) {
    case 0:
      ready = call_select(count, read, write, NULL, &limit);
      break;
    case 1:
      ready = call___select(count, read, write, NULL, &limit);
      break;
    case 2:
      ready = call_pselect(count, read, write, NULL, &fine_limit, NULL);
      break;
    case 3:
      ready = (int)syscall(SYS_select, (long)count, read, write, NULL, &limit);
      break;
    case 4:
      ready = (int)syscall(SYS_pselect6, (long)count, read, write, NULL, &fine_limit, NULL);
      break;
  }
  *was_changed = limit.tv_sec != 10 || fine_limit.tv_sec != 10;
  return ready;
}

static void TestSelect(enum Kind kind, int form) {
  struct Pair pair = MakePair(kind);
  const int count = (pair.fds[0] > pair.fds[1] ? pair.fds[0] : pair.fds[1]) + 1;
  fd_set in, out;
  bool changed;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(pair.fds[0], &in);
  FD_SET(pair.fds[1], &out);
  EXPECT(SelectBy(form, count, &in, &out, &changed), 1);
  EXPECT_TRUE(!FD_ISSET(pair.fds[0], &in) && FD_ISSET(pair.fds[1], &out));
  EXPECT_TRUE(changed == (form != 2));
  EXPECT(write(pair.fds[1], "x", 1), 1);
  AwaitBytes(pair.fds[0], 1);
  FD_SET(pair.fds[0], &in);
  EXPECT(SelectBy(form, count, &in, &out, &changed), 2);
  EXPECT_TRUE(FD_ISSET(pair.fds[0], &in) && FD_ISSET(pair.fds[1], &out));
  struct timeval none = {0, 0};
  struct timeval wrong = {-1, 0};
  EXPECT(select(count, NULL, NULL, &in, &none), 0);
  EXPECT_TRUE(!FD_ISSET(pair.fds[0], &in));
  EXPECT(select(count, &in, NULL, NULL, &wrong), -EINVAL);
  EXPECT(pselect(count, &in, NULL, NULL, &kInvalid, NULL), -EINVAL);
  EXPECT(select(-1, &in, NULL, NULL, &none), -EINVAL);
  FD_ZERO(&in);
  FD_SET(pair.fds[0], &in);
  ClosePair(&pair);
  EXPECT_CLOSED(select(count, &in, NULL, NULL, &none));
}

void TestReadiness(void) {
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
    for (int form = 0; form < kPollForms; ++form) TestPoll(kind, form);
    for (int form = 0; form < 5; ++form) TestSelect(kind, form);
  }
  struct pollfd none = {.fd = -1};
  EXPECT(ppoll(&none, 1, &kInvalid, NULL), -EINVAL);
  EXPECT(poll(NULL, 1, 0), -EFAULT);
  EXPECT(poll(&none, (nfds_t)-1, 0), -EINVAL);
  EXPECT(InChild(OverrunPoll, NULL), 256 + SIGABRT);
  EXPECT(InChild(OverrunPoll, &none), 256 + SIGABRT);
}

static int WaitBy(int form, int epfd, struct epoll_event* events, int count) {
  ENTRY(epoll_wait);
  ENTRY(epoll_pwait);
  ENTRY(epoll_pwait2);
  sigset_t mask;
  sigemptyset(&mask);
  switch (form) {
    case 0:
      return call_epoll_wait(epfd, events, count, 2);
    case 1:
      return call_epoll_pwait(epfd, events, count, 2, &mask);
    case 2:
      return call_epoll_pwait2(epfd, events, count, &kShort, &mask);
    case 3:
      return (int)syscall(SYS_epoll_wait, epfd, events, (long)count, 2L);
    case 4:
      return (int)syscall(SYS_epoll_pwait, epfd, events, (long)count, 2L, &mask, 8L);
    case 5:
      return (int)syscall(SYS_epoll_pwait2, epfd, events, (long)count, &kShort, &mask, 8L);
    default:
      return 99;
  }
}

static int CreateBy(int form) {
  ENTRY(epoll_create);
  ENTRY(epoll_create1);
  switch (form) {
    case 0:
      return call_epoll_create(1);
    case 1:
      return (int)syscall(SYS_epoll_create, 1L);
    case 2:
      return (int)syscall(SYS_epoll_create1, 0L);
    default:
      return call_epoll_create1(EPOLL_CLOEXEC);
  }
}

static void TestEpollOn(enum Kind kind, int form) {
  ENTRY(epoll_ctl);
  char byte;
  struct epoll_event events[4];
  struct Pair pair = MakePair(kind);
  const int epfd = CreateBy(form);
  EXPECT_TRUE(epfd >= 0);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcdef0};
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_ADD, pair.fds[0], &event), 0);
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_ADD, pair.fds[0], &event), -EEXIST);
  EXPECT(WaitBy(form, epfd, events, 4), 0);
  EXPECT(write(pair.fds[1], "x", 1), 1);
  AwaitBytes(pair.fds[0], 1);
  EXPECT(WaitBy(form, epfd, events, 4), 1);
  EXPECT_TRUE(events[0].events == EPOLLIN && events[0].data.u64 == 0x123456789abcdef0);
  EXPECT(WaitBy(form, epfd, events, 4), 1);
  event.events = EPOLLIN | EPOLLET;
  EXPECT(syscall(SYS_epoll_ctl, epfd, (long)EPOLL_CTL_MOD, pair.fds[0], &event), 0);
  EXPECT(WaitBy(form, epfd, events, 4), 1);
  EXPECT(WaitBy(form, epfd, events, 4), 0);
  EXPECT(read(pair.fds[0], &byte, 1), 1);
  event.events = EPOLLOUT;
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_ADD, pair.fds[1], &event), 0);
  EXPECT(WaitBy(form, epfd, events, 4), 1);
  EXPECT_TRUE(events[0].events == EPOLLOUT);
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_DEL, pair.fds[1], NULL), 0);
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_DEL, pair.fds[1], NULL), -ENOENT);
  EXPECT(call_epoll_ctl(epfd, EPOLL_CTL_ADD, 1 << 19, &event), -EBADF);
  EXPECT(WaitBy(form, epfd, events, 0), -EINVAL);
  EXPECT(WaitBy(form, pair.fds[0], events, 4), -EINVAL);
  ClosePair(&pair);
  EXPECT(WaitBy(form, epfd, events, 4), 0);
  EXPECT(close(epfd), 0);
  EXPECT_CLOSED(WaitBy(form, epfd, events, 4));
}

void TestEpoll(void) {
  for (enum Kind kind = kPipe; kind <= kTcp; ++kind) {
    for (int form = 0; form < 6; ++form) TestEpollOn(kind, form);
  }
  EXPECT(epoll_create(0), -EINVAL);
  EXPECT(epoll_create1(1), -EINVAL);
  EXPECT(epoll_pwait2(-1, NULL, 1, &kInvalid, NULL), -EINVAL);
}
