// See borrowed.h.
#include "preload/side/borrowed.h"

#include "preload/side/agent_shared.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"

namespace xenloop {

bool IsParents(const Side* side) {
  return agent_shared.parents_doorbell.fd >= 0 &&
         side->owner_pid.load(std::memory_order_acquire) ==
             agent_shared.ancestors[0].pid.load(std::memory_order_relaxed);
}

bool MayUseParents(Side* side) {
  if (!IsParents(side) || agent_shared.parent_lost.load(std::memory_order_acquire) != 0)
    return false;
  // acquire: pairs with the release of who has borrowed it; the parent's bells are known by then.
  if (agent_shared.borrowed.Contains(SlotOf(side)) &&
      agent_shared.started.load(std::memory_order_acquire) == 2)
    return true;
  const auto borrow = agent_shared.borrow.load(std::memory_order_relaxed);
  return borrow != nullptr && borrow(side);
}

void SucceedParent(Side* side) {
  if (!IsParents(side) || InBorrowedMemory()) return;
  MayUseParents(side);
  if (agent_shared.borrows.load(std::memory_order_relaxed) != 0 &&
      agent_shared.parent_owes.exchange(1, std::memory_order_acq_rel) == 0)
    Poke(process_state.pid);
}

}  // namespace xenloop
