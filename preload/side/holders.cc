// See holders.h.
#include "preload/side/holders.h"

#include "discovery/handover.h"
#include "preload/settings/config.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {

bool InBorrowedMemory() { return process_state.lends && sys::GetPid() != process_state.pid; }

bool IsStandardStream(const Side* side) {
  for (int fd = 0; fd < 3; ++fd) {
    if (FdTable::FindSide(fd) == side) return true;
  }
  return false;
}

void EndShare(Side* side) {
  EachDescriptor([side](int fd, Side* here) {
    if (here == side && FdTable::Take(fd, side))
      side->references.fetch_sub(1, std::memory_order_acq_rel);
  });
  LetGo(side);
}

void LetGo(Side* side) {
  const uint32_t generation = side->generation.load(std::memory_order_relaxed);
  const int32_t left = side->holders.fetch_sub(1, std::memory_order_seq_cst) - 1;
  const int32_t handed = side->handed_pid.load(std::memory_order_seq_cst);
  if (left == 1 && handed != 0 && handed != process_state.pid) {
    SayNoLongerShared(GetConfig().runtime_dir, side->handed_uid.load(std::memory_order_relaxed),
                      handed, side->cookie.load(std::memory_order_relaxed));
  }
  if (left <= 0 || left > side->outside.load(std::memory_order_acquire)) return;
  // Nobody who shares the arena has it any longer.
  if (side->generation.load(std::memory_order_acquire) != generation) return;
  if (side->attached.load(std::memory_order_acquire) != 0) {
    AgentRelease(side, -1);
  } else {
    side->references.store(0, std::memory_order_release);
    FreeSide(side);
  }
}

void UpdateInherited(Side* side) {
  if (side->inherited.load(std::memory_order_relaxed) == 0) return;
  if (IsStillShared(GetConfig().runtime_dir, side->handed_uid.load(std::memory_order_relaxed),
                    side->handed_pid.load(std::memory_order_relaxed),
                    side->cookie.load(std::memory_order_relaxed))) {
    return;
  }
  if (side->inherited.exchange(0, std::memory_order_acq_rel) == 0) return;
  side->handed_pid.store(0, std::memory_order_release);
  side->holders.fetch_sub(1, std::memory_order_acq_rel);
}

}  // namespace xenloop
