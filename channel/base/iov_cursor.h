// Walks an iovec array from front to back while bytes are copied out of or into it.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xenloop {

class IovCursor {
 public:
  // Ends after `limit` bytes, whatever the vectors hold.
  IovCursor(const iovec* iov, size_t count, size_t limit = SIZE_MAX) : iov_(iov), count_(count) {
    for (size_t i = 0; i < count && remaining_ < limit; ++i) {
      const size_t room = limit - remaining_;
      remaining_ += iov[i].iov_len < room ? iov[i].iov_len : room;
    }
  }
  size_t remaining() const { return remaining_; }

  // Copies `length` (<= remaining) bytes from the vectors to `to` and moves on.
  void CopyOut(uint8_t* to, size_t length) {
    Walk(length, [&to](uint8_t* piece, size_t n) {
      memcpy(to, piece, n);
      to += n;
    });
  }
  // Copies `length` bytes from `from` into the vectors and moves on.
  void CopyIn(const uint8_t* from, size_t length) {
    Walk(length, [&from](uint8_t* piece, size_t n) {
      memcpy(piece, from, n);
      from += n;
    });
  }
  void Skip(size_t length) {
    Walk(length, [](uint8_t*, size_t) {});
  }
  // The unread rest as at most `capacity` vectors covering at most `limit` bytes; returns how many.
  size_t Rest(iovec* out, size_t capacity, size_t limit) const {
    size_t n = 0;
    size_t offset = offset_;
    for (size_t i = index_; i < count_ && n < capacity && limit > 0; ++i, offset = 0) {
      const size_t length = iov_[i].iov_len - offset < limit ? iov_[i].iov_len - offset : limit;
      if (length == 0) continue;
      out[n].iov_base = static_cast<uint8_t*>(iov_[i].iov_base) + offset;
      out[n].iov_len = length;
      limit -= length;
      ++n;
    }
    return n;
  }

 private:
  template <typename Visit>
  void Walk(size_t length, Visit visit) {
    remaining_ -= length;
    while (length > 0) {
      const size_t left = iov_[index_].iov_len - offset_;
      if (left == 0) {
        ++index_;
        offset_ = 0;
        continue;
      }
      const size_t n = left < length ? left : length;
      visit(static_cast<uint8_t*>(iov_[index_].iov_base) + offset_, n);
      offset_ += n;
      length -= n;
    }
  }

  const iovec* iov_;
  size_t count_;
  size_t index_ = 0;
  size_t offset_ = 0;
  size_t remaining_ = 0;
};

}  // namespace xenloop
