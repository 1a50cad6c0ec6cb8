// What both ends of short-lives say and how they wait, and the server.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tests/e2e/loopback.h"

constexpr int kPatienceMs = 5000;
constexpr size_t kLarge = 300000;

inline void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
}
inline void Said(const char* what, long result) {
  if (result < 0) {
    Say("  %s: %s", what, strerrorname_np(errno));
  } else {
    Say("  %s: %ld", what, result);
  }
}

// Waits until all of these events are there, and says what is.
inline void Await(int fd, short events) {
  pollfd entry{fd, events, 0};
  for (int i = 0; i < kPatienceMs && (entry.revents & events) != events; ++i) {
    if (poll(&entry, 1, 1) < 0) break;
    if (entry.revents != 0) usleep(1000);  // a part of it is there, and is told at once
  }
  Say("  events %x", static_cast<unsigned>(entry.revents));
}

inline int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -errno;
}
inline void SetOption(int fd, int level, int name, int value) {
  Said("setsockopt", setsockopt(fd, level, name, &value, sizeof value));
}
inline void SayOptions(int fd) {
  Say("  options: nodelay %d keepalive %d %d %d %d linger %d error %d",
      Option(fd, IPPROTO_TCP, TCP_NODELAY), Option(fd, SOL_SOCKET, SO_KEEPALIVE),
      Option(fd, IPPROTO_TCP, TCP_KEEPIDLE), Option(fd, IPPROTO_TCP, TCP_KEEPINTVL),
      Option(fd, IPPROTO_TCP, TCP_KEEPCNT), Option(fd, SOL_SOCKET, SO_LINGER),
      Option(fd, SOL_SOCKET, SO_ERROR));
}
inline void SayFlags(int fd) {
  Say("  flags %x %x", static_cast<unsigned>(fcntl(fd, F_GETFL)),
      static_cast<unsigned>(fcntl(fd, F_GETFD)));
}
inline void SayNames(int fd, int server_port) {
  sockaddr_in own{};
  sockaddr_in peer{};
  socklen_t length = sizeof own;
  Said("getsockname", getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length));
  length = sizeof peer;
  Said("getpeername", getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length));
  Say("  names %s %s, the server's port %s", inet_ntoa(own.sin_addr), inet_ntoa(peer.sin_addr),
      ntohs(own.sin_port) == server_port    ? "here"
      : ntohs(peer.sin_port) == server_port ? "there"
                                            : "nowhere");
}

// All of it, or what keeps it from that; the socket may be non-blocking.
inline long SendAll(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<size_t>(n);
      continue;
    }
    pollfd entry{fd, POLLOUT, 0};
    if (errno != EAGAIN || poll(&entry, 1, kPatienceMs) <= 0) return -1;
  }
  return static_cast<long>(sent);
}
// So many bytes, or until the end.
inline long ReceiveAll(int fd, size_t most, std::string* bytes = nullptr) {
  size_t received = 0;
  char buffer[4096];
  while (received < most) {
    const size_t want = most - received < sizeof buffer ? most - received : sizeof buffer;
    const ssize_t n = recv(fd, buffer, want, 0);
    if (n > 0) {
      received += static_cast<size_t>(n);
      if (bytes != nullptr) bytes->append(buffer, static_cast<size_t>(n));
      continue;
    }
    if (n == 0) break;
    pollfd entry{fd, POLLIN, 0};
    if (errno != EAGAIN || poll(&entry, 1, kPatienceMs) <= 0) return -1;
  }
  return static_cast<long>(received);
}

int RunServer(int port);
