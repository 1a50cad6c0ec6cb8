// Walks an iovec array from front to back while bytes are copied out of or into it; and what the
// kernel looks at in such an array before it moves a byte.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xenloop {

// The most bytes that one call moves, whatever it is asked for (the kernel's MAX_RW_COUNT).
inline constexpr size_t kMostBytesACall = 0x7ffff000;

// True for what lies, or ends, where no program's memory is: told without asking, and what the
// kernel refuses before it does anything else.
inline bool IsBeyondMemory(const void* first, size_t bytes) {
#if defined(__x86_64__)
  constexpr uintptr_t kEnd = 1ull << 47;  // of all that programs get without asking for more
#else
  constexpr uintptr_t kEnd = 1ull << 52;
#endif
  constexpr uintptr_t kKernels = 1ull << 63;
  const auto begin = reinterpret_cast<uintptr_t>(first);
  return (begin & kKernels) != 0 || (begin < kEnd && bytes > kEnd - begin);
}
// Bulk data get this look only, because a look at every page would cost as much as many a copy.
inline bool IsNoMemory(const void* first, size_t bytes) {
  constexpr uintptr_t kFirstMappable = 4096;
  return reinterpret_cast<uintptr_t>(first) < kFirstMappable || IsBeyondMemory(first, bytes);
}
// The same for vectors. Of a single one the kernel looks at what it can move, of several at all.
inline bool HasBadBuffer(const iovec* iov, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const size_t length = iov[i].iov_len;
    const bool more = count == 1 && length > kMostBytesACall;
    if (length > 0 && IsNoMemory(iov[i].iov_base, more ? kMostBytesACall : length)) return true;
  }
  return false;
}

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
