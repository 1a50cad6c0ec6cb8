// See fd_table.h.
#include "preload/side/fd_table.h"

#include "preload/side/side.h"

namespace xenloop {

std::atomic<uintptr_t> FdTable::words_[FdTable::kMaxFds];
std::atomic<int> FdTable::end_{0};

void FdTable::Store(int fd, uintptr_t word) {
  if (!InRange(fd)) return;
  if (word != 0) {
    int end = end_.load(std::memory_order_relaxed);
    while (fd >= end && !end_.compare_exchange_weak(end, fd + 1, std::memory_order_acq_rel)) {
    }
  }
  words_[fd].store(word, std::memory_order_release);
}

bool FdTable::Take(int fd, Side* side) {
  if (!InRange(fd)) return false;
  uintptr_t word = reinterpret_cast<uintptr_t>(side) | kSideTag;
  return words_[fd].compare_exchange_strong(word, 0, std::memory_order_acq_rel);
}

int OtherDescriptor(const Side* side, int except) {
  for (int fd = 0; fd < FdTable::End(); ++fd) {
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
