// The server of short-lives: one process with epoll.
#include "tests/e2e/short_lives.h"

namespace {

struct Accepted {
  int fd;
  sockaddr_in name;
};

// What the first character of the request asks for. `request` is complete.
void Answer(const Accepted& client, const std::string& request) {
  const int fd = client.fd;
  sockaddr_in peer{};
  socklen_t length = sizeof peer;
  switch (request[0]) {
    case 'e':  // answers, and leaves the close to the client
    case 'f':  // closes first
      Said("send", SendAll(fd, request));
      if (request[0] == 'e') Said("until the end", ReceiveAll(fd, 1));
      break;
    case 'h':  // ends its direction first
      Said("send", SendAll(fd, request));
      Said("shutdown", shutdown(fd, SHUT_WR));
      Said("until the end", ReceiveAll(fd, 1));
      break;
    case 'n':  // says nothing
      break;
    case 'l': {
      const linger now{1, 0};
      Said("linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
      break;
    }
    case 'o':
      SayOptions(fd);
      SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
      SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
      SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
      SayOptions(fd);
      Said("send", SendAll(fd, request));
      break;
    case 's':  // an option that is not taken back
      SetOption(fd, SOL_SOCKET, SO_RCVLOWAT, 3);
      Said("send", SendAll(fd, request));
      break;
    case 'a':
      Said("getpeername", getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length));
      Say("  as accepted: %d", memcmp(&peer, &client.name, sizeof peer) == 0);
      SayFlags(fd);
      Said("send", SendAll(fd, request));
      break;
    case 'g':  // much
      Said("send", SendAll(fd, std::string(kLarge, 'g')));
      break;
    case 'd': {
      const int copy = dup(fd);
      close(fd);
      Said("send", SendAll(copy, request));
      close(copy);
      return;
    }
    case 'F': {
      const pid_t child = fork();
      if (child == 0) _exit(SendAll(fd, request) == static_cast<long>(request.size()) ? 0 : 1);
      int status = -1;
      waitpid(child, &status, 0);
      Say("  child %d", status);
      break;
    }
    default:
      Say("  unknown request");
  }
  Said("close", close(fd));
}

void Serve(int fd, const sockaddr_in& name) {
  char length[3] = {};
  std::string request;
  if (ReceiveAll(fd, 2, &request) != 2) {
    Say("  no request");
    close(fd);
    return;
  }
  memcpy(length, request.data(), 2);
  request.clear();
  Said("request", ReceiveAll(fd, static_cast<size_t>(atoi(length)), &request));
  if (request.empty()) {
    close(fd);
    return;
  }
  if (request[0] == 'Q') exit(0);
  if (request[0] != 'e') Say(" %c", request[0]);
  Answer({fd, name}, request);
  fflush(stdout);
}

}  // namespace

int RunServer(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const sockaddr_in at = Loopback(port);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
      listen(listener, 100) != 0)
    Die("listen");
  const int set = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {}};
  epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    if (epoll_wait(set, &event, 1, -1) <= 0) continue;
    for (;;) {
      sockaddr_in name{};
      socklen_t length = sizeof name;
      const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&name), &length,
                             SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) break;
      Serve(fd, name);
    }
  }
}
