// A client and a server of short connections, which write down what every call of theirs gives, but
// for port numbers: short_lives.sh compares that with and without the library. One character at the
// beginning of a request says what the server is to do; one line of the client's is one scenario.
//
//   short_lives server PORT          one process with epoll, until a request says Q
//   short_lives client PORT          all scenarios, each after some plain lives
//   short_lives storm PORT LIVES     random ones, with a checksum of every byte
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

namespace {

constexpr int kPatienceMs = 5000;
constexpr size_t kLarge = 300000;

void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
}
void Said(const char* what, long result) {
  if (result < 0) {
    Say("  %s: %s", what, strerrorname_np(errno));
  } else {
    Say("  %s: %ld", what, result);
  }
}

// Waits until all of these events are there, and says what is.
void Await(int fd, short events) {
  pollfd entry{fd, events, 0};
  for (int i = 0; i < kPatienceMs && (entry.revents & events) != events; ++i) {
    if (poll(&entry, 1, 1) < 0) break;
    if (entry.revents != 0) usleep(1000);  // a part of it is there, and is told at once
  }
  Say("  events %x", static_cast<unsigned>(entry.revents));
}

int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -errno;
}
void SetOption(int fd, int level, int name, int value) {
  Said("setsockopt", setsockopt(fd, level, name, &value, sizeof value));
}
void SayOptions(int fd) {
  Say("  options: nodelay %d keepalive %d %d %d %d linger %d error %d",
      Option(fd, IPPROTO_TCP, TCP_NODELAY), Option(fd, SOL_SOCKET, SO_KEEPALIVE),
      Option(fd, IPPROTO_TCP, TCP_KEEPIDLE), Option(fd, IPPROTO_TCP, TCP_KEEPINTVL),
      Option(fd, IPPROTO_TCP, TCP_KEEPCNT), Option(fd, SOL_SOCKET, SO_LINGER),
      Option(fd, SOL_SOCKET, SO_ERROR));
}
void SayFlags(int fd) {
  Say("  flags %x %x", static_cast<unsigned>(fcntl(fd, F_GETFL)),
      static_cast<unsigned>(fcntl(fd, F_GETFD)));
}
void SayNames(int fd, int server_port) {
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
long SendAll(int fd, const std::string& bytes) {
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
long ReceiveAll(int fd, size_t most, std::string* bytes = nullptr) {
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

// ---- the server ----

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

// ---- the client ----

int server_port;

int NewSocket(int flags = 0) { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0); }
int Connected(int flags = 0) {
  const int fd = NewSocket(flags);
  const sockaddr_in to = Loopback(server_port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
  pollfd entry{fd, POLLOUT, 0};
  if (errno == EINPROGRESS && poll(&entry, 1, kPatienceMs) == 1) return fd;
  Said("connect", -1);
  return fd;
}
long Request(int fd, const std::string& what) {
  char text[8];
  snprintf(text, sizeof text, "%02zu", what.size());
  return SendAll(fd, text + what);
}
// A plain life: nothing of the one before is in it.
void PlainLife(char kind = 'e') {
  const int fd = Connected();
  const std::string request = std::string(1, kind) + "plain life";
  std::string answer;
  const bool good =
      Request(fd, request) > 0 && ReceiveAll(fd, request.size(), &answer) > 0 && answer == request;
  if (!good) Say("  a plain life went wrong: %s", answer.c_str());
  if (kind == 'f' && ReceiveAll(fd, 1) != 0) Say("  no end");
  close(fd);
}

void Blocking() {
  const int fd = NewSocket();
  const sockaddr_in to = Loopback(server_port);
  Said("connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  Said("again", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  SayNames(fd, server_port);
  SayOptions(fd);
  SayFlags(fd);
  Said("request", Request(fd, "e blocking"));
  Said("answer", ReceiveAll(fd, 10));
  char byte;
  Said("nothing more", recv(fd, &byte, 1, MSG_DONTWAIT));
  int unread = -1;
  ioctl(fd, FIONREAD, &unread);
  Say("  unread %d", unread);
  Said("close", close(fd));
}
void NonBlocking() {
  const int fd = NewSocket(SOCK_NONBLOCK);
  const sockaddr_in to = Loopback(server_port);
  Said("connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  Await(fd, POLLOUT);
  Say("  error %d", Option(fd, SOL_SOCKET, SO_ERROR));
  Said("again", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  Said("and again", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  SayFlags(fd);
  char byte;
  Said("nothing yet", recv(fd, &byte, 1, 0));
  Said("request", Request(fd, "f first"));
  Said("answer", ReceiveAll(fd, 7));
  Await(fd, POLLIN | POLLRDHUP | POLLOUT);
  Said("the end", recv(fd, &byte, 1, 0));
  Said("the end again", recv(fd, &byte, 1, 0));
  Said("close", close(fd));
}
void InEpollBefore(uint32_t events) {
  const int set = epoll_create1(EPOLL_CLOEXEC);
  const int fd = NewSocket(SOCK_NONBLOCK);
  epoll_event event{events | EPOLLIN | EPOLLOUT | EPOLLRDHUP, {}};
  event.data.u64 = 12345;
  const sockaddr_in to = Loopback(server_port);
  Said("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
  Said("connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  uint32_t seen = 0;
  for (int i = 0; i < kPatienceMs && (seen & EPOLLOUT) == 0; ++i) {
    if (epoll_wait(set, &event, 1, 1) == 1) seen = event.events;
  }
  Say("  events %x of %lu", seen & ~static_cast<uint32_t>(EPOLLHUP),
      static_cast<unsigned long>(event.data.u64));
  Said("request", Request(fd, "f epoll"));
  for (int i = 0; i < kPatienceMs && (seen & EPOLLRDHUP) == 0; ++i) {
    if (epoll_wait(set, &event, 1, 1) == 1) seen |= event.events;
    usleep(1000);  // there is room all the time
  }
  Say("  events %x", seen & ~static_cast<uint32_t>(EPOLLHUP));
  Said("answer", ReceiveAll(fd, 100));
  Said("close", close(fd));
  Said("left in the set", epoll_wait(set, &event, 1, 20));
  close(set);
}
void Bound() {
  const int fd = NewSocket();
  const sockaddr_in to = Loopback(server_port);
  sockaddr_in own = Loopback(0);
  Said("bind", bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own));
  Said("connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  Said("request", Request(fd, "a bound"));
  Said("answer", ReceiveAll(fd, 100));
  close(fd);
}
void OptionsBefore() {
  const int fd = NewSocket();
  const sockaddr_in to = Loopback(server_port);
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  Said("connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  SayOptions(fd);
  Said("request", Request(fd, "e options"));
  Said("answer", ReceiveAll(fd, 9));
  close(fd);
}
void Asks(const char* what, size_t answer) {
  const int fd = Connected();
  Said("request", Request(fd, what));
  Said("answer", ReceiveAll(fd, answer));
  char byte;
  Said("the end", recv(fd, &byte, 1, 0));
  Said("close", close(fd));
}
void HalfClose() {
  const int fd = Connected();
  Said("request", Request(fd, "e half"));
  Said("shutdown", shutdown(fd, SHUT_WR));
  Said("send", send(fd, "x", 1, MSG_NOSIGNAL));
  Said("answer", ReceiveAll(fd, 100));
  Await(fd, POLLIN | POLLHUP);
  Said("close", close(fd));
}
void SendToClosed() {
  const int fd = Connected();
  Said("request", Request(fd, "f closed"));
  Said("answer", ReceiveAll(fd, 100));
  Said("send", send(fd, "x", 1, MSG_NOSIGNAL));
  Await(fd, POLLHUP);
  Said("send again", send(fd, "x", 1, MSG_NOSIGNAL));
  Said("close", close(fd));
}
void CloseUnread() {
  const int fd = Connected();
  Said("request", Request(fd, "e unread"));
  Await(fd, POLLIN);
  Said("close", close(fd));
}
void CloseAtOnce() {
  const int fd = Connected();
  Said("request", Request(fd, "n at once"));
  Said("close", close(fd));
  close(Connected());
}
void Lingers() {
  const int fd = Connected();
  const linger now{1, 0};
  Said("linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
  Said("request", Request(fd, "n linger"));
  Said("close", close(fd));
}
void Copies() {
  const int fd = Connected();
  const int copy = dup(fd);
  Said("close", close(fd));
  Said("request", Request(copy, "f copy"));
  Said("answer", ReceiveAll(copy, 100));
  Said("close", close(copy));
}
void Child() {
  const int fd = Connected();
  const pid_t child = fork();
  if (child == 0) _exit(Request(fd, "f child") == 9 ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  Say("  child %d", status);
  Said("answer", ReceiveAll(fd, 100));
  Said("close", close(fd));
}
void Peeks() {
  const int fd = Connected();
  Said("request", Request(fd, "f peek"));
  Await(fd, POLLIN | POLLRDHUP);
  char buffer[64];
  Said("peek", recv(fd, buffer, sizeof buffer, MSG_PEEK));
  Said("waitall", recv(fd, buffer, sizeof buffer, MSG_WAITALL));
  Said("peek", recv(fd, buffer, sizeof buffer, MSG_PEEK));
  Said("close", close(fd));
}

struct Scenario {
  const char* name;
  void (*run)();
};
const Scenario kScenarios[] = {
    {"blocking", Blocking},
    {"non-blocking", NonBlocking},
    {"in epoll before", [] { InEpollBefore(0); }},
    {"in epoll before, edges", [] { InEpollBefore(EPOLLET); }},
    {"bound", Bound},
    {"options before", OptionsBefore},
    {"options of the server", [] { Asks("o options", 9); }},
    {"options that stay", [] { Asks("s stays", 7); }},
    {"names and flags", [] { Asks("a names", 7); }},
    {"much", [] { Asks("g much", kLarge); }},
    {"the server ends first", [] { Asks("h half", 6); }},
    {"no answer", [] { Asks("n none", 1); }},
    {"reset by linger", [] { Asks("l linger", 1); }},
    {"a copy of the server's", [] { Asks("d copy", 6); }},
    {"half-close", HalfClose},
    {"send to who has closed", SendToClosed},
    {"close with bytes unread", CloseUnread},
    {"close at once", CloseAtOnce},
    {"linger", Lingers},
    {"copies", Copies},
    {"peeks", Peeks},
    {"a child", Child},
};

int RunClient() {
  for (int round = 0; round < 2; ++round) {
    for (const Scenario& scenario : kScenarios) {
      for (int i = 0; i < 20; ++i) PlainLife(i % 2 == 0 ? 'e' : 'f');
      Say("%s", scenario.name);
      scenario.run();
      PlainLife();
    }
  }
  Say("a child of the server's");
  Asks("F child", 7);
  PlainLife();
  return 0;
}

// Not one byte may be wrong, whatever kills the server meanwhile.
int RunStorm(long lives) {
  unsigned seed = 1;
  long wrong = 0;
  long lost = 0;
  for (long i = 0; i < lives; ++i) {
    const char kind = rand_r(&seed) % 2 == 0 ? 'e' : 'f';
    const std::string request = std::string(1, kind) + std::to_string(i);
    const int fd = Connected(rand_r(&seed) % 2 == 0 ? SOCK_NONBLOCK : 0);
    std::string answer;
    if (Request(fd, request) < 0 || ReceiveAll(fd, request.size(), &answer) < 0) {
      ++lost;
      usleep(1000);
    }
    if (answer != request.substr(0, answer.size())) ++wrong;
    close(fd);
  }
  fprintf(stderr, "%ld lives, %ld lost, %ld wrong\n", lives, lost, wrong);
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string role = argv[1];
  server_port = atoi(argv[2]);
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (role == "server") return RunServer(server_port);
  if (role == "client") return RunClient();
  if (role == "quit") return Request(Connected(), "Q") > 0 ? 0 : 1;
  return role == "storm" && argc > 3 ? RunStorm(atol(argv[3])) : 2;
}
