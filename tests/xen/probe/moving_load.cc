// Load for the pages about moves: one server, one client, a connection of each kind between them.
// Every byte is a function of its position and is checked where it arrives. Knows nothing of the
// library.
//
//   moving_load serve PORT
//   moving_load client ADDRESS PORT   until SIGTERM; then every account is settled: "all right", or
//                                     what was wrong, and status 1 (2: a connection was reset)
//
// Kinds: b echoes, blocking; e echoes, epoll at both ends; i echoes, then idle; f fills what lies
// between and is read only after the release; h is shut down by the client and sent to by the
// server until then.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kChunk = 16384;
constexpr int kWarm = 200;                 // exchanges: enough to be upgraded
constexpr uint64_t kFullBytes = 8u << 20;  // more than FIFO and TCP hold together
std::atomic<bool> stopping{false}, released{false}, wrong{false};
std::atomic<long> exchanges{0};

uint8_t ByteAt(uint64_t position) { return static_cast<uint8_t>(position * 7 + position / 251); }

void Fill(uint8_t* to, uint64_t position, size_t length) {
  for (size_t i = 0; i < length; ++i) to[i] = ByteAt(position + i);
}

[[noreturn]] void Die(const char* kind, const char* what) {
  const int error = errno;
  printf("%s: %s: %s\n", kind, what, strerror(error));
  fflush(stdout);
  _exit(error == ECONNRESET || error == EPIPE || error == ETIMEDOUT ? 2 : 1);
}

[[noreturn]] void Wrong(const char* kind, uint64_t position) {
  printf("%s: wrong byte near %llu\n", kind, static_cast<unsigned long long>(position));
  fflush(stdout);
  _exit(1);
}

void Check(const char* kind, const uint8_t* bytes, uint64_t position, size_t length) {
  for (size_t i = 0; i < length; ++i) {
    if (bytes[i] != ByteAt(position + i)) Wrong(kind, position + i);
  }
}

void SendAll(const char* kind, int fd, const uint8_t* bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = send(fd, bytes + done, length - done, MSG_NOSIGNAL);
    if (n <= 0) Die(kind, "send");
    done += static_cast<size_t>(n);
  }
}

// False: the stream has ended before the first byte.
bool ReceiveAll(const char* kind, int fd, uint8_t* bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = recv(fd, bytes + done, length - done, 0);
    if (n == 0 && done == 0) return false;
    if (n == 0) errno = 0;
    if (n <= 0) Die(kind, "receive");
    done += static_cast<size_t>(n);
  }
  return true;
}

// One connection by epoll: keeps a window in flight (client), or gives back what comes (server).
void ByEpoll(int fd, bool client) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  const int set = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
  constexpr uint64_t kWindow = 8 * kChunk;
  uint64_t sent = 0, received = 0;
  uint8_t buffer[kChunk];
  for (;;) {
    for (bool moved = true; moved;) {
      moved = false;
      const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n == 0) return;
      if (n < 0 && errno != EAGAIN) Die("e", "receive");
      if (n > 0) {
        Check("e", buffer, received, static_cast<size_t>(n));
        received += static_cast<uint64_t>(n);
        moved = true;
      }
      const uint64_t most = client ? (stopping ? sent : received + kWindow) : received;
      if (sent < most) {
        const size_t length = most - sent < kChunk ? most - sent : kChunk;
        Fill(buffer, sent, length);
        const ssize_t out = send(fd, buffer, length, MSG_NOSIGNAL);
        if (out < 0 && errno != EAGAIN) Die("e", "send");
        if (out > 0) sent += static_cast<uint64_t>(out), moved = true;
      }
      if (client) usleep(500);
    }
    if (client && stopping && received == sent) return;
    epoll_wait(set, &event, 1, 200);
  }
}

void Serve(int fd) {
  uint8_t kind = 0;
  if (!ReceiveAll("serve", fd, &kind, 1)) return;
  const char name[2] = {static_cast<char>(kind), 0};
  std::vector<uint8_t> buffer(kChunk);
  if (kind == 'e') {
    ByEpoll(fd, false);
  } else if (kind == 'r') {
    released = true;
    SendAll(name, fd, &kind, 1);
  } else {
    const int echoes = kind == 'b' ? 1 << 30 : kWarm + (kind == 'i' ? kWarm : 0);
    const size_t length = kind == 'b' ? kChunk : 64;
    for (int i = 0; i < echoes && ReceiveAll(name, fd, buffer.data(), length); ++i)
      SendAll(name, fd, buffer.data(), length);
    if (kind == 'f') {
      while (!released) usleep(20000);
      for (uint64_t at = 0; at < kFullBytes; at += kChunk) {
        if (!ReceiveAll(name, fd, buffer.data(), kChunk)) Wrong(name, at);
        Check(name, buffer.data(), at, kChunk);
      }
      SendAll(name, fd, &kind, 1);
    } else if (kind == 'h') {
      for (uint64_t at = 0; !released; at += kChunk, usleep(3000)) {
        Fill(buffer.data(), at, kChunk);
        SendAll(name, fd, buffer.data(), kChunk);
      }
    }
  }
  close(fd);
}

int ConnectTo(const char* address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address, &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Die("client", "connect");
  return fd;
}

void Exchange(const char* kind, int fd, uint64_t* position, size_t length) {
  uint8_t buffer[kChunk];
  Fill(buffer, *position, length);
  SendAll(kind, fd, buffer, length);
  errno = 0;
  if (!ReceiveAll(kind, fd, buffer, length)) Die(kind, "the end of the stream");
  Check(kind, buffer, *position, length);
  *position += length;
  ++exchanges;
}

void Client(const char* kind, int fd) {
  SendAll(kind, fd, reinterpret_cast<const uint8_t*>(kind), 1);
  if (*kind == 'e') return ByEpoll(fd, true);
  uint64_t position = 0;
  std::vector<uint8_t> buffer(kChunk);
  if (*kind == 'b') {
    while (!stopping) Exchange(kind, fd, &position, kChunk), usleep(1000);
    return;
  }
  for (int i = 0; i < kWarm; ++i) Exchange(kind, fd, &position, 64), usleep(5000);
  if (*kind == 'i') {
    while (!stopping) usleep(50000);
    for (int i = 0; i < kWarm; ++i) Exchange(kind, fd, &position, 64);
  } else if (*kind == 'f') {
    for (uint64_t at = 0; at < kFullBytes; at += kChunk) {
      Fill(buffer.data(), at, kChunk);
      SendAll(kind, fd, buffer.data(), kChunk);
    }
    if (!ReceiveAll(kind, fd, buffer.data(), 1)) Wrong(kind, kFullBytes);
  } else {
    shutdown(fd, SHUT_WR);
    for (uint64_t at = 0; ReceiveAll(kind, fd, buffer.data(), kChunk); at += kChunk)
      Check(kind, buffer.data(), at, kChunk);
  }
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGTERM, [](int) { stopping = true; });
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_port = htons(static_cast<uint16_t>(atoi(argv[2])));
    if (bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof here) != 0 ||
        listen(listener, 64) != 0)
      Die("serve", "listen");
    for (;;) {
      const int fd = accept(listener, nullptr, nullptr);
      if (fd >= 0) std::thread(Serve, fd).detach();
    }
  }
  if (argc != 4 || strcmp(argv[1], "client") != 0) return 64;
  std::vector<std::thread> threads;
  for (const char* kind : {"b", "b", "e", "i", "f", "h"})
    threads.emplace_back(Client, kind, ConnectTo(argv[2], atoi(argv[3])));
  while (!stopping) usleep(50000);
  const int release = ConnectTo(argv[2], atoi(argv[3]));
  uint8_t word = 'r';
  SendAll("r", release, &word, 1);
  ReceiveAll("r", release, &word, 1);
  for (std::thread& thread : threads) thread.join();
  printf("all right: %ld exchanges\n", exchanges.load());
  return 0;
}
