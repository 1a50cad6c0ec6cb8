// What the processes of lives-storm share, and its server.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "tests/e2e/loopback.h"

inline constexpr int kClients = 4;
inline constexpr int kPatienceMs = 20000;  // then it is a hang
inline constexpr int kSharedFd = 199;
inline constexpr int kRounds = 4;  // of killed clients, in which descriptors are counted

// Of all processes of a run.
struct Shared {
  std::atomic<uint32_t> port;
  std::atomic<uint64_t> lives, lost, wrong, hangs, forks, execs, reopened, kills;
  std::atomic<uint32_t> quiet;  // clients pause, and count what they have
  std::atomic<uint32_t> few;    // the server neither forks nor execs: descriptors are compared
  std::atomic<int32_t> server_fds;
  std::atomic<int32_t> client_fds[kClients];
};
inline Shared* shared;

struct Request {
  uint32_t length;  // of what follows this header
  uint32_t server_closes;
  uint64_t seed;
};

inline uint64_t Mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t n) { return Next() % n; }
  uint64_t Next() { return Mixed(state_ += 0x632be59bd9b4e019); }

 private:
  uint64_t state_;
};
inline char ByteAt(uint64_t seed, size_t i) {
  return static_cast<char>(Mixed(seed + i / 8) >> i % 8 * 8);
}

inline int Descriptors() {
  int n = 0;
  for (int fd = 0; fd < 65536; ++fd) n += fcntl(fd, F_GETFD) >= 0 || errno != EBADF ? 1 : 0;
  return n;
}
inline int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

[[noreturn]] void RunServer(uint64_t seed);
