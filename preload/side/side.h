// One end of one TCP connection, as this library knows it, and where such ends are kept.
//
// Sides live in an arena of memory shared by a process and the children it forks, so that an
// inherited socket is the same stream in both. A side is made when a TCP socket is made or accepted
// and freed with its last descriptor. Slots are never unmapped: whoever comes late finds a valid
// (perhaps re-used) side, and looks again through the descriptor table under the stream's lock
// before it moves a byte.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/stream.h"
#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"
#include "preload/side/held_options.h"
#include "preload/side/last_data.h"

namespace xenloop {

// How the connection came about: the SYN of the end that connected counts as a byte acknowledged.
enum class Opening : uint32_t {
  kNone,  // not connected
  kAccepted,
  kConnected,
  kUnseen,  // connected before we knew of it
};

struct alignas(64) Side {  // aligned: the descriptor table keeps a tag in a pointer's low bits
  std::atomic<uint32_t> in_use;
  std::atomic<uint32_t> generation;
  std::atomic<int32_t> references;  // descriptors, in all processes that share the arena
  std::atomic<int32_t> holders;     // processes that have such a descriptor
  std::atomic<int32_t> outside;     // of these: came by exec, and do not share the arena
  std::atomic<int32_t> fd;          // one descriptor, valid in the process `owner_pid`
  std::atomic<int32_t> owner_pid;   // whose agent looks after this side; 0: none yet

  SendStream send;
  ReceiveStream receive;

  // What setsockopt and fcntl have said; read anew from the kernel at each upgrade.
  std::atomic<uint32_t> nonblocking;
  std::atomic<uint32_t> receive_low_water;
  std::atomic<uint32_t> tells_bytes_left;   // TCP_INQ: each recvmsg does
  std::atomic<int64_t> receive_timeout_us;  // 0: none
  std::atomic<int64_t> send_timeout_us;
  HeldOptions held ABSL_GUARDED_BY(send.lock);
  LastData last_sent ABSL_GUARDED_BY(send.lock);
  LastData last_received ABSL_GUARDED_BY(receive.lock);

  // When to try an upgrade, and why there is none.
  std::atomic<uint64_t> operations;
  std::atomic<uint64_t> next_attempt;
  std::atomic<uint32_t> pinned;         // never upgrade again: kPinned or kPassedOn
  std::atomic<uint32_t> options_asked;  // and none has been changed since (agent_publish.cc)
  std::atomic<uint32_t> forced;         // by a test, or before a fork: either end may offer
  std::atomic<uint32_t> awaited;        // a fork has waited for it (agent_fork.cc)
  std::atomic<uint32_t> attached;       // the agent holds a channel's FIFOs for this side
  std::atomic<Opening> opening;

  // Threads asleep in a receiving call, and in a sending one. Who is cancelled in the second stays
  // counted.
  std::atomic<int32_t> blocked_calls;
  std::atomic<int32_t> blocked_sends;

  // What the program has ended while something of it was still under way. It has shut its direction
  // down, and the FIN waits for the residue; it has closed the side while calls slept (`fd` is a
  // private number), or while a residue was owed (the number that sends it; -1: not so).
  std::atomic<uint32_t> shutdown_pending;
  std::atomic<uint32_t> shut;  // which directions, in bits of socket/options.cc
  std::atomic<uint32_t> kept;  // another program may have got it, by exec, spawn or SCM_RIGHTS
  std::atomic<uint32_t> orphaned;
  std::atomic<int32_t> lingering_fd;

  std::atomic<Reason> reason;
  std::atomic<uint32_t> upgrades;
  std::atomic<uint32_t> fallbacks;
  std::atomic<uint32_t> both_here;  // the owner has the other end, too
  std::atomic<uint32_t> talk;       // index in the owner's table of talks, valid while attached
  std::atomic<uint32_t> spin_history;
  // By which bell of the owner it wakes who waits for it in poll or epoll (bells.h); the last one
  // that the peer has been told of; and whether somebody has waited in poll: 1, and 2 once the
  // FIFOs say so.
  std::atomic<uint32_t> bell;
  std::atomic<uint32_t> told_bell;
  std::atomic<uint32_t> polled;
  // A child of the owner waits for it too (borrowed.h): then it names no bell but the doorbell.
  std::atomic<uint32_t> lent;

  // Who the other end is, where names do not prove it (channel/pairing.h): begun and ended by the
  // agent of `pairing_pid`, whose mappings it uses, and fed by that process's calls.
  RecoverableLock pairing_lock;
  Pairing pairing;
  std::atomic<int32_t> pairing_pid;
  uint32_t coins;  // random bits, so many of them left
  uint32_t coins_left;

  // Parking (parked.h), in the process `owner_pid`: the pair that it is an end of, the queue that
  // it has as a listener (numbers + 1; 0: none), and the options that the program has set.
  std::atomic<uint32_t> pair;
  std::atomic<uint32_t> queue;
  std::atomic<uint32_t> options_set;

  // Exec (inheritance.cc) and SCM_RIGHTS (passing.cc). `handed_pid` has taken the socket along, or
  // is our own pid where it is we who have it from a former program, or the negative key of the
  // note by which it was passed; `inherited`: others of the former owner's family hold it.
  std::atomic<int32_t> handed_pid;
  std::atomic<uint32_t> handed_uid;
  std::atomic<uint64_t> handed_ns;  // when: which attempt it is (Handover::left_ns)
  std::atomic<uint32_t> inherited;
  std::atomic<uint64_t> cookie;
  // A child that has left our sight with so many of the descriptors (unseen_holders.h).
  std::atomic<int32_t> unseen_pid;
  std::atomic<int32_t> unseen_parent;
  std::atomic<int32_t> unseen_references;
  // A child that has it from the process `forked_parent` by a fork (forked_holders.h); 0: none, or
  // it has taken itself out of the count; negative: it is being noted.
  std::atomic<int32_t> forked_pid;
  std::atomic<int32_t> forked_parent;
  // 0, or a holder has let go of it for an exec that may still fail (leaving.h).
  std::atomic<uint64_t> leaving;

  bool Connected() const { return opening.load(std::memory_order_relaxed) != Opening::kNone; }
  // No FIFO has ever carried it, and no other process has it, whose agent could bring one.
  bool IsCold() const {
    return attached.load(std::memory_order_relaxed) == 0 &&
           upgrades.load(std::memory_order_relaxed) == 0 &&
           holders.load(std::memory_order_relaxed) == 1;
  }
};

inline constexpr uint32_t kPinned = 1;    // for good
inline constexpr uint32_t kPassedOn = 2;  // while we hold it as well as who has got it

inline constexpr uint32_t kMaxSides = 32768;
inline constexpr uint32_t kSideWords = kMaxSides / 64;

// One bit a side; set by any thread of the family, taken by the agent.
struct SideSet {
  std::atomic<uint64_t> words[kSideWords];
  void Add(uint32_t slot) {
    words[slot / 64].fetch_or(1ull << (slot % 64), std::memory_order_seq_cst);
  }
  void Remove(uint32_t slot) {
    words[slot / 64].fetch_and(~(1ull << (slot % 64)), std::memory_order_seq_cst);
  }
  bool Contains(uint32_t slot) const {
    return (words[slot / 64].load(std::memory_order_seq_cst) & (1ull << (slot % 64))) != 0;
  }
};

struct SideArena {
  SideSet used;
  SideSet wanted;   // consider an upgrade
  SideSet service;  // something is sealed or owed: flush, tell the peer, let go
  SideSet watched;  // its sender has found no room: does the reader move?
  SideSet unread;   // bytes went into its FIFO: does anybody take them?
  std::atomic<uint32_t> first_free_word;
  Side sides[kMaxSides];
};

// The arena of this process (shared with forked children), or nullptr before the first socket.
SideArena* Arena();
// Makes it if need be; false: there is no memory.
bool HasArena();
// A side on TCP with one reference, as if its slot had never been used; or nullptr if there is no
// room (then the socket stays on TCP).
Side* AllocateSide();
void FreeSide(Side* side);
inline uint32_t SlotOf(const Side* side) { return static_cast<uint32_t>(side - Arena()->sides); }
inline Side* SideAt(uint32_t slot) { return &Arena()->sides[slot]; }

}  // namespace xenloop
