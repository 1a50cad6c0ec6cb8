// A byte stream that can be verified at any prefix: byte i is a function of the seed and i alone,
// so whoever survives a kill -9 can say whether what it got is exactly what was sent. Plain
// blocking and poll-driven non-blocking sockets; decides nothing about the library and knows
// nothing of it.
//
//   stream-check receive PORT SEED [ACCEPTED]         one connection, until its end
//   stream-check send    PORT SEED BYTES [ACCEPTED]   0 bytes: for ever
//   stream-check both-receive|both-send PORT SEED BYTES    both directions at once, non-blocking
//
// ACCEPTED is a file in which the sender keeps the count of bytes that send() has taken: TCP
// delivers all of them after the sender's death, so the receiver demands them. Exit status: 0 all
// well; 3 the peer went away (a correct prefix); 1 wrong or missing bytes; 2 usage.
//
// STREAM_CHECK_FORK=N: at its Nth call the program forks; the child holds the socket, does nothing
// with it and ends with its parent.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/e2e/loopback.h"

namespace {

constexpr int kPeerGone = 3;
constexpr size_t kLargestTransfer = 200000;

// splitmix64 of the eight-byte block's number: position-addressable and without a period.
uint64_t Block(uint64_t seed, uint64_t number) {
  uint64_t z = seed + (number + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void Fill(uint64_t seed, uint64_t offset, uint8_t* to, size_t length) {
  for (size_t i = 0; i < length;) {
    const uint64_t block = Block(seed, (offset + i) / 8);
    for (unsigned byte = (offset + i) % 8; byte < 8 && i < length; ++byte, ++i) {
      to[i] = static_cast<uint8_t>(block >> (8 * byte));
    }
  }
}

void Verify(uint64_t seed, uint64_t offset, const uint8_t* bytes, size_t length) {
  std::vector<uint8_t> expected(length);
  Fill(seed, offset, expected.data(), length);
  if (memcmp(expected.data(), bytes, length) == 0) return;
  size_t i = 0;
  while (expected[i] == bytes[i]) ++i;
  fprintf(stderr, "stream-check: byte %" PRIu64 " is %02x and should be %02x\n",
          uint64_t{offset + i}, bytes[i], expected[i]);
  exit(1);
}

bool PeerGone(int error) { return error == ECONNRESET || error == EPIPE; }

// Mostly small, sometimes large: both sides of every buffer boundary.
class Sizes {
 public:
  explicit Sizes(uint64_t seed) : engine_(seed) {}
  size_t Next() {
    const unsigned kind = engine_() % 4;
    return 1 + engine_() % (kind == 0   ? 16
                            : kind == 1 ? 1500
                            : kind == 2 ? 20000
                                        : kLargestTransfer);
  }

 private:
  std::mt19937_64 engine_;
};

using Counter = std::atomic<uint64_t>;

Counter* MapCounter(const char* path) {
  const int fd = open(path, O_RDWR | O_CREAT, 0666);
  if (fd < 0 || ftruncate(fd, sizeof(Counter)) != 0) Die(path);
  void* memory = mmap(nullptr, sizeof(Counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) Die("mmap");
  close(fd);
  return static_cast<Counter*>(memory);
}

void MaybeFork() {
  static const char* const when = getenv("STREAM_CHECK_FORK");
  static int calls = when != nullptr ? atoi(when) : 0;
  if (calls == 0 || --calls > 0) return;
  int alive[2];
  if (pipe(alive) != 0) Die("pipe");
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child > 0) {
    close(alive[0]);
    return;
  }
  close(alive[1]);
  char byte;
  while (read(alive[0], &byte, 1) < 0) {
  }
  _exit(0);
}

// PORT, on the loopback interface; or ADDRESS:PORT.
sockaddr_in AddressOf(const std::string& place) {
  const size_t colon = place.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(
      static_cast<uint16_t>(atoi(place.c_str() + (colon == std::string::npos ? 0 : colon + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (colon != std::string::npos)
    inet_pton(AF_INET, place.substr(0, colon).c_str(), &address.sin_addr);
  return address;
}

int Accept(const std::string& place) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const sockaddr_in address = AddressOf(place);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    Die("bind");
  if (listen(listener, 1) != 0) Die("listen");
  const int fd = accept(listener, nullptr, nullptr);
  if (fd < 0) Die("accept");
  close(listener);
  return fd;
}

int Connect(const std::string& place) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = AddressOf(place);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ECONNREFUSED) exit(kPeerGone);  // killed before we came
    Die("connect");
  }
  return fd;
}

int Receive(int fd, uint64_t seed, const Counter* accepted) {
  Sizes sizes(seed ^ 1);
  std::vector<uint8_t> buffer(kLargestTransfer);
  uint64_t received = 0;
  bool reset = false;
  for (;;) {
    MaybeFork();
    const ssize_t n = recv(fd, buffer.data(), sizes.Next(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && !PeerGone(errno)) Die("recv");
    reset = n < 0;
    if (n <= 0) break;
    Verify(seed, received, buffer.data(), static_cast<size_t>(n));
    received += static_cast<uint64_t>(n);
  }
  send(fd, &received, sizeof(received), MSG_NOSIGNAL);
  printf("received %llu\n", static_cast<unsigned long long>(received));
  if (accepted != nullptr && received < accepted->load()) {
    fprintf(stderr, "stream-check: send() had taken %llu bytes, %llu came%s\n",
            static_cast<unsigned long long>(accepted->load()),
            static_cast<unsigned long long>(received), reset ? " before a reset" : "");
    return 1;
  }
  return reset ? kPeerGone : 0;
}

int Send(int fd, uint64_t seed, uint64_t total, Counter* accepted) {
  Sizes sizes(seed ^ 2);
  std::vector<uint8_t> buffer(kLargestTransfer);
  uint64_t sent = 0;
  while (total == 0 || sent < total) {
    size_t length = sizes.Next();
    if (total != 0) length = std::min<uint64_t>(length, total - sent);
    Fill(seed, sent, buffer.data(), length);
    MaybeFork();
    for (size_t done = 0; done < length;) {
      const ssize_t n = send(fd, buffer.data() + done, length - done, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && PeerGone(errno)) return kPeerGone;
      if (n < 0) Die("send");
      done += static_cast<size_t>(n);
      sent += static_cast<uint64_t>(n);
      if (accepted != nullptr) accepted->store(sent);
    }
  }
  shutdown(fd, SHUT_WR);
  uint64_t received = 0;
  if (recv(fd, &received, sizeof(received), MSG_WAITALL) != sizeof(received)) return kPeerGone;
  printf("sent %llu\n", static_cast<unsigned long long>(sent));
  if (received == sent) return 0;
  fprintf(stderr, "stream-check: sent %llu, the peer got %llu\n",
          static_cast<unsigned long long>(sent), static_cast<unsigned long long>(received));
  return 1;
}

int Both(int fd, uint64_t send_seed, uint64_t receive_seed, uint64_t total) {
  Sizes sizes(send_seed);
  std::vector<uint8_t> in(kLargestTransfer), out(kLargestTransfer);
  uint64_t sent = 0, received = 0;
  bool ended = false, closed = false;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  while (!ended || !closed) {
    MaybeFork();
    pollfd watched{fd, static_cast<short>((ended ? 0 : POLLIN) | (closed ? 0 : POLLOUT)), 0};
    if (poll(&watched, 1, -1) < 0 && errno != EINTR) Die("poll");
    if (watched.revents & (POLLIN | POLLHUP | POLLERR) && !ended) {
      const ssize_t n = recv(fd, in.data(), sizes.Next(), 0);
      if (n < 0 && PeerGone(errno)) return kPeerGone;
      if (n < 0 && errno != EAGAIN) Die("recv");
      if (n == 0) ended = true;
      if (n > 0) Verify(receive_seed, received, in.data(), static_cast<size_t>(n));
      if (n > 0) received += static_cast<uint64_t>(n);
    }
    if (watched.revents & POLLOUT && !closed) {
      const size_t length =
          total == 0 ? sizes.Next() : std::min<uint64_t>(sizes.Next(), total - sent);
      Fill(send_seed, sent, out.data(), length);
      const ssize_t n = send(fd, out.data(), length, MSG_NOSIGNAL);
      if (n < 0 && PeerGone(errno)) return kPeerGone;
      if (n < 0 && errno != EAGAIN) Die("send");
      if (n > 0) sent += static_cast<uint64_t>(n);
      closed = total != 0 && sent == total;
      if (closed) shutdown(fd, SHUT_WR);
    }
  }
  printf("sent %llu received %llu\n", static_cast<unsigned long long>(sent),
         static_cast<unsigned long long>(received));
  if (total == 0) return kPeerGone;
  return received == total ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 3 ? argv[1] : "";
  const std::string place = argc > 2 ? argv[2] : "";
  const uint64_t seed = argc > 3 ? strtoull(argv[3], nullptr, 10) : 0;
  const uint64_t bytes = argc > 4 ? strtoull(argv[4], nullptr, 10) : 0;
  if (verb == "receive") {
    return Receive(Accept(place), seed, argc > 4 ? MapCounter(argv[4]) : nullptr);
  }
  if (verb == "send" && argc > 4) {
    return Send(Connect(place), seed, bytes, argc > 5 ? MapCounter(argv[5]) : nullptr);
  }
  if (verb == "both-receive" && argc > 4) return Both(Accept(place), seed, seed + 1, bytes);
  if (verb == "both-send" && argc > 4) return Both(Connect(place), seed + 1, seed, bytes);
  fprintf(stderr,
          "usage: stream-check receive PORT SEED [ACCEPTED]\n"
          "       stream-check send PORT SEED BYTES [ACCEPTED]\n"
          "       stream-check both-receive|both-send PORT SEED BYTES\n"
          "       PORT: of the loopback interface; or ADDRESS:PORT\n");
  return 2;
}
