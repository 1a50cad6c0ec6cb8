// See forked_holders.h.
#include "preload/side/forked_holders.h"

#include <errno.h>

#include "channel/base/abandon.h"
#include "channel/base/sys.h"
#include "preload/side/confinement.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Sides are looked at when so many have been left since the last look, and no fewer than were found
// to be in use then: a look costs a system call for each.
constexpr uint32_t kWorthALook = 64;
std::atomic<uint32_t> left_since{0};
std::atomic<uint32_t> look_at{kWorthALook};

// Nobody else can have it: neither another process of the family, nor one that is counted or noted
// otherwise.
bool IsLeftToForked(const Side* side) {
  return side->in_use.load(std::memory_order_acquire) != 0 &&
         side->forked_pid.load(std::memory_order_acquire) > 0 &&
         side->forked_parent.load(std::memory_order_relaxed) == process_state.pid &&
         side->unseen_pid.load(std::memory_order_acquire) == 0 &&
         side->handed_pid.load(std::memory_order_acquire) >= 0 &&
         side->inherited.load(std::memory_order_acquire) == 0 &&
         side->holders.load(std::memory_order_acquire) == 1;
}

// What it was inside of when it was killed. A thread of ours may be inside a call on what was
// closed, too, and that would be counted still: the slot is not used then (IsHaunted).
void EndItsCalls(Side* side, bool alone) {
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
  }
  if (!alone) return;
  side->send.kernel_users.count.store(0, std::memory_order_release);
  side->receive.kernel_users.count.store(0, std::memory_order_release);
}

// False: it is there.
bool FreeIfGone(Side* side, bool alone) {
  int32_t pid = side->forked_pid.load(std::memory_order_acquire);
  if (pid <= 0 || sys::Call(SYS_kill, pid, 0) != -ESRCH || OtherDescriptor(side, -1) >= 0)
    return false;
  const bool attached = side->attached.load(std::memory_order_acquire) != 0;
  const bool by_it = side->owner_pid.load(std::memory_order_relaxed) == pid;
  if (!side->forked_pid.compare_exchange_strong(pid, 0, std::memory_order_acq_rel)) return true;
  EndItsCalls(side, alone);
  if (attached && !by_it) {
    AgentRelease(side, -1);
    return true;
  }
  side->references.store(0, std::memory_order_release);
  side->holders.store(0, std::memory_order_release);
  FreeSide(side);
  return true;
}

}  // namespace

void NoteForkedHolder() {
  bool asked = false;
  bool may = false;
  EachSide([&](int, Side* side) {
    // A parent in another namespace of processes would take our number for somebody else's.
    if (!asked) may = MayAskTheKernel() && sys::Call(SYS_getppid) == process_state.forked_from;
    asked = true;
    int32_t nobody = 0;
    if (!may || !side->forked_pid.compare_exchange_strong(nobody, -1, std::memory_order_relaxed))
      return;
    side->forked_parent.store(process_state.forked_from, std::memory_order_relaxed);
    // release: pairs with the parent's look.
    side->forked_pid.store(process_state.pid, std::memory_order_release);
  });
}

void ForkedHolderLetsGo(Side* side) { ForkedHolderIsTakenOut(side, process_state.pid); }

void ForkedHolderIsTakenOut(Side* side, int32_t pid) {
  side->forked_pid.compare_exchange_strong(pid, 0, std::memory_order_acq_rel);
}

void LeftToForked() { left_since.fetch_add(1, std::memory_order_relaxed); }

void FreeLeftByForked(bool (*program_has_one_thread)()) {
  if (left_since.load(std::memory_order_relaxed) < look_at.load(std::memory_order_relaxed) ||
      !MayAskTheKernel())
    return;
  left_since.store(0, std::memory_order_relaxed);
  const bool alone = !Abandonable::Any() && program_has_one_thread();
  uint32_t there = 0;
  EachSlot([&](uint32_t slot) {
    Side* const side = SideAt(slot);
    if (IsLeftToForked(side) && !FreeIfGone(side, alone)) ++there;
  });
  look_at.store(there > kWorthALook ? there : kWorthALook, std::memory_order_relaxed);
}

}  // namespace xenloop
