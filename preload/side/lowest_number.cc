// See lowest_number.h.
#include "preload/side/lowest_number.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "channel/base/time.h"
#include "preload/side/holders.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Calls of ours that the program has not made are allowed, and this is the table that ours are in.
bool MayAct() { return !process_state.sandboxed && !process_state.in_doubt && !InBorrowedMemory(); }

bool IsRegularFile(int fd) {
  struct stat file;
  return sys::Call(SYS_fstat, fd, sys::Word(&file)) != 0 || S_ISREG(file.st_mode);
}

}  // namespace

void AwaitNoLowNumber() {
  if (!MayAct()) return;
  PatientLooks looks;
  while (sys::low_numbers.AnyNow()) {
    if (!looks.Again()) return sys::low_numbers.given_up.store(true, std::memory_order_relaxed);
  }
}

int MoveDown(int fd, int least) {
  if (!MayAct()) return fd;
  AwaitNoLowNumber();
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFD);
  if (flags < 0 || IsRegularFile(fd)) return fd;
  const long lower =
      sys::Call(SYS_fcntl, fd, (flags & FD_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, least);
  if (lower < 0) return fd;
  const long unwanted = lower < fd ? fd : lower;
  sys::Close(static_cast<int>(unwanted));
  return static_cast<int>(lower < fd ? lower : fd);
}

Placing::Placing() {
  // seq_cst: pairs with LowNumber, of which one sees the other.
  sys::low_numbers.placing.fetch_add(1, std::memory_order_seq_cst);
  if (sys::low_numbers.taken.load(std::memory_order_seq_cst) != 0) AwaitNoLowNumber();
}

}  // namespace xenloop
