// A client and a server of short connections, which write down what every call of theirs gives, but
// for port numbers: short_lives.sh compares that with and without the library. One character at the
// beginning of a request says what the server is to do; one line of the client's is one scenario.
//
//   short_lives server PORT          one process with epoll, until a request says Q
//   short_lives client PORT          all scenarios, each after some plain lives
//   short_lives storm PORT LIVES     random ones, with a checksum of every byte
#include "tests/e2e/short_lives.h"

namespace {

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
void ShutDownBoth() {
  const int fd = Connected();
  Said("request", Request(fd, "n shut"));
  Said("shutdown", shutdown(fd, SHUT_RDWR));
  char byte;
  Await(fd, POLLIN | POLLHUP);
  Said("the end", recv(fd, &byte, 1, 0));
  Say("  error %d", Option(fd, SOL_SOCKET, SO_ERROR));
  Said("send", send(fd, "x", 1, MSG_NOSIGNAL));
  Said("close", close(fd));
}
// Reset by the server: told once, by an error or by SO_ERROR.
void ResetIsTold(bool by_option) {
  const int fd = Connected();
  Said("request", Request(fd, "l reset"));
  Await(fd, POLLIN | POLLHUP | POLLERR);
  if (by_option) Say("  error %d", Option(fd, SOL_SOCKET, SO_ERROR));
  char byte;
  Said("receive", recv(fd, &byte, 1, 0));
  Say("  error %d", Option(fd, SOL_SOCKET, SO_ERROR));
  Said("receive", recv(fd, &byte, 1, 0));
  Said("send", send(fd, "x", 1, MSG_NOSIGNAL));
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
    {"shut down, both at once", ShutDownBoth},
    {"reset, told by a call", [] { ResetIsTold(false); }},
    {"reset, told by SO_ERROR", [] { ResetIsTold(true); }},
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
