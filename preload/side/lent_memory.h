// Memory for the time of one call, where the program's stack is too small for it: threads may have
// 16 KiB, signal handlers 8. A few pieces that are always there; more callers at once than that map
// one of their own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xenloop {

class LentMemory {
 public:
  static constexpr size_t kBytes = 32768;

  LentMemory() = default;
  ~LentMemory();
  LentMemory(const LentMemory&) = delete;
  LentMemory& operator=(const LentMemory&) = delete;
  uint8_t* Get();  // at any time, the same; nullptr: no memory

 private:
  uint8_t* memory_ = nullptr;
};

}  // namespace xenloop
