// See fd_table.h.
#include "preload/side/fd_table.h"

#include <sys/mman.h>

#include "channel/base/sys.h"
#include "preload/side/side.h"

namespace xenloop {

FdTable::Word FdTable::low_[FdTable::kStretch];
std::atomic<FdTable::Word*> FdTable::far_[FdTable::kStretches];
std::atomic<int> FdTable::end_{0};

FdTable::Word* FdTable::FindFar(int fd) {
  if (fd < 0) return nullptr;
  Word* const stretch = far_[fd / kStretch].load(std::memory_order_acquire);
  return stretch != nullptr ? stretch + fd % kStretch : nullptr;
}

bool FdTable::InRange(int fd) {
  if (fd < 0 || FindWord(fd) != nullptr) return fd >= 0;
  constexpr size_t kBytes = sizeof(Word) * kStretch;
  const long memory = sys::Call(SYS_mmap, 0, kBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return false;
  Word* none = nullptr;
  if (!far_[fd / kStretch].compare_exchange_strong(none, reinterpret_cast<Word*>(memory),
                                                   std::memory_order_acq_rel)) {
    sys::Call(SYS_munmap, memory, kBytes);
  }
  return true;
}

int FdTable::Next(int fd) {
  int next = fd + 1;
  const int end = End();
  while (next < end && next % kStretch == 0 && FindWord(next) == nullptr) next += kStretch;
  return next < end ? next : end;
}

void FdTable::Store(int fd, uintptr_t word) {
  Word* const place = FindWord(fd);
  if (place == nullptr) return;
  if (word != 0) {
    int end = end_.load(std::memory_order_relaxed);
    while (fd >= end && !end_.compare_exchange_weak(end, fd + 1, std::memory_order_acq_rel)) {
    }
  }
  place->store(word, std::memory_order_release);
}

bool FdTable::Take(int fd, Side* side) {
  Word* const place = FindWord(fd);
  if (place == nullptr) return false;
  uintptr_t word = reinterpret_cast<uintptr_t>(side) | kSideTag;
  return place->compare_exchange_strong(word, 0, std::memory_order_acq_rel);
}

int OtherDescriptor(const Side* side, int except) {
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    if (fd != except && FdTable::FindSide(fd) == side) return fd;
  }
  return -1;
}

int DescriptorOf(Side* side) {
  const int fd = side->fd.load(std::memory_order_acquire);
  if (FindSide(fd) == side) return fd;
  // Another process of the family knows it by a number that means nothing here.
  const int here = OtherDescriptor(side, -1);
  if (here >= 0 && side->holders.load(std::memory_order_acquire) == 1) side->fd.store(here);
  return here;
}

}  // namespace xenloop
