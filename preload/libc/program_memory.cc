// See program_memory.h.
#include "preload/libc/program_memory.h"

#include <errno.h>

#include <atomic>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr uintptr_t kPageBytes = 4096;  // or a part of one
constexpr size_t kKnownPages = 1024;    // a power of two
constexpr uintptr_t kReadable = 1;
constexpr uintptr_t kWritable = 3;

// Pages found so far, each with what may be done to it; another page takes the place of an old one.
std::atomic<uintptr_t> known_pages[kKnownPages];
std::atomic<bool> believing{true};

// Two calls that look at memory, and do nothing: a signal mask that is read and then refused, since
// there is no such way to apply it; and an atomic "or" of no bits, on behalf of a futex that nobody
// waits for.
bool IsThere(uintptr_t address, uintptr_t access) {
  if (access == kReadable) {
    constexpr int kNoWay = -1;
    return sys::Call(SYS_rt_sigprocmask, kNoWay, static_cast<long>(address & ~7ull), 0, 8) !=
           -EFAULT;
  }
  static uint32_t nobody_waits;
  constexpr int kOrNothingAndNeverWake = (FUTEX_OP_OR << 28) | (FUTEX_OP_CMP_LT << 24) | 0x800;
  return sys::Call(SYS_futex, sys::Word(&nobody_waits), FUTEX_WAKE_OP_PRIVATE, 0, 0,
                   static_cast<long>(address & ~3ull), kOrNothingAndNeverWake) != -EFAULT;
}

bool AllThere(uintptr_t first, size_t bytes, uintptr_t access) {
  if (bytes == 0 || believing.load(std::memory_order_relaxed)) return true;
  const uintptr_t last = first + (bytes - 1);
  if (first < kPageBytes || last < first) return false;  // the calls below take 0 for "nothing"
  for (uintptr_t at = first;; at = (at & ~(kPageBytes - 1)) + kPageBytes) {
    const uintptr_t page = at & ~(kPageBytes - 1);
    std::atomic<uintptr_t>& known = known_pages[page / kPageBytes % kKnownPages];
    const uintptr_t found = known.load(std::memory_order_relaxed);
    const bool is_known = (found & ~(kPageBytes - 1)) == page && (found & access) == access;
    if (!is_known) {
      if (!IsThere(at, access)) return false;
      known.store(page | access, std::memory_order_relaxed);
    }
    if (last - page < kPageBytes) return true;
  }
}

}  // namespace

bool MayRead(const void* first, size_t bytes) {
  return AllThere(reinterpret_cast<uintptr_t>(first), bytes, kReadable);
}
bool MayWrite(void* first, size_t bytes) {
  return AllThere(reinterpret_cast<uintptr_t>(first), bytes, kWritable);
}
void BelieveProgramMemory(bool believe) { believing.store(believe, std::memory_order_relaxed); }
bool IsProgramMemoryBelieved() { return believing.load(std::memory_order_relaxed); }

}  // namespace xenloop
