// The workload "crowd": many connections between two processes, all open at once. In each round the
// client sends a message of its own size and contents on every connection, then reads and checks
// every answer; the server is one thread on epoll. Afterwards both wait in epoll_wait with
// everything open, so that the starter can look at what an idle connection costs.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "bench/link.h"
#include "bench/worker.h"

namespace xenloop::bench {
namespace {

constexpr size_t kLongestMessage = 4096;

void Watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Die("epoll_ctl");
}

std::vector<char> MessageFor(int connection, int round, size_t longest) {
  std::vector<char> message(1 + static_cast<size_t>(connection * 7 + round * 131) % longest);
  for (size_t i = 0; i < message.size(); ++i) {
    message[i] = static_cast<char>(static_cast<size_t>(connection * 31 + round * 17) + i * 3);
  }
  return message;
}

// Reads as many bytes as were sent and compares; 0 good, 1 wrong bytes, -1 connection lost.
int CheckAnswer(int fd, const std::vector<char>& expected) {
  char buffer[kLongestMessage];
  size_t done = 0;
  while (done < expected.size()) {
    const ssize_t received = recv(fd, buffer + done, expected.size() - done, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return -1;
    done += static_cast<size_t>(received);
  }
  return std::memcmp(buffer, expected.data(), expected.size()) == 0 ? 0 : 1;
}

// Echoes what is there; false when the connection has ended.
bool Echo(int fd) {
  char buffer[kLongestMessage];
  const ssize_t received = recv(fd, buffer, sizeof(buffer), 0);
  if (received < 0) return errno == EAGAIN || errno == EINTR;
  if (received == 0) return false;
  // At most one short message is in flight a connection: the kernel or the FIFO has room for it.
  return send(fd, buffer, static_cast<size_t>(received), MSG_NOSIGNAL) == received;
}

}  // namespace

void ServeCrowd(const WorkerConfig& config) {
  const int listener = Listen(config);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) Die("epoll_create1");
  Watch(epoll, listener);
  int ended = 0;
  while (ended < config.connections) {
    epoll_event events[256];
    const int ready = epoll_wait(epoll, events, 256, -1);
    if (ready < 0 && errno != EINTR) Die("epoll_wait");
    for (int i = 0; i < ready; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int connection = Accept(listener, SOCK_NONBLOCK);
        if (connection < 0) continue;
        Watch(epoll, connection);
      } else if (!Echo(fd)) {
        close(fd);
        ++ended;
      }
    }
  }
  close(listener);
  close(epoll);
}

nlohmann::json MeasureCrowd(const WorkerConfig& config) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) Die("epoll_create1");
  SayPhase("started");
  std::vector<int> fds;
  fds.reserve(static_cast<size_t>(config.connections));
  for (int i = 0; i < config.connections; ++i) fds.push_back(Connect(config));
  const int64_t start = NowNs();
  const size_t longest = std::min(config.message_bytes, kLongestMessage);
  int lost = 0;
  int wrong = 0;
  for (int round = 0; round < config.rounds; ++round) {
    for (int i = 0; i < config.connections; ++i) {
      const std::vector<char> message = MessageFor(i, round, longest);
      int& fd = fds[static_cast<size_t>(i)];
      if (fd >= 0 && send(fd, message.data(), message.size(), MSG_NOSIGNAL) !=
                         static_cast<ssize_t>(message.size())) {
        ++lost;
        close(fd);
        fd = -1;
      }
    }
    for (int i = 0; i < config.connections; ++i) {
      int& fd = fds[static_cast<size_t>(i)];
      if (fd < 0) continue;
      const int checked = CheckAnswer(fd, MessageFor(i, round, longest));
      if (checked > 0) ++wrong;
      if (checked < 0) {
        ++lost;
        close(fd);
        fd = -1;
      }
    }
  }
  const double seconds = static_cast<double>(NowNs() - start) / 1e9;
  for (const int fd : fds) {
    if (fd >= 0) Watch(epoll, fd);
  }
  Watch(epoll, STDIN_FILENO);
  Say({{"phase", "used"}});
  for (;;) {
    epoll_event event{};
    const int ready = epoll_wait(epoll, &event, 1, -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) Die("epoll_wait");
    if (event.data.fd == STDIN_FILENO) break;
    errno = ECONNRESET;
    Die("an idle connection became readable");
  }
  for (const int fd : fds) {
    if (fd >= 0) close(fd);
  }
  close(epoll);
  const double exchanges = static_cast<double>(config.connections) * config.rounds;
  return {{"per_second", exchanges / seconds},
          {"connections", config.connections},
          {"lost", lost},
          {"wrong", wrong}};
}

}  // namespace xenloop::bench
