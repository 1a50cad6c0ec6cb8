// A program under a clock that stands still (stopped_clock.c): what ends without us must end with
// us. With the argument `fifo` its bytes must have gone past TCP.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/loopback.h"
#include "tests/abi/raw_tcp.h"

// Less than two TCP sockets keep, and more than a FIFO.
enum { kSmall = 100, kLarge = 30000, kInFlight = 1500000, kLongestSeconds = 60 };

static char buffer[kInFlight];

static void Require(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void SendAll(int fd, size_t length) {
  for (size_t sent = 0; sent < length;) {
    const ssize_t n = send(fd, buffer + sent, length - sent, MSG_NOSIGNAL);
    Require(n > 0, "send");
    sent += (size_t)n;
  }
}

static int ReceiveAll(int fd, size_t length) {
  for (size_t received = 0; received < length;) {
    const ssize_t n = recv(fd, buffer + received, length - received, 0);
    if (n == 0 && received == 0) return 0;
    Require(n > 0, "recv");
    received += (size_t)n;
  }
  return 1;
}

static void Serve(int listener) {
  const int fd = accept(listener, NULL, NULL);
  Require(fd >= 0, "accept");
  close(listener);
  for (int i = 0; i < 1000; ++i) {
    Require(ReceiveAll(fd, kSmall), "the client has gone");
    if (i % 100 == 0) nanosleep(&(struct timespec){0, 20000000}, NULL);  // the client sleeps, too
    SendAll(fd, kSmall);
  }
  for (int i = 0; i < 20; ++i) {
    Require(ReceiveAll(fd, kLarge), "the client has gone");
    SendAll(fd, kLarge);
  }
  Require(ReceiveAll(fd, 1), "the client has gone");
  // Both send before either reads: a FIFO must give way to TCP, which holds as much.
  SendAll(fd, kInFlight);
  Require(ReceiveAll(fd, kInFlight), "the client has gone");
  Require(!ReceiveAll(fd, 1), "more than was sent");
  exit(0);
}

// A connection within the process, on which a byte comes every millisecond or two. It is registered
// in two sets: under the library that wakes every thread that waits in another set or in a poll.
struct Busy {
  int fds[2];
  int sets[2];
  atomic_int stop;
  pthread_t sender;
  pthread_t receiver;
};

static void* KeepSending(void* argument) {
  struct Busy* const busy = argument;
  char byte = 0;
  while (!atomic_load(&busy->stop)) {
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    Require(send(busy->fds[0], &byte, 1, MSG_NOSIGNAL) == 1, "send beside");
  }
  shutdown(busy->fds[0], SHUT_WR);
  return NULL;
}
static void* KeepReceiving(void* argument) {
  struct Busy* const busy = argument;
  char byte;
  while (recv(busy->fds[1], &byte, 1, 0) == 1) {
  }
  return NULL;
}

static void ConnectBusy(struct Busy* busy) {
  struct sockaddr_in address;
  const int listener = ListenOnLoopback(&address);
  busy->fds[0] = socket(AF_INET, SOCK_STREAM, 0);
  Require(connect(busy->fds[0], (struct sockaddr*)&address, sizeof address) == 0, "connect");
  busy->fds[1] = accept(listener, NULL, NULL);
  close(listener);
  atomic_store(&busy->stop, 0);
  for (int i = 0; i < 2; ++i) {
    busy->sets[i] = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    Require(epoll_ctl(busy->sets[i], EPOLL_CTL_ADD, busy->fds[1], &event) == 0, "epoll_ctl");
  }
  Require(pthread_create(&busy->sender, NULL, KeepSending, busy) == 0, "a thread");
}
static void CloseBusy(struct Busy* busy) {
  for (int i = 0; i < 2; ++i) {
    close(busy->fds[i]);
    close(busy->sets[i]);
  }
}

// They end by the time although they are woken all the while.
static void WaitsBesideBusy(int fd) {
  struct Busy busy;
  ConnectBusy(&busy);
  Require(pthread_create(&busy.receiver, NULL, KeepReceiving, &busy) == 0, "a thread");
  nanosleep(&(struct timespec){0, 200000000}, NULL);  // hot meanwhile
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  struct pollfd two[2] = {{fd, POLLIN, 0}, {set, POLLIN, 0}};
  Require(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
  Require(epoll_wait(set, &event, 1, 300) == 0, "epoll_wait beside a busy connection");
  puts("epoll_wait ends beside a busy connection");
  Require(poll(two, 2, 300) == 0, "poll beside a busy connection");
  puts("poll ends beside a busy connection");
  close(set);
  atomic_store(&busy.stop, 1);
  pthread_join(busy.sender, NULL);
  pthread_join(busy.receiver, NULL);
  CloseBusy(&busy);

  ConnectBusy(&busy);
  const struct timeval limit = {0, 300000};
  for (int i = 0; i < 2; ++i) {
    Require(setsockopt(busy.fds[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0,
            "time-out");
    Require(recv(busy.fds[1], buffer, sizeof buffer, MSG_WAITALL) > 0, "recv of all");
  }
  puts("recv of more than comes ends");
  atomic_store(&busy.stop, 1);
  pthread_join(busy.sender, NULL);
  CloseBusy(&busy);
}

int main(int argc, char** argv) {
  struct timespec first, second;
  clock_gettime(CLOCK_MONOTONIC, &first);
  nanosleep(&(struct timespec){0, 2000000}, NULL);
  clock_gettime(CLOCK_MONOTONIC, &second);
  Require(first.tv_sec == second.tv_sec && first.tv_nsec == second.tv_nsec, "the clock goes");
  alarm(kLongestSeconds);

  struct sockaddr_in address;
  const int listener = ListenOnLoopback(&address);
  Require(listener >= 0, "a listener");
  const pid_t server = fork();
  if (server == 0) {
    alarm(kLongestSeconds);
    Serve(listener);
  }
  close(listener);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  Require(connect(fd, (struct sockaddr*)&address, sizeof address) == 0, "connect");

  int64_t received = 0;
  for (int i = 0; i < 1000; ++i, received += kSmall) {
    SendAll(fd, kSmall);
    Require(ReceiveAll(fd, kSmall), "the server has gone");
  }
  for (int i = 0; i < 20; ++i, received += kLarge) {
    SendAll(fd, kLarge);
    Require(ReceiveAll(fd, kLarge), "the server has gone");
  }
  const int64_t by_tcp = RawBytesReceived(fd);
  printf("%lld of %lld bytes by TCP\n", (long long)by_tcp, (long long)received);
  if (argc > 1 && strcmp(argv[1], "fifo") == 0) Require(by_tcp < received, "no byte went past TCP");

  // Waits that end by the time.
  struct pollfd poll_entry = {fd, POLLIN, 0};
  Require(poll(&poll_entry, 1, 300) == 0, "poll");
  fd_set to_read;
  FD_ZERO(&to_read);
  FD_SET(fd, &to_read);
  struct timeval left = {0, 300000};
  Require(select(fd + 1, &to_read, NULL, NULL, &left) == 0, "select");
  Require(left.tv_sec == 0 && left.tv_usec == 0, "select has time left when it is up");
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
  Require(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
  Require(epoll_wait(set, &event, 1, 300) == 0, "epoll_wait");
  close(set);
  const struct timeval limit = {0, 300000};
  Require(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
  Require(recv(fd, buffer, 1, 0) == -1 && errno == EAGAIN, "recv with a time-out");
  const struct timeval none = {0, 0};
  Require(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none) == 0, "SO_RCVTIMEO");
  WaitsBesideBusy(fd);
  puts("waits end");
  fflush(stdout);

  SendAll(fd, 1);
  SendAll(fd, kInFlight);
  Require(ReceiveAll(fd, kInFlight), "the server has gone");
  puts("both sent first");
  close(fd);
  int status = 0;
  Require(waitpid(server, &status, 0) == server && status == 0, "the server's end");
  return 0;
}
