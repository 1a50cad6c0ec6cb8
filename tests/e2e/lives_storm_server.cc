// The server of lives-storm: one process with epoll.
#include "tests/e2e/lives_storm.h"

namespace {

struct Connection {
  std::string in;
  std::string out;
  size_t sent = 0;
  bool closes = false;
};

class Server {
 public:
  explicit Server(uint64_t seed) : random_(seed) {}

  [[noreturn]] void Run() {
    set_ = epoll_create1(EPOLL_CLOEXEC);
    Open();
    for (;;) {
      epoll_event events[16];
      const int n = epoll_wait(set_, events, 16, 50);
      for (int i = 0; i < n; ++i) {
        if (events[i].data.fd == listener_) {
          Accept();
        } else {
          Serve(events[i].data.fd);
        }
      }
      if (shared->quiet.load() != 0 && connections_.empty()) shared->server_fds = Descriptors();
      if (shared->few.load() == 0 && n > 0) Misbehave();
    }
  }

 private:
  void Open() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    sockaddr_in at = Loopback(static_cast<int>(shared->port.load()));
    socklen_t length = sizeof at;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    while (bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) {
      if (errno != EADDRINUSE) Die("bind");
      usleep(1000);
    }
    if (listen(listener_, 100) != 0) Die("listen");
    getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &length);
    shared->port = ntohs(at.sin_port);
    epoll_event event{EPOLLIN, {}};
    event.data.fd = listener_;
    epoll_ctl(set_, EPOLL_CTL_ADD, listener_, &event);
  }

  void Accept() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
      connections_[fd] = Connection{};
      epoll_event event{EPOLLIN, {}};
      event.data.fd = fd;
      epoll_ctl(set_, EPOLL_CTL_ADD, fd, &event);
    }
  }

  void Close(int fd) {
    connections_.erase(fd);
    close(fd);
  }

  void Serve(int fd) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    Connection& connection = found->second;
    char buffer[16384];
    for (;;) {
      const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n > 0) {
        connection.in.append(buffer, static_cast<size_t>(n));
        if (connection.in.size() > 1u << 20) break;
        continue;
      }
      if (n == 0 || errno != EAGAIN) return Close(fd);
      break;
    }
    if (connection.out.empty() && !Answer(&connection)) return Close(fd);
    while (connection.sent < connection.out.size()) {
      const ssize_t n = send(fd, connection.out.data() + connection.sent,
                             connection.out.size() - connection.sent, MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return Close(fd);
      if (n < 0) {
        epoll_event event{EPOLLIN | EPOLLOUT, {}};
        event.data.fd = fd;
        epoll_ctl(set_, EPOLL_CTL_MOD, fd, &event);
        return;
      }
      connection.sent += static_cast<size_t>(n);
    }
    if (connection.closes && !connection.out.empty()) Close(fd);
  }

  // False: what came was never sent.
  bool Answer(Connection* connection) {
    Request request;
    if (connection->in.size() < sizeof request) return true;
    memcpy(&request, connection->in.data(), sizeof request);
    if (request.length > 1u << 19 || connection->in.size() > sizeof request + request.length) {
      ++shared->wrong;
      return false;
    }
    if (connection->in.size() < sizeof request + request.length) return true;
    for (size_t i = 0; i < request.length; ++i) {
      if (connection->in[sizeof request + i] == ByteAt(request.seed, i)) continue;
      ++shared->wrong;
      return false;
    }
    connection->out = connection->in;
    for (char& byte : connection->out) byte = static_cast<char>(~byte);
    connection->closes = request.server_closes != 0;
    return true;
  }

  void Misbehave() {
    const uint64_t what = random_.Below(4000);
    if (what == 0) {
      ++shared->reopened;
      close(listener_);
      Open();
    } else if (what < 3) {
      ++shared->forks;
      if (fork() == 0) {
        usleep(20000);
        _exit(0);
      }
    } else if (what == 3) {
      ++shared->execs;
      execl("/proc/self/exe", "lives_storm", "--server", std::to_string(random_.Next()).c_str(),
            nullptr);
    }
  }

  Random random_;
  int set_ = -1;
  int listener_ = -1;
  std::map<int, Connection> connections_;
};

}  // namespace

void RunServer(uint64_t seed) { Server(seed).Run(); }
