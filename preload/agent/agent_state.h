// What the parts of the agent share. Everything here belongs to the agent thread, except where a
// comment says otherwise: no lock guards it. What other threads may touch is in
// side/agent_shared.h. A transport's devices have a state of their own (devices.h).
#pragma once

#include <string.h>

#include <atomic>
#include <cstdint>

#include "channel/transport.h"
#include "discovery/peer_table.h"
#include "discovery/protocol/control.h"
#include "discovery/registry.h"
#include "preload/agent/timers.h"
#include "preload/side/agent_shared.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr uint32_t kNoTalk = ~0u;

struct Devices;

// The talk with one other agent. Its doorbell stands in agent_shared.h.
struct Talk {
  int fd = -1;
  bool in_use = false;
  bool ready = false;    // HELLO received
  bool leaving = false;  // told to; closed as soon as nothing of it is left
  bool kept = false;     // the parent's, before the fork: only its doorbell is used, by sides that
                         // the parent has attached
  bool asks = false;     // to our xenloopd, for questions of agent_position.cc
  uint64_t agent_id = 0;
  uint64_t netns_cookie = 0;
  int32_t pid = 0;
  int32_t kernel_pid = 0;  // as the kernel says
  uint32_t uid = 0;
  uint32_t sides = 0;
  const Transport* transport = nullptr;  // what carries its streams
  uint64_t fifo_bytes = 0;               // of a FIFO of ours for it
  // A peer in another guest, behind our xenloopd (agent_bridge.cc):
  const Devices* devices = nullptr;  // null: it is a process of this kernel
  uint32_t guest = 0;                // the peer's, as xenloopd says
  uint32_t events = 0;               // rings of this period
  uint32_t life = 0;                 // of our guest, when the talk began
  // What the socket did not take yet (agent_post.cc).
  uint32_t first_unsent = 0;  // entry + 1; 0: nothing waits
  uint32_t last_unsent = 0;
  uint32_t answers_unsent = 0;  // JOIN and REFUSE among them
  uint32_t offers_out = 0;      // without an answer
  uint32_t watched = 0;         // the events that the socket is watched for
  bool full = false;            // until EPOLLOUT
  bool short_of = false;        // of memory: until the clock says so
  bool deaf = false;            // has not read for so long that it is given up
};

// kProving: joined, and nobody knows yet whether to the right one (agent_pairing.cc).
// kParking: made by agents, for lives to come (agent_park.cc).
enum class Stage : uint8_t { kNone, kPublished, kWaiting, kOffered, kProving, kParking, kAttached };

// What the kernel says of the addresses of a connection.
enum class Tracking : uint8_t { kNone, kTracked, kTranslated };

// The agent's own notes on a side, by slot.
struct AgentSide {
  Stage stage = Stage::kNone;
  bool told_send = false;     // the peer knows that our FIFO is sealed
  bool told_receive = false;  // the peer knows that its FIFO is sealed
  bool heard = false;         // the peer has told us the like
  bool offer_out = false;     // counted in the talk
  bool in_map = false;
  bool tracked = false;  // by the kernel: its addresses may be translated
  bool seeks = false;    // it is we who know that it may be offered again, so we make the offer
  uint32_t generation = 0;
  uint32_t next_in_bucket = 0;  // slot + 1
  uint32_t talk = kNoTalk;
  uint32_t peer_slot = 0;
  uint32_t peer_generation = 0;
  uint64_t proving_since_ns = 0;
  uint64_t ask_identity = 0;    // of the FIFO of ours that the peer is asked about; 0: none
  uint64_t asked_identity = 0;  // the last one; each is asked about once, until there is an answer
  uint64_t ask_until_ns = 0;
  uint64_t seen_index = 0;  // of our FIFO's producer, at the last look for idle memory
  bool discarded = true;    // no page of our FIFO's data has been used since it was given back
  // A reader that is watched (agent_watch.cc): how far it was when it was last seen to move, and
  // when; the next look. `bypassed`: it stood still, and our direction goes by TCP meanwhile.
  bool bypassed = false;
  uint32_t bypasses = 0;  // of late; see CountBypass
  uint64_t attached_at_ns = 0;
  uint64_t watched_position = 0;
  uint64_t watched_since_ns = 0;
  bool comes_back = false;  // it has gone on before a full FIFO, since the last attempt
  uint64_t watch_at_ns = 0;
  // Bytes in our FIFO that nobody takes (agent_unread.cc): since when, and how far the reader was.
  // `reads_unseen`: the last one to leave any took none of that FIFO; offers of his have to wait.
  bool reads_unseen = false;
  uint64_t unread_since_ns = 0;
  uint64_t unread_taken = 0;
  bool lay_unread = false;  // so it ended: the peer's agent is told with SEALED
  Tuple tuple;
  FifoMapping mine;
  FifoMapping theirs;
};

// kMaxTalks of them once the agent has been started, none before: a program that has no agent
// pays no page for them.
struct TalkTable {
  Talk* first = nullptr;
  Talk& operator[](uint32_t index) const { return first[index]; }
  Talk* begin() const { return first; }
  Talk* end() const { return first == nullptr ? nullptr : first + kMaxTalks; }
};

// What is looked at by the clock (timers.h), in this order.
enum class Timer : uint32_t {
  kReaders,     // of full FIFOs
  kUnread,      // bytes in FIFOs
  kIdleMemory,  // to be given back
  kPostponed,   // upgrades
  kListener,    // could not accept all
  kDevices,
  kPositions,  // asked for, of readers
  kPairings,   // being proved
  kPost,       // that the kernel had no memory for
  kThreads,    // of this program: what they wait in
  kParked,     // connections that nobody uses
  kOwner,      // of the FIFOs that we use: is it another program by now?
  kInherited,  // epoll sets: do other programs have them?
  kCount
};

// A packet that waits for room, with the descriptor that it brings (-1: none), which is private.
struct Unsent {
  ControlMessage message;
  int fd;
  uint32_t next;  // entry + 1
};
// Beyond it a peer is given up that has not read meanwhile.
inline constexpr uint32_t kMostUnsent = 65536;

struct Post {
  Unsent* entries = nullptr;  // kMostUnsent of them, of which `used` have been in use
  uint32_t used = 0;
  uint32_t free = 0;  // entry + 1
  bool due = false;   // some offer that waits may be made, or a deaf peer is to be given up
  uint64_t waiting[kSideWords] = {};  // a bit a side whose offer waits for room
};

inline constexpr uint32_t kBuckets = 16384;

struct AgentState {
  int epoll_fd = -1;
  int listen_fd = -1;
  int page_fd = -1;    // the doorbell's page, for tickets
  int parent_fd = -1;  // a pidfd of the process whose FIFOs we use (agent_borrowed.cc)
  uint64_t id = 0;
  uint64_t netns_cookie = 0;
  uint32_t uid = 0;
  Registry registry;
  AgentSide* sides = nullptr;  // kMaxSides of them
  TalkTable talks;
  // kBuckets of them: first slot + 1 of the published sides whose tuple hashes there.
  uint32_t* buckets = nullptr;

  TimerList<Timer> timers;
  uint64_t clock_ahead_ns = 0;        // of the program's clock, which may stand still: AgentNs
  uint64_t proving[kSideWords] = {};  // a bit a side whose pairing is being proved
  Post post;
  uint32_t looks_in_vain = 0;     // at threads (agent_threads.cc)
  bool awaits_inherited = false;  // Timer::kInherited is set
  PeerTable table;                // whose address is it? By our xenloopd
  uint64_t table_look_at_ns = 0;
  int ending_turns = 0;  // agent_end.cc: of letting go of all, so far

  // In a forked child: as before an agent was started, but for memory, which is used again.
  void Renew();
};
extern AgentState agent;
// The memory behind `sides`, `talks`, `buckets` and the peers' doorbells. False: there is none.
bool MapAgentMemory();

// The agent's clock, for timers and what they look at. Under libfaketime the program's own may
// stand still; then the agent's goes by the times that it has slept.
inline uint64_t AgentNs() { return sys::MonotonicNs() + agent.clock_ahead_ns; }

inline Doorbell& DoorbellOf(const Talk& talk) {
  return agent_shared.peers[&talk - agent.talks.first];
}
// Is the process at the other end of the socket a daemon, and the peer a process of another guest?
inline bool IsBridged(const Talk& talk) { return talk.devices != nullptr; }
// A place in the table as if nobody had used it.
void ForgetToldBells(uint32_t talk);  // agent_bells.cc
inline void Renew(Talk& talk) {
  talk = Talk{};
  DoorbellOf(talk) = Doorbell{};
  ForgetToldBells(static_cast<uint32_t>(&talk - agent.talks.first));
}

}  // namespace xenloop
