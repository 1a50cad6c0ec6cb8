// Accepted TCP connections are upgraded before accept() returns, by the library's test-only option
// (XENLOOP_TEST_POINTS=on): a second preloaded object, in front of the library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { kRoute = 0x786C, kBothWays = 3, kUpgradeNow = 2 };

static int Lives(int fd) {
  struct tcp_info info;
  socklen_t length = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
         info.tcpi_state == TCP_ESTABLISHED;
}

static int Upgraded(int fd) {
  int routes = 0;
  socklen_t length = sizeof routes;
  return getsockopt(fd, SOL_SOCKET, kRoute, &routes, &length) != 0 ||
         (routes & kBothWays) == kBothWays;
}

// Below it the library makes no agent (D-5), and every upgrade would only be waited for.
static int FewDescriptors(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 256;
}

static int Accepted(int fd) {
  if (fd < 0 || FewDescriptors()) return fd;
  const int saved = errno;
  const struct timespec nap = {0, 500000};
  for (int turn = 0; turn < 6 && Lives(fd) && !Upgraded(fd); ++turn) {
    nanosleep(&nap, 0);
    // An upgrade of a connection that its peer has closed meanwhile would only be waited for.
    const int now = kUpgradeNow;
    if (turn == 4 && Lives(fd)) setsockopt(fd, SOL_SOCKET, kRoute, &now, sizeof now);
  }
  errno = saved;
  return fd;
}

int accept(int fd, struct sockaddr* address, socklen_t* length) {
  static int (*next)(int, struct sockaddr*, socklen_t*);
  if (next == 0) *(void**)&next = dlsym(RTLD_NEXT, "accept");
  return Accepted(next(fd, address, length));
}

int accept4(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  static int (*next)(int, struct sockaddr*, socklen_t*, int);
  if (next == 0) *(void**)&next = dlsym(RTLD_NEXT, "accept4");
  return Accepted(next(fd, address, length, flags));
}
