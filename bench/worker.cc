// Start of a worker process: pinning, sockets, and the lines it speaks with the process that
// started it. What is measured is in worker_pair.cc, worker_connect.cc, worker_crowd.cc and
// worker_moving.cc.
#include "bench/worker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "bench/link.h"

namespace xenloop::bench {
namespace {

sockaddr_un UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    Die(path.c_str());
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

sockaddr_in TcpAddress(const WorkerConfig& config) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!config.host.empty() && inet_pton(AF_INET, config.host.c_str(), &address.sin_addr) != 1) {
    errno = EINVAL;
    Die(config.host.c_str());
  }
  address.sin_port = htons(static_cast<uint16_t>(config.port));
  return address;
}

// On UNIX sockets it fails, which changes nothing.
void SendWithoutDelay(int fd) {
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

}  // namespace

int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

void Say(const nlohmann::json& line) {
  const std::string text = line.dump() + "\n";
  if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    Die("standard output");
  }
}

void SayPhase(const char* name) {
  Say({{"phase", name}});
  char byte = 0;
  while (byte != '\n') {
    if (read(STDIN_FILENO, &byte, 1) != 1) Die("standard input");
  }
}

int Listen(const WorkerConfig& config) {
  const bool is_unix = config.carrier == "unix";
  const int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  int port = 0;
  if (is_unix) {
    const sockaddr_un address = UnixAddress(config.path);
    unlink(config.path.c_str());
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) Die("bind");
  } else {
    sockaddr_in address = TcpAddress(config);
    const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    socklen_t length = sizeof(address);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) Die("bind");
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) Die("getsockname");
    port = ntohs(address.sin_port);
  }
  if (listen(fd, SOMAXCONN) != 0) Die("listen");
  Say({{"ready", port}});
  return fd;
}

int Accept(int listener, int flags) {
  const int fd = accept4(listener, nullptr, nullptr, flags | SOCK_CLOEXEC);
  if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return -1;
  if (fd < 0) Die("accept");
  SendWithoutDelay(fd);
  return fd;
}

int Connect(const WorkerConfig& config) {
  const bool is_unix = config.carrier == "unix";
  const int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  int failed = 0;
  if (is_unix) {
    const sockaddr_un address = UnixAddress(config.path);
    failed = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } else {
    const sockaddr_in address = TcpAddress(config);
    failed = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  if (failed != 0) Die("connect");
  SendWithoutDelay(fd);
  return fd;
}

int WorkerMain(const std::string& text) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const WorkerConfig config = nlohmann::json::parse(text).get<WorkerConfig>();
  if (config.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<unsigned>(config.cpu), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) Die("sched_setaffinity");
  }
  const bool crowd = config.work == "crowd";
  const bool connects = config.work == "connect";
  const bool moving = config.work.rfind("moving-", 0) == 0;
  const bool datagrams = config.work.rfind("udp-", 0) == 0;
  if (config.server) {
    if (datagrams) {
      ServeDatagrams(config);
    } else if (crowd) {
      ServeCrowd(config);
    } else if (connects) {
      ServeConnects(config);
    } else if (moving) {
      ServeMoving(config);
    } else {
      ServePair(config);
    }
  } else {
    Say({{"result", crowd       ? MeasureCrowd(config)
                    : connects  ? MeasureConnects(config)
                    : moving    ? MeasureMoving(config)
                    : datagrams ? MeasureDatagrams(config)
                                : MeasurePair(config)}});
  }
  return 0;
}

}  // namespace xenloop::bench
