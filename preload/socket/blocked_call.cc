// See blocked_call.h.
#include "preload/socket/blocked_call.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/socket/socket.h"

namespace xenloop {

BlockedCall::BlockedCall(int fd, Side* side) : fd_(fd), side_(side), counts_(IsOurs(side)) {
  if (counts_) side->blocked_calls.fetch_add(1, std::memory_order_acq_rel);
  Enter(&GiveBack);
}

void BlockedCall::GiveBack(Abandonable* scope) {
  const auto* const self = static_cast<BlockedCall*>(scope);
  Side* const side = self->side_;
  if (!self->counts_) return;
  side->blocked_calls.fetch_sub(1, std::memory_order_acq_rel);
  FinishOrphan(side->fd.load(std::memory_order_acquire), side);
}

bool BlockedCall::Woken(int* fd) {
  Leave();
  if (!counts_) return FindSide(fd_) == side_;
  if (FindSide(fd_) == side_) {
    side_->blocked_calls.fetch_sub(1, std::memory_order_acq_rel);
    return true;
  }
  // Only an orphan is sure to be the same side still: its slot waits for us.
  if (side_->orphaned.load(std::memory_order_acquire) == 0) {
    side_->blocked_calls.fetch_sub(1, std::memory_order_acq_rel);
    return false;
  }
  *fd = side_->fd.load(std::memory_order_acquire);
  side_->blocked_calls.fetch_sub(1, std::memory_order_acq_rel);
  return true;
}

void FinishOrphan(int fd, Side* side) {
  if (side->orphaned.load(std::memory_order_acquire) == 0 || FindSide(fd) != side ||
      side->blocked_calls.load(std::memory_order_acquire) > 0 || side->orphaned.exchange(0) == 0) {
    return;
  }
  BeforeClose(fd);
  sys::Close(fd);
}

ssize_t GoOnElsewhere(int fd) {
  if (FindSide(fd) != nullptr) return -EBADF;
  if (process_state.in_doubt) return kUseKernel;  // no question that a filter may forbid
  int protocol = 0;
  socklen_t length = sizeof protocol;
  const long told = sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, sys::Word(&protocol),
                              sys::Word(&length));
  return told == 0 && protocol == IPPROTO_TCP ? kUseKernel : -EBADF;
}

}  // namespace xenloop
