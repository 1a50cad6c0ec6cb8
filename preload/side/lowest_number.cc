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

bool CloseMayMatter(int fd) {
  struct stat file;
  if (sys::Call(SYS_fstat, fd, sys::Word(&file)) != 0 || S_ISREG(file.st_mode)) return true;
  // Asked as another owner of locks, whose wish ours would stand against.
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  constexpr int kGetLockOfOpenFile = 36;  // F_OFD_GETLK
  return sys::Call(SYS_fcntl, fd, kGetLockOfOpenFile, sys::Word(&lock)) != 0 ||
         lock.l_type != F_UNLCK;
}

}  // namespace

void AwaitNoLowNumber() {
  if (!MayAct()) return;
  PatientLooks looks;
  while (sys::low_numbers.AnyNow()) {
    const uint32_t taken = sys::low_numbers.Taken();
    if (taken == sys::low_numbers.given_up.load(std::memory_order_relaxed)) return;
    if (!looks.Again()) return sys::low_numbers.given_up.store(taken, std::memory_order_relaxed);
  }
}

int MoveDown(int fd, int least) {
  if (!MayAct()) return fd;
  AwaitNoLowNumber();
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFD);
  if (flags < 0 || CloseMayMatter(fd)) return fd;
  const long lower =
      sys::Call(SYS_fcntl, fd, (flags & FD_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, least);
  if (lower < 0) return fd;
  const long unwanted = lower < fd ? fd : lower;
  sys::Close(static_cast<int>(unwanted));
  return static_cast<int>(lower < fd ? lower : fd);
}

namespace {
// seq_cst, both: pairs with LowNumber, of which one sees the other.
void LetNoneCome() { sys::low_numbers.placing.fetch_add(1, std::memory_order_seq_cst); }
void AwaitThoseThatCame() {
  if (sys::low_numbers.taken.load(std::memory_order_seq_cst) != 0) AwaitNoLowNumber();
}
}  // namespace

void HoldLowNumbers() {
  LetNoneCome();
  AwaitThoseThatCame();
}
void ReleaseLowNumbers() { sys::low_numbers.placing.fetch_sub(1, std::memory_order_release); }

Placing::Placing() {
  // A vfork child has a table of its own, and may be killed here.
  if (MayKnow() && InBorrowedMemory()) return;
  Enter(&GiveBack);
  LetNoneCome();
  holds_ = true;  // after, as below before: one too few held would be one for ever
  AwaitThoseThatCame();
}
Placing::~Placing() {
  if (!holds_) return;
  holds_ = false;
  ReleaseLowNumbers();
  Leave();
}
void Placing::GiveBack(Abandonable* scope) {
  if (static_cast<Placing*>(scope)->holds_) ReleaseLowNumbers();
}

}  // namespace xenloop
