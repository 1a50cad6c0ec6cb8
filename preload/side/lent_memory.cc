// See lent_memory.h.
#include "preload/side/lent_memory.h"

#include <sys/mman.h>

#include <atomic>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr size_t kPieces = 8;
alignas(64) uint8_t pieces[kPieces][LentMemory::kBytes];
// A call that is left by a jump keeps its piece: the others and mmap go on.
std::atomic<bool> lent[kPieces];

}  // namespace

uint8_t* LentMemory::Get() {
  if (memory_ != nullptr) return memory_;
  for (size_t i = 0; i < kPieces; ++i) {
    if (!lent[i].load(std::memory_order_relaxed) &&
        !lent[i].exchange(true, std::memory_order_acquire)) {
      return memory_ = pieces[i];
    }
  }
  const long mapped =
      sys::Call(SYS_mmap, 0, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped >= 0 || mapped <= -4096) memory_ = reinterpret_cast<uint8_t*>(mapped);
  return memory_;
}

LentMemory::~LentMemory() {
  if (memory_ == nullptr) return;
  if (memory_ < pieces[0] || memory_ >= pieces[0] + sizeof pieces) {
    sys::Call(SYS_munmap, sys::Word(memory_), kBytes);
    return;
  }
  lent[static_cast<size_t>(memory_ - pieces[0]) / kBytes].store(false, std::memory_order_release);
}

}  // namespace xenloop
