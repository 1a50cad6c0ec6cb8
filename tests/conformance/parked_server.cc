// The server obeys in a process of its own, one order after the other; see parked_server.h.
#include "tests/conformance/parked_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/inline_call.h"
#include "tests/conformance/mode.h"

namespace conformance {
namespace {

sockaddr_in NameOf(const char* address, int port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address, &name.sin_addr);
  return name;
}

// So many bytes, or until the end; -1, and errno ETIME if nothing comes for 5 s. (A time-out as an
// option of the socket would keep it from being parked.)
ssize_t ReceiveSoon(int fd, char* to, size_t most) {
  size_t received = 0;
  while (received < most) {
    pollfd entry{fd, POLLIN, 0};
    if (poll(&entry, 1, 5000) != 1) {
      errno = ETIME;
      return -1;
    }
    const ssize_t n = recv(fd, to + received, most - received, 0);
    if (n < 0) return n;
    if (n == 0) break;
    received += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(received);
}

}  // namespace

class ParkedServer::Program {
 public:
  Program(const ServerPlan& plan, Shared* shared, int control)
      : plan_(plan), shared_(shared), control_(control) {}

  [[noreturn]] void Run() {
    alarm(100);
    signal(SIGCHLD, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit_);
    if (!Open()) _exit(3);
    Reply(plan_.port);
    if (plan_.waits == WaitsIn::kAccept) {
      std::thread([this] {
        for (;;) Serve(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
      }).detach();
    }
    for (;;) Turn();
  }

 private:
  bool Open() {
    const bool blocks = plan_.waits == WaitsIn::kAccept || plan_.waits == WaitsIn::kPollBlocking;
    const int on = 1;
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocks ? 0 : SOCK_NONBLOCK), 0);
    sockaddr_in name = NameOf(plan_.address, plan_.port);
    socklen_t length = sizeof name;
    if (plan_.also_exact) setsockopt(listener_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (plan_.reuse) setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
        listen(listener_, plan_.backlog) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&name), &length) != 0)
      return false;
    plan_.port = ntohs(name.sin_port);
    if (plan_.waits == WaitsIn::kEdges) {
      set_ = epoll_create1(EPOLL_CLOEXEC);
      epoll_event event{EPOLLIN | EPOLLET, {}};
      epoll_ctl(set_, EPOLL_CTL_ADD, listener_, &event);
      event.events = EPOLLIN;
      epoll_ctl(set_, EPOLL_CTL_ADD, control_, &event);
    }
    if (!plan_.also_exact) return true;
    // Both of one group, but only until they have their names.
    const int off = 0;
    const linger some{1, 5};
    exact_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    name = NameOf("127.0.0.1", plan_.port);
    setsockopt(exact_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(exact_, SOL_SOCKET, SO_LINGER, &some, sizeof some);
    const bool both = bind(exact_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0 &&
                      listen(exact_, plan_.backlog) == 0;
    setsockopt(exact_, SOL_SOCKET, SO_REUSEPORT, &off, sizeof off);
    setsockopt(listener_, SOL_SOCKET, SO_REUSEPORT, &off, sizeof off);
    return both;
  }

  void Turn() {
    pollfd entries[3] = {{control_, POLLIN, 0}, {listener_, POLLIN, 0}, {exact_, POLLIN, 0}};
    if (plan_.waits == WaitsIn::kEdges) {
      epoll_event event;
      epoll_wait(set_, &event, 1, -1);
      entries[0].revents = 0;
      poll(entries, 1, 0);
    } else if (plan_.waits == WaitsIn::kInlinePoll) {
      InlineCall(SYS_ppoll, entries, 3, 0, 0, 0);
    } else {
      poll(entries, plan_.waits == WaitsIn::kAccept ? 1 : 3, -1);
    }
    if (entries[0].revents != 0) return Obey();
    if (plan_.waits == WaitsIn::kAccept) return;
    if (plan_.waits == WaitsIn::kPollBlocking) {
      Serve(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
      return;
    }
    while (Serve(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC))) {
    }
    while (exact_ >= 0 && Serve(accept4(exact_, nullptr, nullptr, SOCK_CLOEXEC))) {
    }
  }

  char Note(char id) {
    const unsigned at = shared_->count.load();
    if (at < sizeof shared_->ids) shared_->ids[at] = id;
    shared_->count.store(at + 1);
    return id;
  }

  // The id; 0: there was no connection.
  char Serve(int fd) {
    if (fd < 0) return 0;
    char request[2];
    if (ReceiveSoon(fd, request, 2) != 2) {
      close(fd);
      return Note('-');
    }
    Note(request[0]);
    if (request[1] != 'n') send(fd, request, 2, MSG_NOSIGNAL);
    char more;
    if (request[1] == 'e') ReceiveSoon(fd, &more, 1);
    close(fd);
    return request[0];
  }

  void Obey() {
    for (bool paused = false;;) {
      int message[2];
      if (recv(control_, message, sizeof message, 0) != sizeof message) _exit(0);
      const auto order = static_cast<Order>(message[0]);
      if (order == Order::kGoOn) break;
      paused = paused || order == Order::kPause;
      Reply(Do(order, message[1]));
      if (!paused) return;
    }
    Reply(0);
    if (plan_.waits != WaitsIn::kEdges) return;
    while (Serve(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC))) {
    }
  }

  void Reply(int value) { send(control_, &value, sizeof value, MSG_NOSIGNAL); }

  int Do(Order order, int value) {
    switch (order) {
      case Order::kAccept:
      case Order::kBadName: {
        socklen_t length = sizeof(sockaddr_in);
        auto* const nowhere = reinterpret_cast<sockaddr*>(8);
        const bool bad = order == Order::kBadName;
        const int fd =
            accept4(listener_, bad ? nowhere : nullptr, bad ? &length : nullptr, SOCK_CLOEXEC);
        return fd < 0 ? -errno : Serve(fd);
      }
      case Order::kLimit: {
        rlimit limit = limit_;
        if (value != 0) limit.rlim_cur = static_cast<rlim_t>(value);
        return setrlimit(RLIMIT_NOFILE, &limit);
      }
      case Order::kFull:
        for (const int fd : fill_) close(fd);
        fill_.clear();
        for (int fd = 0; value != 0 && (fd = dup(control_)) >= 0;) fill_.push_back(fd);
        return static_cast<int>(fill_.size());
      case Order::kBlocking:
        return fcntl(listener_, F_SETFL, value != 0 ? 0 : O_NONBLOCK);
      case Order::kReopen:
        close(listener_);
        if (exact_ >= 0) close(exact_);
        return Open() ? 0 : -1;
      case Order::kFork:
        return Fork(value, false);
      case Order::kForkAccepts:
        return Fork(value, true);
      case Order::kInline:
        plan_.waits = WaitsIn::kInlinePoll;
        return 0;
      default:
        return 0;
    }
  }

  int Fork(int ms, bool accepts) {
    const pid_t child = fork();
    if (child != 0) {
      int answer = 0;
      if (accepts) {
        while (kill(child, 0) == 0) usleep(1000);
        answer = static_cast<int>(shared_->count.load());
      }
      return answer;
    }
    if (!accepts) {
      usleep(static_cast<useconds_t>(ms) * 1000);
      _exit(0);
    }
    pollfd entry{listener_, POLLIN, 0};
    while (poll(&entry, 1, ms) > 0) Serve(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
    _exit(0);
  }

  ServerPlan plan_;
  Shared* const shared_;
  const int control_;
  int listener_ = -1;
  int exact_ = -1;
  int set_ = -1;
  rlimit limit_{};
  std::vector<int> fill_;
};

ParkedServer::ParkedServer(const ServerPlan& plan)
    : shared_(static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
  int both[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, both) != 0) abort();
  control_ = both[0];
  pid_ = fork();
  if (pid_ == 0) {
    close(both[0]);
    Program(plan, shared_, both[1]).Run();
  }
  close(both[1]);
  const timeval limit{10, 0};
  setsockopt(control_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  recv(control_, &port_, sizeof port_, 0);
}

ParkedServer::~ParkedServer() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(control_);
  munmap(shared_, sizeof(Shared));
}

int ParkedServer::Tell(Order order, int value) {
  const int message[2] = {static_cast<int>(order), value};
  int answer = 0;
  if (send(control_, message, sizeof message, MSG_NOSIGNAL) != sizeof message ||
      recv(control_, &answer, sizeof answer, 0) != sizeof answer)
    return -ETIME;
  return answer;
}

std::string ParkedServer::Came() const { return std::string(shared_->ids, shared_->count.load()); }
void ParkedServer::Forget() { shared_->count.store(0); }

std::string ParkedServer::AwaitCame(size_t count) const {
  for (const Stopwatch watch; Came().size() < count && watch.ElapsedMs() < kSoonMs;) usleep(1000);
  return Came();
}

int ConnectTo(int port, const char* address, int flags) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  const sockaddr_in name = NameOf(address, port);
  if (fd < 0) return fd;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ||
      errno == EINPROGRESS)
    return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

bool Ask(int fd, char id, char kind) {
  const char request[2] = {id, kind};
  return send(fd, request, 2, MSG_NOSIGNAL) == 2;
}

bool Answered(int fd, char id, char kind) {
  char answer[3] = {};
  if (kind == 'n') return ReceiveSoon(fd, answer, 1) == 0;
  if (ReceiveSoon(fd, answer, 2) != 2 || answer[0] != id || answer[1] != kind) return false;
  return kind != 'f' || ReceiveSoon(fd, answer, 1) == 0;
}

bool OneLife(int port, char id, char kind, const char* address) {
  const FileDescriptor fd(ConnectTo(port, address));
  return fd.get() >= 0 && Ask(fd.get(), id, kind) && Answered(fd.get(), id, kind);
}

bool WarmUp(int port, const char* address) {
  const Stopwatch watch;
  for (int i = 0; watch.ElapsedMs() < 5000; ++i) {
    const FileDescriptor fd(ConnectTo(port, address));
    const bool parked = fd.get() >= 0 && IsParked(fd.get());
    if (fd.get() < 0 || !Ask(fd.get(), 'w', 'e') || !Answered(fd.get(), 'w', 'e')) return false;
    if (CurrentMode() == Mode::kParked ? parked : i == 12) return true;
    usleep(1000);
  }
  return false;
}

bool IsParked(int fd) {
  constexpr int kLife = 4;
  return CurrentMode() == Mode::kParked && Routes(fd) == (kSendsByFifo | kReceivesFromFifo | kLife);
}

}  // namespace conformance
