// Pointers that a program hands over, before we follow them ourselves: the kernel would answer
// EFAULT, and we must not die instead. One mechanism for everything that is not bulk data; asked
// only where a descriptor of ours is concerned, since the kernel looks for itself everywhere else.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace xenloop {

// The most bytes that one call moves, whatever it is asked for (the kernel's MAX_RW_COUNT).
inline constexpr size_t kMostBytesACall = 0x7ffff000;

// Whether the program's memory is there. A page that was found once is not looked for again: a
// program that takes it away later and then passes it once more meets a fault.
bool MayRead(const void* first, size_t bytes);
bool MayWrite(void* first, size_t bytes);
// Where no system call may be made to find out (before an agent has been started, when nobody has
// tried whether a filter stands, and in sandboxes) every pointer is believed.
void BelieveProgramMemory(bool believe);

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

}  // namespace xenloop
