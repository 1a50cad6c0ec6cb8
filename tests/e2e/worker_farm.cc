// Many workers on one listening socket, as servers do it: inherited over fork (pre-fork) or one
// socket a worker (SO_REUSEPORT); and a client with several connections at once that checks every
// answer. An answer is the worker's pid and the request with each byte inverted.
//
//   worker-farm serve prefork|reuseport WORKERS PORT
//   worker-farm serve fork PORT                        a child for each accepted connection
//   worker-farm ask PORT CONNECTIONS REQUESTS          prints answers, wrong answers, workers seen
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/loopback.h"

namespace {

bool ReadFully(int fd, void* to, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = read(fd, static_cast<char*>(to) + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

bool WriteFully(int fd, const void* from, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = write(fd, static_cast<const char*>(from) + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

// One write, or Nagle's algorithm would hold back the second.
bool SendMessage(int fd, uint32_t head, const std::vector<uint8_t>& body) {
  const uint8_t* head_bytes = reinterpret_cast<const uint8_t*>(&head);
  std::vector<uint8_t> message(head_bytes, head_bytes + sizeof(head));
  message.insert(message.end(), body.begin(), body.end());
  return WriteFully(fd, message.data(), message.size());
}

int Listen(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  const sockaddr_in address = Loopback(port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) Die("bind");
  if (listen(fd, 256) != 0) Die("listen");
  return fd;
}

void Answer(int fd) {
  uint32_t length = 0;
  std::vector<uint8_t> body;
  while (ReadFully(fd, &length, sizeof(length))) {
    body.resize(length);
    if (!ReadFully(fd, body.data(), length)) break;
    for (uint8_t& byte : body) byte = static_cast<uint8_t>(~byte);
    if (!SendMessage(fd, static_cast<uint32_t>(getpid()), body)) break;
  }
  close(fd);
}

// A worker leaves from within its signal handler, a legal and common way to end a server.
void ExitOnTermination() {
  struct sigaction action {};
  action.sa_handler = [](int) { _exit(0); };
  sigaction(SIGTERM, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void Work(int listener, bool child_each) {
  ExitOnTermination();
  for (;;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    if (child_each && fork() == 0) {
      close(listener);
      Answer(fd);
      exit(0);
    }
    if (child_each) {
      close(fd);
    } else {
      Answer(fd);
    }
  }
}

int Serve(const std::string& way, int workers, int port) {
  const int shared = way == "reuseport" ? -1 : Listen(port);
  if (way == "fork") {
    signal(SIGCHLD, SIG_IGN);
    Work(shared, true);
  }
  sigset_t termination;
  sigemptyset(&termination);
  sigaddset(&termination, SIGTERM);
  sigprocmask(SIG_BLOCK, &termination, nullptr);
  std::vector<pid_t> children;
  for (int i = 0; i < workers; ++i) {
    const pid_t pid = fork();
    if (pid == 0) Work(shared >= 0 ? shared : Listen(port), false);
    children.push_back(pid);
  }
  int signal_number = 0;
  sigwait(&termination, &signal_number);
  for (const pid_t pid : children) kill(pid, SIGTERM);
  while (wait(nullptr) > 0) {
  }
  return 0;
}

struct Tally {
  std::mutex mutex;
  std::set<uint32_t> workers;
  long answers = 0;
  long wrong = 0;
};

void AskOne(int port, int requests, unsigned seed, Tally* tally) {
  std::mt19937 random(seed);
  long answers = 0, wrong = 0;
  std::set<uint32_t> workers;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = Loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    Die("connect");
  for (int i = 0; i < requests; ++i) {
    const auto length = static_cast<uint32_t>(random() % (i % 10 == 0 ? 100000 : 500));
    std::vector<uint8_t> body(length), answer(length);
    for (uint8_t& byte : body) byte = static_cast<uint8_t>(random());
    uint32_t pid = 0;
    if (!SendMessage(fd, length, body) || !ReadFully(fd, &pid, sizeof(pid)) ||
        !ReadFully(fd, answer.data(), length)) {
      Die("connection lost");
    }
    for (uint8_t& byte : answer) byte = static_cast<uint8_t>(~byte);
    ++answers;
    if (answer != body) ++wrong;
    workers.insert(pid);
  }
  close(fd);
  const std::lock_guard<std::mutex> lock(tally->mutex);
  tally->answers += answers;
  tally->wrong += wrong;
  tally->workers.insert(workers.begin(), workers.end());
}

int Ask(int port, int connections, int requests) {
  Tally tally;
  std::vector<std::thread> threads;
  for (int i = 0; i < connections; ++i) {
    threads.emplace_back(AskOne, port, requests, static_cast<unsigned>(i), &tally);
  }
  for (std::thread& thread : threads) thread.join();
  printf("%ld answers, %ld wrong\n", tally.answers, tally.wrong);
  fprintf(stderr, "%zu workers seen\n", tally.workers.size());
  return tally.wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "", way = argc > 2 ? argv[2] : "";
  if (verb == "serve" && way == "fork" && argc == 4) return Serve(way, 0, atoi(argv[3]));
  if (verb == "serve" && argc == 5) return Serve(way, atoi(argv[3]), atoi(argv[4]));
  if (verb == "ask" && argc == 5) return Ask(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
  fprintf(stderr,
          "usage: worker-farm serve prefork|reuseport WORKERS PORT\n"
          "       worker-farm serve fork PORT\n"
          "       worker-farm ask PORT CONNECTIONS REQUESTS\n");
  return 2;
}
