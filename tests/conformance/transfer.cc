// The loops of transfer.h. They stop at the first wrong byte, error or end of stream.

#include "tests/conformance/transfer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"

namespace conformance {
namespace {

constexpr size_t kBufferBytes = 256 * 1024;

uint64_t WordAt(uint64_t seed, uint64_t index) {  // splitmix64
  uint64_t word = seed * 0x9E3779B97F4A7C15u + index * 0xBF58476D1CE4E5B9u + 0x94D049BB133111EBu;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

// Chooses the sizes of chunks and says when a marked point is due.
class Cutter {
 public:
  Cutter(size_t total, Chunks chunks)
      : chunks_(chunks),
        mark_every_(chunks.marked_points == 0 ? SIZE_MAX : total / (chunks.marked_points + 1) + 1),
        next_mark_(mark_every_),
        random_(Seed() + static_cast<unsigned>(total)) {}

  size_t Next(size_t left) {
    size_t size = std::min(left, kBufferBytes);
    if (chunks_.largest > 0) size = std::min<size_t>(size, 1 + random_() % chunks_.largest);
    return size;
  }

  void Moved(int fd, size_t moved) {
    if (moved < next_mark_) return;
    next_mark_ += mark_every_;
    MarkedPoint(fd);
  }

 private:
  Chunks chunks_;
  size_t mark_every_;
  size_t next_mark_;
  std::minstd_rand random_;
};

}  // namespace

void ByteStream::Fill(void* buffer, size_t length) const {
  auto* bytes = static_cast<unsigned char*>(buffer);
  for (size_t i = 0; i < length;) {
    const uint64_t at = offset_ + i;
    const uint64_t word = WordAt(seed_, at / 8);
    if (at % 8 == 0 && length - i >= 8) {
      memcpy(bytes + i, &word, 8);
      i += 8;
    } else {
      bytes[i++] = reinterpret_cast<const unsigned char*>(&word)[at % 8];
    }
  }
}

bool ByteStream::Matches(const void* buffer, size_t length) const {
  std::vector<char> expected(length);
  Fill(expected.data(), length);
  return length == 0 || memcmp(expected.data(), buffer, length) == 0;
}

bool ByteStream::Take(const void* buffer, size_t length) {
  const bool matches = Matches(buffer, length);
  Advance(length);
  return matches;
}

Transferred SendBytes(int fd, ByteStream* stream, size_t total, Chunks chunks) {
  std::vector<char> buffer(std::min(total, kBufferBytes));
  Cutter cutter(total, chunks);
  size_t moved = 0;
  while (moved < total) {
    const size_t size = cutter.Next(total - moved);
    stream->Fill(buffer.data(), size);
    const ssize_t sent = send(fd, buffer.data(), size, MSG_NOSIGNAL);
    if (sent < 0) return {moved, errno};
    stream->Advance(sent);
    moved += sent;
    cutter.Moved(fd, moved);
  }
  return {moved, 0};
}

Transferred ReceiveBytes(int fd, ByteStream* stream, size_t total, Chunks chunks) {
  std::vector<char> buffer(std::min(total, kBufferBytes));
  Cutter cutter(total, chunks);
  size_t moved = 0;
  while (moved < total) {
    const ssize_t received = recv(fd, buffer.data(), cutter.Next(total - moved), 0);
    if (received < 0) return {moved, errno};
    if (received == 0) break;
    if (!stream->Take(buffer.data(), received)) return {moved, EILSEQ};
    moved += received;
    cutter.Moved(fd, moved);
  }
  return {moved, 0};
}

Transferred EchoBytes(int fd, ByteStream* received, ByteStream* sent, size_t total, Chunks chunks) {
  std::vector<char> buffer(std::min(total, kBufferBytes));
  Cutter cutter(total, chunks);
  size_t moved = 0;
  while (moved < total) {
    const ssize_t got = recv(fd, buffer.data(), cutter.Next(total - moved), 0);
    if (got < 0) return {moved, errno};
    if (got == 0) break;
    if (!received->Take(buffer.data(), got)) return {moved, EILSEQ};
    const Transferred answered = SendBytes(fd, sent, got);
    if (answered.error != 0) return {moved, answered.error};
    moved += got;
    cutter.Moved(fd, moved);
  }
  return {moved, 0};
}

Transferred ExchangeBytes(int fd, ByteStream* sent, ByteStream* received, size_t total,
                          Chunks chunks) {
  std::vector<char> buffer(std::min(total, kBufferBytes));
  Cutter out_cutter(total, chunks);
  Cutter in_cutter(total, chunks);
  size_t out = 0;
  size_t in = 0;
  while (out < total || in < total) {
    pollfd entry{fd, 0, 0};
    if (out < total) entry.events |= POLLOUT;
    if (in < total) entry.events |= POLLIN;
    if (poll(&entry, 1, -1) < 0) return {in, errno};
    if (out < total && (entry.revents & (POLLOUT | POLLERR | POLLHUP)) != 0) {
      const size_t size = out_cutter.Next(total - out);
      sent->Fill(buffer.data(), size);
      const ssize_t count = send(fd, buffer.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count < 0 && errno != EAGAIN) return {in, errno};
      if (count > 0) {
        sent->Advance(count);
        out += count;
        out_cutter.Moved(fd, out);
      }
    }
    if (in < total && (entry.revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
      const ssize_t count = recv(fd, buffer.data(), in_cutter.Next(total - in), MSG_DONTWAIT);
      if (count < 0 && errno != EAGAIN) return {in, errno};
      if (count == 0) break;
      if (count > 0) {
        if (!received->Take(buffer.data(), count)) return {in, EILSEQ};
        in += count;
      }
    }
  }
  return {std::min(in, out), 0};
}

size_t FillUp(int fd, ByteStream* sent) {
  // A send buffer of fixed size: one that the kernel tunes may grow after it was full.
  const int bytes = 200 * 1000;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
  std::vector<char> buffer(64 * 1024);
  return FillUpWith([&] {
    sent->Fill(buffer.data(), buffer.size());
    const ssize_t count = send(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) sent->Advance(count);
    return count;
  });
}

size_t FillUpWith(const std::function<ssize_t()>& send_some) {
  size_t total = 0;
  // A receiver's window may still open after a first EAGAIN: full is what stays full.
  for (int quiet_rounds = 0; quiet_rounds < 3; ++quiet_rounds) {
    poll(nullptr, 0, 5);
    for (ssize_t count; (count = send_some()) > 0;) {
      total += count;
      quiet_rounds = -1;
    }
  }
  return total;
}

DescriptorMessage::DescriptorMessage(int fd) {
  message.msg_iov = &piece_;
  message.msg_iovlen = 1;
  message.msg_control = control_;
  message.msg_controllen = sizeof control_;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(int));
}

bool SendDescriptor(int channel, int fd) {
  const DescriptorMessage whole(fd);
  return sendmsg(channel, &whole.message, 0) == 1;
}

int ReceiveDescriptor(int channel, int flags) {
  char byte;
  iovec piece = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  int fd = -1;
  if (recvmsg(channel, &message, flags) == 1) {
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
  }
  return fd;
}

}  // namespace conformance
