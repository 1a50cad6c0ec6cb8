// What the agent needs of a transport to peers behind a daemon (agent_bridge.cc), besides the table
// in channel/transport.h: the devices that a daemon hands to this process, what they report, and
// their end. One table a transport; all of it is the agent thread's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "channel/transport.h"
#include "preload/agent/agent_state.h"
#include "preload/side/each_side.h"

namespace xenloop {

struct Devices {
  const Transport& (*transport)();
  uint64_t (*fifo_bytes)();  // of a FIFO of ours, by configuration

  // May this machine have such devices at all? Asked where no daemon is found.
  bool (*possible)();
  // The daemon's descriptors become ours, or, where we have some, the daemon gets a copy of ours.
  // False: they are not all there.
  bool (*take)(Talk& talk, Ticket* ticket);
  // The daemon says on this talk that our guest was suspended without notice: what leads to
  // other guests is of a life that is over.
  void (*suspended)(Talk& talk);
  // This guest's life, counted from 0; a talk of an earlier one is not to be used any more.
  uint32_t (*life)();

  // What WatchDevices was told to watch is readable.
  void (*events)();
  // Timer::kDevices: does what is due. The pause until the next is, or kNotAgain.
  uint64_t (*due)(uint64_t now);
  // In a forked child, where nothing of this is mapped: forgets it without touching it.
  void (*forget)();
  // A member of the process's object in `xenloop stat`, with the comma before it; or nothing.
  void (*describe)(uint32_t own_number, char* text, size_t capacity);
};

// The devices of the peers that our daemon calls number `which` in a BRIDGE; null if there are
// none.
const Devices* DevicesOf(uint64_t which);

const Devices& XenDevices();

// 0 or -errno. `fd`: readable when there are events of these devices.
int WatchDevices(const Devices& devices, int fd);

// The peer behind this talk has published, consumed or sealed something, and has rung for it.
void WakeSidesOf(uint32_t talk);

// Calls `visit` with the slot of each side that uses the talk; it may take the side away.
template <typename Visit>
void EachSideOf(uint32_t talk, Visit visit) {
  uint32_t left = agent.talks[talk].sides;
  if (left == 0) return;
  AnySlot([&](uint32_t slot) {
    const AgentSide& note = agent.sides[slot];
    if (note.stage == Stage::kNone || note.talk != talk) return false;
    visit(slot);
    return --left == 0;
  });
}

}  // namespace xenloop
