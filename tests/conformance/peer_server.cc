// One command, one reply. The first reply, unasked, says whether the connection was made.

#include "tests/conformance/peer_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>

#include "tests/conformance/mode.h"

namespace conformance {
namespace {

std::atomic<uint64_t>* flooded_bytes = nullptr;

int Connect(const PeerStart& start) {
  if (start.listener >= 0) {
    const int fd = accept4(start.listener, nullptr, nullptr, SOCK_CLOEXEC);
    return fd;
  }
  const int fd = socket(start.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const auto* address = reinterpret_cast<const sockaddr*>(&start.address);
  return connect(fd, address, start.address_length) == 0 ? fd : -1;
}

Reply FromTransfer(Transferred transferred) {
  Reply reply{};
  reply.result = static_cast<int64_t>(transferred.bytes);
  reply.error = transferred.error;
  return reply;
}

Reply FromCall(ssize_t result) {
  const Outcome outcome = Call(result);
  Reply reply{};
  reply.result = outcome.value;
  reply.error = outcome.error;
  return reply;
}

Transferred Flood(int fd, ByteStream* sent, Chunks chunks) {
  for (;;) {
    const Transferred part = SendBytes(fd, sent, 10000, chunks);
    flooded_bytes->fetch_add(part.bytes);
    if (part.error != 0) return part;
  }
}

Reply TallyLetters(int fd, size_t total) {
  Reply reply{};
  size_t counts[8] = {};
  char buffer[32768];
  size_t moved = 0;
  while (moved < total) {
    const ssize_t count = recv(fd, buffer, std::min(sizeof(buffer), total - moved), 0);
    if (count < 0) reply.error = errno;
    if (count <= 0) break;
    for (ssize_t i = 0; i < count; ++i) counts[(buffer[i] - 'a') & 7]++;
    moved += count;
  }
  reply.result = static_cast<int64_t>(moved);
  reply.text_length = sizeof(counts);
  memcpy(reply.text, counts, sizeof(counts));
  return reply;
}

class PeerServer {
 public:
  explicit PeerServer(const PeerStart& start) : fd_(Connect(start)) {}

  Reply Obey(const Command& command) {
    const Chunks chunks{static_cast<size_t>(command.b), static_cast<int>(command.c)};
    const auto total = static_cast<size_t>(command.a);
    const int first = static_cast<int>(command.a);
    const int second = static_cast<int>(command.b);
    const int third = static_cast<int>(command.c);
    switch (command.op) {
      case Op::kSend:
        return FromTransfer(SendBytes(fd(), &sent_, total, chunks));
      case Op::kReceive:
        return FromTransfer(ReceiveBytes(fd(), &received_, total, chunks));
      case Op::kEcho:
        return FromTransfer(EchoBytes(fd(), &received_, &sent_, total, chunks));
      case Op::kExchange:
        return FromTransfer(ExchangeBytes(fd(), &sent_, &received_, total, chunks));
      case Op::kTally:
        return TallyLetters(fd(), total);
      case Op::kFlood:
        return FromTransfer(Flood(fd(), &sent_, chunks));
      case Op::kSendText:
        return FromCall(send(fd(), command.text, command.text_length, first | MSG_NOSIGNAL));
      case Op::kReceiveText:
        return ReceiveText(total);
      case Op::kShutdown:
        return FromCall(shutdown(fd(), first));
      case Op::kClose:
        return FromCall(fd_.Close());
      case Op::kReset: {
        const linger now{1, 0};
        setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        return FromCall(fd_.Close());
      }
      case Op::kSetOption:
        return FromCall(setsockopt(fd(), first, second, &third, sizeof(third)));
      case Op::kPoll:
        return FromCall(Revents(fd(), first, second));
      case Op::kMark:
        MarkedPoint(fd());
        return FromCall(0);
      case Op::kUpgrade:
        return FromCall(UpgradeIfWanted(fd()) ? 0 : -1);
      case Op::kRoutes:
        return FromCall(Routes(fd()));
    }
    abort();
  }

  int fd() const { return fd_.get(); }

 private:
  Reply ReceiveText(size_t length) {
    Reply reply{};
    while (reply.text_length < length) {
      const ssize_t received =
          recv(fd(), reply.text + reply.text_length, length - reply.text_length, 0);
      if (received < 0) reply.error = errno;
      if (received <= 0) break;
      reply.text_length += received;
    }
    reply.result = static_cast<int64_t>(reply.text_length);
    return reply;
  }

  FileDescriptor fd_;
  ByteStream sent_{kSeedFromPeer};
  ByteStream received_{kSeedToPeer};
};

}  // namespace

void PreparePeers() {
  void* memory = mmap(nullptr, sizeof(*flooded_bytes), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  flooded_bytes = new (memory) std::atomic<uint64_t>{0};
}

uint64_t Peer::FloodedBytes() { return flooded_bytes->exchange(0); }

void ServePeer(int control_fd, const PeerStart& start) {
  const FileDescriptor control(control_fd);
  PeerServer server(start);
  Reply reply = FromCall(server.fd() < 0 ? -1 : gettid());
  Command command{};
  do {
    if (send(control_fd, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply)) return;
    if (recv(control_fd, &command, sizeof(command), 0) != sizeof(command)) return;
    reply = server.Obey(command);
  } while (true);
}

}  // namespace conformance
