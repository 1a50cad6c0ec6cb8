// See fd_table.h.
#include "preload/fd_table.h"

#include "preload/side.h"
#include "preload/socket.h"

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

Side* FindSide(int fd) { return FdTable::FindSide(fd); }
EpollSet* FindEpollSet(int fd) { return FdTable::FindEpollSet(fd); }

}  // namespace xenloop
