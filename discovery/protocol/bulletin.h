// Where in the memory of a process its library tells why connections are on TCP: for tools, and for
// the processes whose agent cannot be asked, as they have none. It costs them nothing but its
// place: a tool finds it by its first bytes in the library's writable memory, and follows it with
// reads.
#pragma once

#include <atomic>
#include <cstdint>

#include "discovery/protocol/reasons.h"

namespace xenloop {

inline constexpr char kBulletinMagic[16] = "xenloop-bullet1";

struct Bulletin {
  char magic[16];
  uint32_t reason_count;  // kReasonCount: whoever has another list does not understand ours
  // Of what a word of the table means: (word & tag_mask) == side_tag, then the rest is a side's
  // address; in it, atomics of one, four and four bytes.
  uint16_t tag_mask, side_tag;
  uint32_t table_size;  // numbers with a word
  uint32_t reason_at, upgrades_at, attached_at;
  const void* table;
  const std::atomic<Reason>* agent;  // why there is no agent
  std::atomic<Reason> program;       // why nothing of this program is accelerated
  std::atomic<Reason> unfollowed;    // why the last socket without a side has none
};
static_assert(sizeof(std::atomic<Reason>) == 1);
static_assert(sizeof(Bulletin) == 64);

}  // namespace xenloop
