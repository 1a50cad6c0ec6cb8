// See bulletin.h.
#include "preload/side/bulletin.h"

#include <cstddef>

#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {

// Side has no base, and all its members are accessible: offsetof is right for it.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
Bulletin bulletin = {
    "xenloop-bullet1",        kReasonCount,
    FdTable::kTagMask,        FdTable::kSideTag,
    FdTable::kStretch,        offsetof(Side, reason),
    offsetof(Side, upgrades), offsetof(Side, attached),
    FdTable::LowWords(),      &agent_shared.start_failure,
    {Reason::kNone},          {Reason::kNone},
};
#pragma GCC diagnostic pop

Reason ReasonOf(const Side* side) {
  const Reason own = side->reason.load(std::memory_order_relaxed);
  const Reason agent = agent_shared.start_failure.load(std::memory_order_relaxed);
  // Whatever it waited for, it waits in vain.
  if (agent != Reason::kNone && side->pinned.load(std::memory_order_relaxed) == 0 &&
      side->attached.load(std::memory_order_relaxed) == 0)
    return agent;
  if (own != Reason::kNotHotYet) return own;
  const Reason program = bulletin.program.load(std::memory_order_relaxed);
  return program != Reason::kNone ? program : own;
}

}  // namespace xenloop
