// Very many connections of one client to one server, all opened at once and all used. Requests are
// numbers, each the next one of its connection; the server sends back what it is sent.
//
//   many-sockets serve PORT
//   many-sockets ask PORT CONNECTIONS                  in rounds, until SIGTERM
//   many-sockets pause PORT CONNECTIONS PID PORT2      the same, but first: PID, the server, is
//       stopped when all are connected; kAhead requests go to each, while another server at PORT2
//       is asked kAhead times on each of CONNECTIONS more; PID goes on, and every answer is read
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "tests/e2e/loopback.h"

namespace {

constexpr int kAhead = 24;

volatile sig_atomic_t told_to_end = 0;

int MakeSocket() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  return fd;
}

void WithoutDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void WatchForReading(int epfd, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) Die("epoll_ctl");
}

// False: the connection has ended.
bool Echo(int fd) {
  char buffer[4096];
  const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
  if (got <= 0) return got < 0 && (errno == EINTR || errno == EAGAIN);
  return send(fd, buffer, static_cast<size_t>(got), MSG_NOSIGNAL) == got;
}

int Serve(int port) {
  const int listener = MakeSocket();
  const sockaddr_in address = Loopback(port);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) Die("bind");
  if (listen(listener, 4096) != 0) Die("listen");
  const int epfd = epoll_create1(EPOLL_CLOEXEC);
  WatchForReading(epfd, listener);
  while (told_to_end == 0) {
    epoll_event events[256];
    const int ready = epoll_wait(epfd, events, 256, -1);
    for (int i = 0; i < ready; ++i) {
      const int fd = events[i].data.fd;
      if (fd != listener) {
        if (!Echo(fd)) close(fd);
        continue;
      }
      const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (accepted < 0) Die("accept");
      WithoutDelay(accepted);
      WatchForReading(epfd, accepted);
    }
  }
  return 0;
}

class Crowd {
 public:
  Crowd(int port, int connections) {
    const sockaddr_in address = Loopback(port);
    for (int i = 0; i < connections; ++i) {
      const int fd = MakeSocket();
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        Die("connect");
      WithoutDelay(fd);
      all_.push_back({fd, 0, 0});
    }
  }
  void Request() {
    for (Connection& c : all_) {
      const uint64_t number = c.sent++;
      if (send(c.fd, &number, sizeof number, MSG_NOSIGNAL) != sizeof number) Die("send");
    }
  }
  void TakeAnswers() {
    for (Connection& c : all_) {
      while (c.answered < c.sent) {
        uint64_t number = ~0ull;
        if (recv(c.fd, &number, sizeof number, MSG_WAITALL) != sizeof number) Die("recv");
        if (number != c.answered++) Die("a wrong answer");
      }
    }
  }
  void Rounds(int count) {
    for (int i = 0; i < count; ++i) {
      Request();
      TakeAnswers();
    }
  }

 private:
  struct Connection {
    int fd;
    uint64_t sent;
    uint64_t answered;
  };
  std::vector<Connection> all_;
};

void Say(const char* text) {
  puts(text);
  fflush(stdout);
}

void AskUntilTheEnd(std::initializer_list<Crowd*> crowds) {
  Say("all asked");
  while (told_to_end == 0) {
    for (Crowd* crowd : crowds) crowd->Rounds(1);
    poll(nullptr, 0, 1);  // leaves a processor to others of a test run
  }
  Say("every answer was right");
}

int Ask(int port, int connections) {
  Crowd crowd(port, connections);
  crowd.Rounds(1);
  AskUntilTheEnd({&crowd});
  return 0;
}

int Pause(int port, int connections, pid_t server, int other_port) {
  Crowd paused(port, connections);
  Crowd other(other_port, connections);
  paused.Rounds(1);
  if (kill(server, SIGSTOP) != 0) Die("SIGSTOP");
  for (int i = 0; i < kAhead; ++i) {
    paused.Request();
    other.Rounds(1);
  }
  if (kill(server, SIGCONT) != 0) Die("SIGCONT");
  paused.TakeAnswers();
  AskUntilTheEnd({&paused, &other});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_end = 1; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  const std::string verb = argc > 1 ? argv[1] : "";
  const auto number = [argv](int i) { return atoi(argv[i]); };
  if (verb == "serve" && argc == 3) return Serve(number(2));
  if (verb == "ask" && argc == 4) return Ask(number(2), number(3));
  if (verb == "pause" && argc == 6) return Pause(number(2), number(3), number(4), number(5));
  fprintf(stderr,
          "usage: many-sockets serve PORT\n"
          "       many-sockets ask PORT CONNECTIONS\n"
          "       many-sockets pause PORT CONNECTIONS PID PORT2\n");
  return 2;
}
