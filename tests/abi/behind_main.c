// Run with behind.so preloaded, alone and behind libxenloop.so: every call that the program makes
// by name comes to an end and does what it should; and what it asks of the kernel itself, by
// syscall(), is not asked of behind.so instead.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(what)                                                  \
  do {                                                               \
    if (!(what)) {                                                   \
      fprintf(stderr, "%s:%d: %s: %m\n", __FILE__, __LINE__, #what); \
      exit(1);                                                       \
    }                                                                \
  } while (0)

static const int kOne = 1;
enum { kTrips = 400 };

static struct sockaddr_in Loopback(void) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// One trip of `bytes` from one end to the other, by the calls of trip's turn.
static void Trip(int from, int to, int turn) {
  char sent[64], got[64];
  memset(sent, 'a' + turn % 26, sizeof sent);
  struct iovec out = {sent, sizeof sent}, in = {got, sizeof got};
  struct msghdr out_message = {.msg_iov = &out, .msg_iovlen = 1};
  struct msghdr in_message = {.msg_iov = &in, .msg_iovlen = 1};
  ssize_t result = turn % 5 == 0   ? write(from, sent, sizeof sent)
                   : turn % 5 == 1 ? send(from, sent, sizeof sent, 0)
                   : turn % 5 == 2 ? sendto(from, sent, sizeof sent, 0, NULL, 0)
                   : turn % 5 == 3 ? writev(from, &out, 1)
                                   : sendmsg(from, &out_message, 0);
  CHECK(result == sizeof sent);
  struct pollfd readable = {.fd = to, .events = POLLIN};
  CHECK(poll(&readable, 1, -1) == 1);
  result = turn % 5 == 0   ? recvmsg(to, &in_message, 0)
           : turn % 5 == 1 ? readv(to, &in, 1)
           : turn % 5 == 2 ? recvfrom(to, got, sizeof got, 0, NULL, NULL)
           : turn % 5 == 3 ? recv(to, got, sizeof got, 0)
                           : read(to, got, sizeof got);
  CHECK(result == sizeof got && memcmp(sent, got, sizeof got) == 0);
}

static void ByName(void) {
  struct sockaddr_in address = Loopback();
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(listener >= 0 && bind(listener, (struct sockaddr*)&address, sizeof address) == 0);
  CHECK(getsockname(listener, (struct sockaddr*)&address, &length) == 0 &&
        listen(listener, 5) == 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&address, sizeof address) == 0);
  const int server = accept(listener, NULL, NULL);
  CHECK(server >= 0);
  CHECK(setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &kOne, sizeof kOne) == 0);
  int error = 1, waiting = 1;
  length = sizeof error;
  CHECK(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0);
  CHECK(ioctl(server, FIONREAD, &waiting) == 0 && waiting == 0);
  const int set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, server, &event) == 0);
  for (int turn = 0; turn < kTrips; ++turn) {
    Trip(client, server, turn);
    Trip(server, client, turn);
  }
  CHECK(send(client, "x", 1, 0) == 1 && epoll_wait(set, &event, 1, -1) == 1);
  const int copy = dup(client);
  CHECK(copy >= 0 && dup2(client, copy) == copy && fcntl(copy, F_GETFD) == 0);
  CHECK(close(copy) == 0 && shutdown(client, SHUT_WR) == 0);
  char last[2];
  CHECK(read(server, last, 2) == 1);
  CHECK(read(server, last, 2) == 0);
  CHECK(close(server) == 0 && close(client) == 0 && close(listener) == 0 && close(set) == 0);
}

static void ByNumber(void) {
  struct sockaddr_in address = Loopback();
  socklen_t length = sizeof address;
  const long listener = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  CHECK(listener >= 0 && syscall(SYS_bind, listener, &address, sizeof address) == 0);
  CHECK(syscall(SYS_getsockname, listener, &address, &length) == 0);
  CHECK(syscall(SYS_listen, listener, 5) == 0);
  const long client = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  CHECK(syscall(SYS_connect, client, &address, sizeof address) == 0);
  const long server = syscall(SYS_accept4, listener, NULL, NULL, 0);
  CHECK(server >= 0);
  CHECK(syscall(SYS_setsockopt, client, SOL_SOCKET, SO_KEEPALIVE, &kOne, sizeof kOne) == 0);
  int error = 1, waiting = 1;
  length = sizeof error;
  CHECK(syscall(SYS_getsockopt, client, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0);
  CHECK(syscall(SYS_ioctl, server, FIONREAD, &waiting) == 0 && waiting == 0);
  const long copy = syscall(SYS_dup, client);
  CHECK(copy >= 0 && syscall(SYS_fcntl, copy, F_SETFL, O_RDWR) == 0);
  CHECK(syscall(SYS_dup3, client, copy, 0) == copy);
  CHECK(syscall(SYS_close, copy) == 0 && syscall(SYS_shutdown, client, SHUT_WR) == 0);
  CHECK(syscall(SYS_close, server) == 0 && syscall(SYS_close, client) == 0);
  CHECK(syscall(SYS_close, listener) == 0);
}

int main(void) {
  alarm(100);
  const int* const calls = dlsym(RTLD_DEFAULT, "behind_calls");
  CHECK(calls != NULL);
  ByName();
  const int before = *calls;
  CHECK(before > 0);
  ByNumber();
  CHECK(*calls == before);
  printf("%d calls by name, none by number\n", before);
  return 0;
}
