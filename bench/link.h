// One end of a connection as the workloads see it: a socket or a raw ring, with the same three
// operations, chosen at compile time so that no virtual call is measured. A failing system call
// ends the worker process with a message; the process that started it reports the loss.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "bench/raw_ring.h"

namespace xenloop::bench {

[[noreturn]] inline void Die(const char* what) {
  std::fprintf(stderr, "xenloop-bench worker: ");
  std::perror(what);
  std::exit(1);
}

class SocketLink {
 public:
  // `busy`: waits for what comes by asking again and again. `in_sockmap`: a blocking recv of such a
  // socket may say EAGAIN when it was woken for nothing, which no other socket may.
  explicit SocketLink(int fd, bool busy = false, bool in_sockmap = false)
      : fd_(fd), flags_(busy ? MSG_DONTWAIT : 0), may_say_again_(busy || in_sockmap) {}

  void SendAll(const void* bytes, size_t length) {
    const char* from = static_cast<const char*>(bytes);
    while (length > 0) {
      const ssize_t sent = send(fd_, from, length, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) Die("send");
      from += sent;
      length -= static_cast<size_t>(sent);
    }
  }

  size_t Receive(void* bytes, size_t capacity) {
    for (;;) {
      const ssize_t received = recv(fd_, bytes, capacity, flags_);
      if (received >= 0) return static_cast<size_t>(received);
      if (errno != EINTR && (!may_say_again_ || errno != EAGAIN)) Die("recv");
    }
  }

  void FinishSending() {
    if (shutdown(fd_, SHUT_WR) != 0) Die("shutdown");
  }

 private:
  int fd_;
  int flags_;
  bool may_say_again_;
};

class RingLink {
 public:
  RingLink(RawRingMemory* out, RawRingMemory* in, RawRingWait wait)
      : producer_(out, wait), consumer_(in, wait) {}

  void SendAll(const void* bytes, size_t length) { producer_.SendAll(bytes, length); }
  size_t Receive(void* bytes, size_t capacity) { return consumer_.Receive(bytes, capacity); }
  void FinishSending() { producer_.Finish(); }

 private:
  RawRingProducer producer_;
  RawRingConsumer consumer_;
};

// Exactly `length` bytes, or false if the peer finished before the first of them.
template <typename Link>
bool ReceiveAll(Link& link, void* bytes, size_t length) {
  char* to = static_cast<char*>(bytes);
  size_t done = 0;
  while (done < length) {
    const size_t received = link.Receive(to + done, length - done);
    if (received == 0) {
      if (done == 0) return false;
      errno = ECONNRESET;
      Die("the peer closed within a message");
    }
    done += received;
  }
  return true;
}

}  // namespace xenloop::bench
