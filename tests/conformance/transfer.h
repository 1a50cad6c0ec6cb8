// Checked bytes: what every stream of a test carries, and the loops that send, receive, echo or
// exchange it. Byte k of a stream follows from (seed, k), so either end can check every byte
// without being told what was sent. The loops call libc only, and may put marked points between
// chunks.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <functional>

namespace conformance {

// The bytes of one direction and how far this end has come in them.
class ByteStream {
 public:
  explicit ByteStream(uint64_t seed) : seed_(seed) {}

  void Fill(void* buffer, size_t length) const;           // the next bytes, not advancing
  bool Matches(const void* buffer, size_t length) const;  // are these the next bytes? not advancing
  void Advance(size_t length) { offset_ += length; }
  bool Take(const void* buffer, size_t length);  // Matches, then Advance
  uint64_t offset() const { return offset_; }

 private:
  uint64_t seed_;
  uint64_t offset_ = 0;
};

// How a transfer is cut up.
struct Chunks {
  size_t largest = 0;     // each call moves a random count up to this; 0: as much as possible
  int marked_points = 0;  // so many, spread evenly
};

struct Transferred {
  size_t bytes;  // right bytes moved, in order
  int error;     // why it ended early: an errno, EILSEQ for a wrong byte, 0 for an end of stream
};

constexpr size_t kToEnd = SIZE_MAX;

Transferred SendBytes(int fd, ByteStream* stream, size_t total, Chunks chunks = {});
Transferred ReceiveBytes(int fd, ByteStream* stream, size_t total, Chunks chunks = {});
// Answers each received chunk with as many bytes of the other stream.
Transferred EchoBytes(int fd, ByteStream* received, ByteStream* sent, size_t total,
                      Chunks chunks = {});
// Sends `total` and receives `total` at the same time (poll and MSG_DONTWAIT).
Transferred ExchangeBytes(int fd, ByteStream* sent, ByteStream* received, size_t total,
                          Chunks chunks = {});
// Sends with MSG_DONTWAIT until nothing is taken any more; returns how much was.
size_t FillUp(int fd, ByteStream* sent);
// The same with other bytes: `send_some` returns what a send with MSG_DONTWAIT does.
size_t FillUpWith(const std::function<ssize_t()>& send_some);

// One byte that brings a descriptor along (SCM_RIGHTS); stays where it is, as `message` points into
// it.
class DescriptorMessage {
 public:
  explicit DescriptorMessage(int fd);
  DescriptorMessage(const DescriptorMessage&) = delete;
  DescriptorMessage& operator=(const DescriptorMessage&) = delete;

  msghdr message{};

 private:
  char byte_ = 'd';
  iovec piece_ = {&byte_, 1};
  alignas(cmsghdr) char control_[CMSG_SPACE(sizeof(int))] = {};
};
// SCM_RIGHTS over a UNIX socket. False, or -1, if it does not go.
bool SendDescriptor(int channel, int fd);
int ReceiveDescriptor(int channel, int flags = 0);

}  // namespace conformance
