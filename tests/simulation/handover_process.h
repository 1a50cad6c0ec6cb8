// A process of the handover simulation: the library's own rooms as a program has them, without the
// agent's thread, and with a program that does what it is told by the world.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace xenloop::simulation {

enum class HandoverMutant {
  kNone,
  kSetWithoutDoorbell,  // "converted" is inherited as true, so a child's set gets no doorbell
  kStaysParent,         // a child takes its parent's sides and sets for its own
  kForkNotCounted,      // a child's share in what it inherits is not counted
  kTakeUpShared,        // what was received is upgraded although its sender has it still
  kCount
};
const char* NameOf(HandoverMutant mutant);

inline constexpr int kConnections = 2;
inline constexpr int kSets = 2;
inline constexpr uint32_t kMostBytes = 200;

enum class Op : uint32_t {
  kMeet,  // brings the world's doorbell, and is answered with this process's
  kFork,  // `index`: the child's channel
  kMakeSet,
  kCloseSet,
  kAdd,
  kDelete,
  kLook,
  kSleep,
  kReceive,
  kSend,
  kClose,
  kAttach,  // brings the world's FIFO, and is answered with ours and a bell
  kService,
  kPass,
  kTake,
};
struct Command {
  Op op;
  int index;
  int set;
  uint32_t events;
  uint32_t bytes;
  uint64_t position;
};
struct Reply {
  long result;
  uint32_t bell;
  uint32_t events[kConnections];  // by connection
  uint8_t bytes[kMostBytes];
};

uint8_t HandoverByte(int connection, bool from_world, uint64_t position);

// One packet with up to two descriptors (-1: none), which stay the sender's.
void SendPacket(int channel, const void* packet, size_t length, int first = -1, int second = -1);
// False: there is none yet. Waits only if told to.
bool ReceivePacketOf(int channel, void* packet, size_t length, std::array<int, 2>* fds, bool wait);

// What every process has instead of a started agent.
void PrepareAgent(uint64_t id);
// A place for a talk with who has that doorbell, which is taken.
uint32_t TalkWith(uint64_t id, const std::array<int, 2>& doorbell);
// Both FIFOs are there: what the agent does then. `fd`: this process's number.
bool AttachBy(int fd, uint32_t talk, int theirs, int* mine);

struct ProcessPlan {
  HandoverMutant mutant;
  bool native;  // without the library
  const int* channels;
  int pass_channel;  // to the stranger, and his end
  std::array<int, kConnections> fds;
};
// Never returns. `index`: 0 the first, 1 its child, 2 the stranger.
[[noreturn]] void RunProcess(const ProcessPlan& plan, int index);

}  // namespace xenloop::simulation
