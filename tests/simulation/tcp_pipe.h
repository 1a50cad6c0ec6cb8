// One direction of a TCP connection as bytes in vectors: a send buffer and a receive window of
// finite size, delivery when the world says so, FIN, reset, and exact counts of what was written
// and read. Decides what the kernel would answer.
#pragma once

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace xenloop::simulation {

class TcpPipe {
 public:
  TcpPipe(size_t send_room, size_t receive_room)
      : send_room_(send_room), receive_room_(receive_room) {
    size_t size = 1;
    while (size < send_room + receive_room) size *= 2;
    ring_.resize(size);
  }

  ssize_t Send(const iovec* iov, size_t count) {
    if (reset_) return -ECONNRESET;
    if (fin_) return -EPIPE;
    size_t room = send_room_ - (written_ - delivered_);
    if (room == 0) return -EAGAIN;
    size_t total = 0;
    for (size_t i = 0; i < count && room > 0; ++i) {
      const size_t n = std::min(room, iov[i].iov_len);
      const auto* from = static_cast<const uint8_t*>(iov[i].iov_base);
      ForPieces(written_, n, [&](uint8_t* piece, size_t length) {
        memcpy(piece, from, length);
        from += length;
      });
      written_ += n;
      room -= n;
      total += n;
    }
    return static_cast<ssize_t>(total);
  }

  ssize_t Receive(const iovec* iov, size_t count, int flags) {
    const uint64_t queued = delivered_ - read_;
    if (queued == 0) {
      if (reset_) return -ECONNRESET;
      return fin_ && written_ == delivered_ ? 0 : -EAGAIN;
    }
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t n = std::min<uint64_t>(queued - total, iov[i].iov_len);
      auto* to = static_cast<uint8_t*>(iov[i].iov_base);
      if (to != nullptr) {
        ForPieces(read_ + total, n, [&](const uint8_t* piece, size_t length) {
          memcpy(to, piece, length);
          to += length;
        });
      }
      total += n;
    }
    if ((flags & MSG_PEEK) == 0) read_ += total;
    return static_cast<ssize_t>(total);
  }

  // The network carries up to `most` bytes. False: they reach a socket that nobody holds any more.
  bool Deliver(uint64_t most) {
    const uint64_t n =
        std::min({most, written_ - delivered_, receive_room_ - (delivered_ - read_)});
    if (n > 0 && receiver_gone_) return false;
    delivered_ += n;
    return true;
  }

  void Finish() { fin_ = true; }
  void LoseReceiver() { receiver_gone_ = true; }
  // What is under way is lost; what has been delivered stays readable.
  void Reset() {
    if (reset_) return;
    reset_ = true;
    fin_lost_ = !FinDelivered();
    written_ = delivered_;
  }

  bool Readable() const { return delivered_ > read_ || reset_ || FinDelivered(); }
  bool FinDelivered() const { return fin_ && !fin_lost_ && written_ == delivered_; }
  bool finished() const { return fin_; }
  bool reset() const { return reset_; }
  uint64_t written() const { return written_; }
  uint64_t delivered() const { return delivered_; }
  uint64_t read() const { return read_; }

 private:
  template <typename Visit>
  void ForPieces(uint64_t at, size_t n, Visit visit) {
    while (n > 0) {
      const size_t offset = at & (ring_.size() - 1);
      const size_t piece = std::min(n, ring_.size() - offset);
      visit(&ring_[offset], piece);
      at += piece;
      n -= piece;
    }
  }

  size_t send_room_;
  size_t receive_room_;
  std::vector<uint8_t> ring_;
  uint64_t written_ = 0;
  uint64_t delivered_ = 0;
  uint64_t read_ = 0;
  bool fin_ = false;
  bool reset_ = false;
  bool fin_lost_ = false;
  bool receiver_gone_ = false;
};

}  // namespace xenloop::simulation
