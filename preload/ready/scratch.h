// Memory for one call of poll or select: on the stack for small sets, lent for ordinary ones,
// mapped for giants.
#pragma once

#include <poll.h>
#include <sys/mman.h>

#include "channel/base/sys.h"
#include "preload/side/lent_memory.h"

namespace xenloop {

// select has three arrays of that many: all of a call stays below 4 KiB (StackTest).
inline constexpr nfds_t kOnStack = 48;

template <typename T>
class Scratch {
 public:
  Scratch(T* stack, nfds_t count) : memory_(stack) {
    if (count <= kOnStack + 1) return;
    if (count * sizeof(T) <= LentMemory::kBytes) {
      memory_ = reinterpret_cast<T*>(lent_.Get());
      return;
    }
    bytes_ = count * sizeof(T);
    const long mapped = sys::Call(SYS_mmap, 0, static_cast<long>(bytes_), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory_ = mapped < 0 && mapped > -4096 ? nullptr : reinterpret_cast<T*>(mapped);
    mapped_ = memory_ != nullptr;
  }
  ~Scratch() {
    if (mapped_) sys::Call(SYS_munmap, reinterpret_cast<long>(memory_), static_cast<long>(bytes_));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return memory_; }

 private:
  T* memory_;
  LentMemory lent_;
  size_t bytes_ = 0;
  bool mapped_ = false;
};

}  // namespace xenloop
