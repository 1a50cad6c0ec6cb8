// Short connections at random, with clients and servers that are killed at random moments, fork,
// exec, and open their listener anew: no byte is wrong, nobody hangs, no descriptor is left behind.
//
//   lives_storm LIVES [SEED]     prints what has happened; 0 if all of that is so
//
// The library is to be preloaded, with XENLOOP_PARK=on (lives_storm.sh). A life: the request names
// itself, its length and who closes first; the answer is the request with every bit turned.
#include "tests/e2e/lives_storm.h"

#include <dirent.h>

namespace {

// ---- a client ----

enum class Life { kGood, kLost, kWrong, kHang };

bool Until(int fd, short events, int64_t deadline_ms) {
  // With another entry every second time: such a sleep has a bell of its own, of which the other
  // end gets a descriptor. So each client soon has one.
  static unsigned turn = 0;
  pollfd entries[2] = {{fd, events, 0}, {-1, 0, 0}};
  const int64_t left = deadline_ms - NowMs();
  return left > 0 && poll(entries, 1 + ++turn % 2, static_cast<int>(left)) == 1;
}

Life Exchange(int fd, const Request& request, int64_t deadline_ms) {
  std::string all(reinterpret_cast<const char*>(&request), sizeof request);
  for (size_t i = 0; i < request.length; ++i) all += ByteAt(request.seed, i);
  std::string answer;
  size_t sent = 0;
  while (answer.size() < all.size()) {
    if (sent < all.size()) {
      const ssize_t n = send(fd, all.data() + sent, all.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0 && errno != EAGAIN) return Life::kLost;
    }
    char buffer[16384];
    const ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return Life::kLost;
    for (ssize_t i = 0; i < n; ++i) {
      if (answer.size() == all.size() || buffer[i] != static_cast<char>(~all[answer.size()]))
        return Life::kWrong;
      answer += buffer[i];
    }
    const short wanted = static_cast<short>(POLLIN | (sent < all.size() ? POLLOUT : 0));
    if (n < 0 && !Until(fd, wanted, deadline_ms)) return Life::kHang;
  }
  if (request.server_closes == 0) return Life::kGood;
  char more;
  if (!Until(fd, POLLIN, deadline_ms)) return Life::kHang;
  return recv(fd, &more, 1, MSG_DONTWAIT) > 0 ? Life::kWrong : Life::kGood;
}

Life OneLife(Random* random) {
  const int64_t deadline_ms = NowMs() + kPatienceMs;
  const bool waits = random->Below(2) == 0;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK), 0);
  if (fd < 0) Die("socket");
  const sockaddr_in to = Loopback(static_cast<int>(shared->port.load()));
  Life result = Life::kLost;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ||
      (errno == EINPROGRESS && Until(fd, POLLOUT, deadline_ms))) {
    const uint64_t kind = random->Below(1000);
    Request request{static_cast<uint32_t>(random->Below(kind < 20 ? 300000 : 200)),
                    static_cast<uint32_t>(random->Below(2)), random->Next()};
    if (kind == 999) {
      ++shared->forks;
      const pid_t child = fork();
      if (child == 0) _exit(static_cast<int>(Exchange(fd, request, deadline_ms)));
      int status = 0;
      waitpid(child, &status, 0);
      result = WIFEXITED(status) ? static_cast<Life>(WEXITSTATUS(status)) : Life::kLost;
    } else if (kind >= 990) {
      const int copy = dup(fd);
      result = Exchange(copy, request, deadline_ms);
      close(copy);
    } else if (kind >= 980) {
      result = Life::kGood;  // asks nothing
    } else {
      result = Exchange(fd, request, deadline_ms);
    }
  }
  close(fd);
  return result;
}

[[noreturn]] void RunClient(int number, uint64_t seed) {
  Random random(seed);
  for (;;) {
    if (shared->quiet.load() != 0) {
      usleep(50000);
      shared->client_fds[number] = Descriptors();
      continue;
    }
    const Life life = OneLife(&random);
    ++shared->lives;
    if (life == Life::kWrong) ++shared->wrong;
    if (life == Life::kHang) ++shared->hangs;
    if (life == Life::kLost) {
      ++shared->lost;
      usleep(1000);
    }
  }
}

// ---- the one who kills ----

pid_t Start(const char* what, const std::string& number, uint64_t seed) {
  const pid_t child = fork();
  if (child != 0) return child;
  execl("/proc/self/exe", "lives_storm", what, std::to_string(seed).c_str(), number.c_str(),
        nullptr);
  Die("exec");
}
void Kill(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

// All are quiet, and what they hold does not change any more.
void Settle() {
  shared->quiet = 1;
  sleep(4);
}

// What the process has open: the names of the kinds, by number.
std::map<int, std::string> Held(pid_t pid) {
  std::map<int, std::string> held;
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd/";
  DIR* const entries = opendir(folder.c_str());
  if (entries == nullptr) return held;
  while (const dirent* const entry = readdir(entries)) {
    char name[256] = {};
    if (readlink((folder + entry->d_name).c_str(), name, sizeof name - 1) > 0)
      held[atoi(entry->d_name)] = name;
  }
  closedir(entries);
  return held;
}
void TellNew(const char* whose, const std::map<int, std::string>& before,
             const std::map<int, std::string>& now) {
  for (const auto& [fd, name] : now) {
    const auto found = before.find(fd);
    if (found == before.end())
      printf("%s: new %d %s\n", whose, fd, name.c_str());
    else if (found->second != name)
      printf("%s: %d %s, was %s\n", whose, fd, name.c_str(), found->second.c_str());
  }
  for (const auto& [fd, name] : before) {
    if (now.count(fd) == 0) printf("%s: gone %d %s\n", whose, fd, name.c_str());
  }
}

// What is kept for each of those that were killed grows with every round; a pool of the library's
// that fills up does not.
struct Watched {
  const char* whose;
  int count = -1;
  int grown = 0;
  std::map<int, std::string> held{};

  void Look(pid_t pid, int now) {
    const std::map<int, std::string> before = held;
    held = Held(pid);
    if (count >= 0 && now > count) {
      ++grown;
      TellNew(whose, before, held);
    }
    count = now;
  }
  bool Grows() const { return grown == kRounds - 1; }
};

int Storm(uint64_t lives, uint64_t seed) {
  Random random(seed);
  pid_t server = Start("--server", "0", random.Next());
  while (shared->port.load() == 0) usleep(1000);
  pid_t clients[kClients];
  const auto begin = [&](int i) {
    clients[i] = Start("--client", std::to_string(i), random.Next());
  };
  for (int i = 0; i < kClients; ++i) begin(i);
  uint64_t last = 0;
  int64_t moved_ms = NowMs();
  while (shared->lives.load() < lives) {
    usleep(static_cast<useconds_t>(random.Below(200000)));
    if (shared->lives.load() != last) moved_ms = NowMs();
    last = shared->lives.load();
    if (NowMs() - moved_ms > 2 * kPatienceMs) ++shared->hangs;
    if (shared->hangs.load() != 0 || shared->wrong.load() != 0) break;
    ++shared->kills;
    if (random.Below(3) == 0) {
      Kill(server);
      server = Start("--server", "0", random.Next());
    } else {
      const int i = static_cast<int>(random.Below(kClients));
      Kill(clients[i]);
      begin(i);
    }
  }
  // A server that lives through some killed clients, and a client that lives through some servers.
  int leaked = 0;
  shared->few = 1;
  Watched server_holds{"server"};
  Watched client_holds{"client"};
  for (int round = 0; round < kRounds; ++round) {
    shared->quiet = 0;
    for (int i = 1; i < kClients; ++i) {
      if (round != 0) begin(i);
      usleep(300000);
    }
    // None of them is left: one that has not met the server's agent yet would be missing once, and
    // look like a leak the next time.
    for (int i = 1; i < kClients; ++i) Kill(clients[i]);
    Settle();
    server_holds.Look(server, shared->server_fds.load());
    client_holds.Look(clients[0], shared->client_fds[0].load());
    printf("descriptors: server %d, client %d\n", server_holds.count, client_holds.count);
  }
  leaked = (server_holds.Grows() ? 1 : 0) + (client_holds.Grows() ? 1 : 0);
  Kill(clients[0]);
  Kill(server);
  const auto of = [](const std::atomic<uint64_t>& count) {
    return static_cast<unsigned long>(count.load());
  };
  printf(
      "%lu lives, %lu lost, %lu kills, %lu forks, %lu execs, %lu listeners anew: %lu wrong, "
      "%lu hangs, %d leak\n",
      of(shared->lives), of(shared->lost), of(shared->kills), of(shared->forks), of(shared->execs),
      of(shared->reopened), of(shared->wrong), of(shared->hangs), leaked);
  return shared->wrong.load() == 0 && shared->hangs.load() == 0 && leaked == 0 ? 0 : 1;
}

void MapShared(bool first) {
  if (first) {
    const int fd = memfd_create("lives_storm", 0);
    if (fd < 0 || ftruncate(fd, sizeof(Shared)) != 0 || dup2(fd, kSharedFd) < 0) Die("memfd");
    close(fd);
  }
  void* const at = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, kSharedFd, 0);
  if (at == MAP_FAILED) Die("mmap");
  shared = static_cast<Shared*>(at);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty()) return 2;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  signal(SIGPIPE, SIG_IGN);
  MapShared(first[0] != '-');
  if (first == "--server") {
    signal(SIGCHLD, SIG_IGN);
    RunServer(seed);
  }
  if (first == "--client") RunClient(atoi(argv[3]), seed);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  return Storm(strtoull(argv[1], nullptr, 10), seed);
}
