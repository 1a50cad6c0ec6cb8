// The half of the agent's state that any thread of the process may touch: atomics, and what is
// constant while others look at it. The other half is the agent thread's own: agent/agent_state.h.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/transport.h"
#include "discovery/protocol/reasons.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr uint32_t kMaxTalks = 1024;
inline constexpr uint32_t kMostGuests = 64;

// `xenloop off`: told to this agent, or found in the file that root leaves for the whole machine.
// kLeft: `xenloop leave`, before a move.
enum class Switch : uint32_t { kOn, kToldOff, kFoundOff, kLeft };
inline constexpr const char* kSwitchedOffFile = "/run/xenloop/off";

// The agent's thread is asked to end if it has nothing attached, and ends; kWanted again taken back
// by who asked.
enum class Rest : uint32_t { kNo, kWanted, kGranted };

inline constexpr int kAgentFailed = 3;
inline constexpr size_t kMostAncestors = 4;  // with an agent; of the oldest we let go

struct AgentShared {
  std::atomic<uint32_t> tid{0};                      // of the agent's thread
  std::atomic<int> started{0};                       // 0 no, 1 being started, 2 runs, kAgentFailed
  std::atomic<Reason> start_failure{Reason::kNone};  // why there is none
  // Why none may be started, found before the first start (agent/upgrade.cc); kNone: it may be.
  std::atomic<Reason> obstacle{Reason::kFilterUntried};
  // Why the agent is to end, or must not be started; kNone: it may run.
  std::atomic<Reason> ending{Reason::kNone};
  std::atomic<Rest> rest{};
  std::atomic<Switch> refused_for_now{};
  std::atomic<int> poke_fd{0};
  // The number of the descriptor of the program's that the agent makes a system call on, plus 1; 0:
  // none (agent_asks.h).
  std::atomic<int> asks_about{0};
  // Bytes went into a FIFO, and the agent has been asked to look whether they are taken.
  std::atomic<uint32_t> unread{0};
  // Of the processes that we come from, the youngest first: sides that one of them has attached are
  // looked after by its agent.
  struct Ancestor {
    std::atomic<int32_t> pid{0};
    std::atomic<int> poke_fd{0};
    std::atomic<uint32_t> agent_tid{0};  // 0: not known
  } ancestors[kMostAncestors];
  // What we have from the youngest of them for FIFOs that it has attached (borrowed.h): its
  // doorbell, constant after the fork; how a side becomes one that we use, which is the agent's
  // business; which have become that; and whether one has, so that our sleepers are counted there.
  Doorbell parents_doorbell;
  std::atomic<bool (*)(Side*)> borrow{nullptr};
  SideSet borrowed = {};
  std::atomic<uint32_t> borrows{0};
  std::atomic<uint32_t> parent_owes{0};  // TCP does not take it all; the agent has to know
  std::atomic<uint32_t> parent_lost{0};  // it has ended, or cannot be watched
  Doorbell doorbell;                     // ours; constant once started
  // Those of the other processes, kMaxTalks of them once the agent has been started. One is read
  // by any thread that holds a stream's lock while the stream is attached to this talk; it is
  // released only when no side uses the talk.
  Doorbell* peers = nullptr;
  // Their bells, kMostBells a peer once it has told us of one.
  std::atomic<Bell*> peer_bells[kMaxTalks] = {};
  // What other guests may see of our sleepers. Pages are added and stay.
  DoorbellPage* own_pages[kMostGuests] = {};
  std::atomic<uint32_t> own_page_count{0};
  std::atomic<uint32_t> starting_over{0};  // the thread that does (agent_end.cc)
  std::atomic<uint32_t> forking{0};        // no side is attached to another guest meanwhile
  // Sides that another process holds, or has had upgraded and must let go of (agent_retry.cc).
  SideSet postponed = {};
  std::atomic<uint32_t> newly_postponed{0};

  // In a forked child that has had an agent: as if there had never been one. What stays: the pokes
  // of those we come from and the peers, since a thread of ours may still ring them through sides
  // that the parent attached.
  void Renew();
};
extern AgentShared agent_shared;

}  // namespace xenloop
