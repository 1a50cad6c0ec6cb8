// See unseen_holders.h.
#include "preload/side/unseen_holders.h"

#include <errno.h>

#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/forked_holders.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

// Values of Side::unseen_pid that are no process.
constexpr int32_t kNobody = 0;
constexpr int32_t kBeingNoted = -1;
constexpr int32_t kHandedOn = -2;  // for good: by whom it is held nobody knows

// There may be a side that we have let go of and such a child has.
std::atomic<bool> left_some{false};

bool IsGone(int32_t pid) { return sys::Call(SYS_kill, pid, 0) == -ESRCH; }

}  // namespace

void LeaveUnseen(Side* side) {
  int32_t nobody = kNobody;
  // Our number means us to the parent only if it is in our namespace of processes.
  if (!process_state.same_numbers || process_state.forked_from == 0 ||
      sys::Call(SYS_getppid) != process_state.forked_from)
    return;
  if (side->unseen_pid.load(std::memory_order_relaxed) == process_state.pid) {
    side->unseen_references.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  // One at a time; another stays in the count.
  if (!side->unseen_pid.compare_exchange_strong(nobody, kBeingNoted, std::memory_order_relaxed))
    return;
  process_state.leaves_unseen = true;
  side->unseen_parent.store(process_state.forked_from, std::memory_order_relaxed);
  side->unseen_references.store(1, std::memory_order_relaxed);
  // release: pairs with the parent's look.
  side->unseen_pid.store(process_state.pid, std::memory_order_release);
}

void UnseenMayHandOn() {
  if (!process_state.leaves_unseen || InBorrowedMemory()) return;
  process_state.leaves_unseen = false;
  EachSlot([](uint32_t slot) {
    int32_t us = process_state.pid;
    SideAt(slot)->unseen_pid.compare_exchange_strong(us, kHandedOn, std::memory_order_relaxed);
  });
}

void UpdateUnseen(int fd, Side* side) {
  int32_t pid = side->unseen_pid.load(std::memory_order_acquire);
  // The parent's number may also be that of another, in a namespace of processes below its own,
  // where the child's number means nobody.
  if (pid <= 0 || !process_state.ready || !process_state.same_numbers ||
      side->unseen_parent.load(std::memory_order_relaxed) != process_state.pid || !IsGone(pid))
    return;
  const int32_t references = side->unseen_references.load(std::memory_order_relaxed);
  ForkedHolderIsTakenOut(side, pid);
  // It may have noted that it hands the connection on, after our first look.
  if (!side->unseen_pid.compare_exchange_strong(pid, kNobody, std::memory_order_acq_rel)) return;
  side->options_asked.store(0, std::memory_order_relaxed);  // it could change them
  side->awaited.store(0, std::memory_order_relaxed);
  tcp_info info;
  if (TcpInfoOf(fd, &info) == 0)
    side->operations.fetch_add(info.tcpi_data_segs_in + info.tcpi_data_segs_out,
                               std::memory_order_relaxed);
  side->references.fetch_sub(references, std::memory_order_acq_rel);
  LetGo(side);
}

namespace {

// A child of ours that has left our sight with the side is all that it was noted for. (What has
// been handed on as well stays in the count.)
bool IsLeftToUnseen(const Side* side) {
  return side->in_use.load(std::memory_order_acquire) != 0 &&
         side->unseen_pid.load(std::memory_order_acquire) > 0 &&
         side->unseen_parent.load(std::memory_order_relaxed) == process_state.pid &&
         side->outside.load(std::memory_order_acquire) == 0 &&
         side->handed_pid.load(std::memory_order_acquire) == 0 &&
         FindSide(side->fd.load(std::memory_order_acquire)) != side;
}

void TakeOutIfGone(Side* side) {
  int32_t pid = side->unseen_pid.load(std::memory_order_acquire);
  if (!IsGone(pid)) {
    left_some.store(true, std::memory_order_relaxed);
    return;
  }
  const int32_t references = side->unseen_references.load(std::memory_order_relaxed);
  ForkedHolderIsTakenOut(side, pid);
  if (!side->unseen_pid.compare_exchange_strong(pid, kNobody, std::memory_order_acq_rel)) return;
  side->options_asked.store(0, std::memory_order_relaxed);  // as above: others may have the side
  // The holders first: another one that finds its reference to be the only one frees the side.
  side->holders.fetch_sub(1, std::memory_order_acq_rel);
  if (side->references.fetch_sub(references, std::memory_order_acq_rel) != references) return;
  if (side->attached.load(std::memory_order_acquire) != 0)
    AgentRelease(side, -1);
  else
    FreeSide(side);
}

}  // namespace

void LeftToUnseen(const Side* side) {
  if (side->unseen_pid.load(std::memory_order_relaxed) > 0)
    left_some.store(true, std::memory_order_relaxed);
}

void UpdateLeftToUnseen() {
  if (!process_state.ready || !process_state.same_numbers ||
      !left_some.exchange(false, std::memory_order_relaxed))
    return;
  EachSlot([](uint32_t slot) {
    if (IsLeftToUnseen(SideAt(slot))) TakeOutIfGone(SideAt(slot));
  });
}

}  // namespace xenloop
