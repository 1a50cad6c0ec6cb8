// The client requests the upgrade, the server only takes part in it. In mode local either end fails
// if it is not on FIFOs when the transfer is over.

#include "tests/conformance/two_process.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/peer.h"
#include "tests/conformance/transfer.h"

namespace conformance {
namespace {

std::string Argument(int argc, char** argv, const char* name, const char* otherwise) {
  const std::string prefix = std::string("--") + name + "=";
  for (int i = 1; i < argc; ++i) {
    if (strncmp(argv[i], prefix.c_str(), prefix.size()) == 0) return argv[i] + prefix.size();
  }
  return otherwise;
}

// --seconds: more of them, on a slower machine.
void LimitTime(int argc, char** argv) {
  alarm(static_cast<unsigned>(atoi(Argument(argc, argv, "seconds", "60").c_str())));
}

int Fail(const char* role, const char* what) {
  printf("%s: FAILED: %s (%s)\n", role, what, strerrorname_np(errno));
  return 1;
}

FileDescriptor Serve(const addrinfo& address) {
  const FileDescriptor listener(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener.get(), address.ai_addr, address.ai_addrlen) != 0) return FileDescriptor();
  if (listen(listener.get(), 1) != 0) return FileDescriptor();
  printf("server: listening\n");
  fflush(stdout);
  return FileDescriptor(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// The server may start later than the client: tries until it answers.
FileDescriptor Connect(const addrinfo& address) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    FileDescriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return fd;
    if (errno != ECONNREFUSED) break;
    poll(nullptr, 0, 50);
  }
  return FileDescriptor();
}

// The program after an exec: goes on with a connection of the former one, whose peer echoes. In
// mode local it must be on FIFOs again before the last half, unless the former program shares it.
int Inherit(int fd, size_t from, size_t bytes, bool shared) {
  ByteStream sent(kSeedToPeer);
  ByteStream received(kSeedFromPeer);
  sent.Advance(from);
  received.Advance(from);
  const auto echoes = [&](size_t count) {
    for (size_t done = 0; done < count; done += 10) {
      if (SendBytes(fd, &sent, 10).bytes != 10 || ReceiveBytes(fd, &received, 10).bytes != 10)
        return false;
      MarkedPoint(fd);
    }
    return true;
  };
  if (!echoes(bytes / 2)) return Fail("heir", "bytes differ or end early");
  if (UpgradeIfWanted(fd) == (shared && CurrentMode() == Mode::kLocal))
    return Fail("heir", shared ? "upgraded what is shared" : "no upgrade");
  if (!echoes(bytes / 2)) return Fail("heir", "bytes differ or end early");
  if (CurrentMode() == Mode::kLocal && !shared && Routes(fd) != (kSendsByFifo | kReceivesFromFifo))
    return Fail("heir", "not on FIFOs");
  return 0;
}

// The program that gets an epoll set: what it says has the data of who has filled it, also where
// nobody is left who could translate.
int Wait(int fd, size_t from, int set, uint64_t data) {
  ByteStream sent(kSeedToPeer);
  ByteStream received(kSeedFromPeer);
  sent.Advance(from);
  received.Advance(from);
  for (int i = 0; i < 3; ++i) {
    if (SendBytes(fd, &sent, 10).bytes != 10) return Fail("waiter", "send");
    epoll_event events[4];
    const int count = epoll_wait(set, events, 4, kSoonMs);
    if (count != 1 || events[0].data.u64 != data || (events[0].events & EPOLLIN) == 0)
      return Fail("waiter", "not the event that the socket has");
    if (ReceiveBytes(fd, &received, 10).bytes != 10) return Fail("waiter", "receive");
  }
  return 0;
}

// A program that waits in an epoll set which it has inherited, and whose first thread has ended:
// what /proc shows of a process by its number is that thread's, and it has no descriptors any more.
int WaitWithoutFirstThread(int set) {
  std::thread([set] {
    epoll_event event;
    _exit(epoll_wait(set, &event, 1, 2 * kSoonMs) == 1 ? 0 : 1);
  }).detach();
  pthread_exit(nullptr);
}

}  // namespace

int RunRole(int argc, char** argv) {
  const std::string role = Argument(argc, argv, "role", "");
  const std::string host = Argument(argc, argv, "address", "127.0.0.1");
  const std::string port = Argument(argc, argv, "port", "5999");
  const size_t bytes = strtoul(Argument(argc, argv, "bytes", "20000000").c_str(), nullptr, 10);
  if (role == "heir") {
    LimitTime(argc, argv);
    const int channel = atoi(Argument(argc, argv, "channel", "-1").c_str());
    const int fd =
        channel >= 0 ? ReceiveDescriptor(channel) : atoi(Argument(argc, argv, "fd", "-1").c_str());
    return Inherit(fd, strtoul(Argument(argc, argv, "from", "0").c_str(), nullptr, 10), bytes,
                   Argument(argc, argv, "shared", "") == "1");
  }
  if (role == "waiter") {
    LimitTime(argc, argv);
    return Wait(atoi(Argument(argc, argv, "fd", "-1").c_str()),
                strtoul(Argument(argc, argv, "from", "0").c_str(), nullptr, 10),
                atoi(Argument(argc, argv, "set", "-1").c_str()),
                strtoul(Argument(argc, argv, "data", "0").c_str(), nullptr, 10));
  }
  if (role == "keeper") {
    LimitTime(argc, argv);
    return WaitWithoutFirstThread(atoi(Argument(argc, argv, "set", "-1").c_str()));
  }
  const bool server = role == "server";
  if (!server && role != "client") {
    fprintf(stderr, "usage: %s %s\n", argv[0], kRoleUsage);
    return 2;
  }
  const char* name = server ? "server" : "client";
  LimitTime(argc, argv);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* address = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &address) != 0) {
    return Fail(name, "not an address and a port");
  }
  const FileDescriptor fd = server ? Serve(*address) : Connect(*address);
  freeaddrinfo(address);
  if (fd.get() < 0) return Fail(name, "no connection");
  if (!server && !UpgradeIfWanted(fd.get())) return Fail(name, "no upgrade");

  ByteStream sent(server ? kSeedFromPeer : kSeedToPeer);
  ByteStream received(server ? kSeedToPeer : kSeedFromPeer);
  const Transferred result = ExchangeBytes(fd.get(), &sent, &received, bytes, {50000, 50});
  errno = result.error;
  if (result.bytes != bytes || result.error != 0)
    return Fail(name, "the bytes differ or end early");
  if (CurrentMode() == Mode::kLocal) {
    if (Routes(fd.get()) != (kSendsByFifo | kReceivesFromFifo)) return Fail(name, "not on FIFOs");
    printf("%s: upgraded\n", name);
  }
  // Neither end closes before the other has looked at its routes.
  char byte = 0;
  if (send(fd.get(), &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd.get(), &byte, 1, 0) != 1) {
    return Fail(name, "the other end failed");
  }
  shutdown(fd.get(), SHUT_WR);
  if (recv(fd.get(), &byte, 1, 0) != 0) return Fail(name, "no end of stream");
  printf("%s: %zu bytes each way, all right\n", name, bytes);
  return 0;
}

}  // namespace conformance
