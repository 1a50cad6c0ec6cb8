// What agents say to each other over their SEQPACKET sockets, one fixed message a packet. All
// numbers in host order: both ends run on one machine (one host, on Xen). A packet of any other
// size, magic or version is answered by closing the connection. What every version keeps: the first
// kKeptByteCount bytes of a packet; and who is met with a packet of another version, be it an agent
// or xenloopd, says a HELLO of its own before it closes, so that both ends know why.
//
// Between agents:
//   HELLO   + 2 descriptors: doorbell, its page. Both ways, first
//   OFFER   slot, generation, tuple as the receiver sees it, + 1 descriptor: "join my FIFO"
//   JOIN    slot, generation of both, + 1 descriptor: "joined; here is mine"
//   REFUSE  slot, generation of the offer, reason. With kEverySlot, in answer to a HELLO: there
//           will be no talk, for that reason
//   SEALED  slot, generation of both: "a FIFO of this stream is sealed; flush what you owe"
//   BELL    words: number, + 1 descriptor: what my FIFOs name by that number. Who does not take it
//           rings the doorbell instead
//   DATAGRAM_OFFER   slot, generation, tuple as the receiver sees it; word: the number of the
//           sending socket's descriptor, by which the kernel is asked whose it is; + 1 descriptor:
//           a FIFO
//   DATAGRAM_JOIN    slot, generation of both; word: the same of the receiving one: "joined"
//   DATAGRAM_REFUSE  slot, generation of the offer, reason
//   DATAGRAM_SEALED  slot, generation of both: "look at the FIFO between us, it has ended"
//
//   PARK_ASK     slot, generation, tuple as the receiver sees it, + 1 descriptor: "I am going to
//           connect so to your listener, for connections to come; here is my FIFO". Who has not
//           published the listener for that (agent_park.cc) is not asked
//   PARK_JOIN    slot, generation of both; word: the place of the connection on the board, + 2
//           descriptors: a FIFO, the board of the sender's listener: "connect"
//   PARK_READY   slot, generation of both: "accepted: lives may begin"
//   PARK_REFUSE  slot, generation of the one that asked
//
// From an agent to its guest's xenloopd:
//   SEEK    tuple as the other end sees it: who holds that end?
//   KEEP    + 1 descriptor of Xen, for xenloopd to keep a copy of: the event channels in use; after
//           LEAVE with kSuspended, what must not be closed when the agent ends
//   WHERE   tuple as the other end sees it; words: identity of the sender's FIFO. After a
//           suspension without notice: where did your reading of this FIFO end? xenloopd passes
//           it on to the agent at the other end
//   STANDS  slot, generation of the question; words: identity, bytes consumed. The answer, back
//           by the same way. Who does not know says nothing
//
// From xenloopd to an agent:
//   BRIDGE  domid, agent id, word: which transport (0: Xen), + 3 descriptors of it: what follows
//           goes to, or comes from, an agent of that domain. Tickets are words then, also that
//           of HELLO
//   LEAVE   reason: go back to TCP, and let go of all that leads to this peer; to close is the
//           answer. With kSuspended: the descriptors of Xen are of a former life; the talk will
//           be ended presently
//
// A packet that begins with a capital letter and ends in a newline is a question of a tool: STAT,
// OFF, ON; LOOK ("there are new peers"); LEAVE and ARRIVE, for agents of the network namespace
// whose cookie follows in decimal.
#pragma once

#include <cstddef>
#include <cstdint>

#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"

namespace xenloop {

inline constexpr uint32_t kControlMagic = 0x584c4354;  // "XLCT"
#ifndef XENLOOP_CONTROL_STEP  // defined where a test wants another version: tests/e2e/versions.sh
#define XENLOOP_CONTROL_STEP 0
#endif
inline constexpr uint32_t kControlVersion = 3 + XENLOOP_CONTROL_STEP;

inline constexpr uint32_t kEverySlot = 0xffffffff;

enum class ControlType : uint32_t {
  kHello = 1,
  kOffer,
  kJoin,
  kRefuse,
  kSealed,
  kSeek,
  kBridge,
  kLeave,
  kKeep,
  kWhere,
  kStands,
  kBell,
  kDatagramOffer,
  kDatagramJoin,
  kDatagramRefuse,
  kDatagramSealed,
  kParkAsk,
  kParkJoin,
  kParkReady,
  kParkRefuse
};

// Why an offer is refused: the number that is sent. What the other end shows is ReasonOfRefusal.
enum class RefusalReason : uint32_t {
  kUnknownConnection,  // not (yet) published by the receiver: try again later
  kByConfiguration,
  kNotAllowed,
  kBusy,
  kNoResources,
  kNotFound,      // no agent of that guest has published the connection
  kMoving,        // this guest or that one is about to be moved, saved or suspended
  kSuspended,     // this guest has been, without notice
  kNotProvable,   // addresses may be translated, and another user proves nothing
  kOtherVersion,  // the FIFO that came is of a layout that the receiver does not know
  kReaderSlow,    // what was sent to the other end lay unread
  kNotTheirs,     // the kernel does not show that the sender has the socket of that name
  kCount
};

struct ControlMessage {
  uint32_t magic = kControlMagic;
  uint32_t version = kControlVersion;
  ControlType type = ControlType::kHello;
  uint32_t refusal = 0;       // REFUSE; SEALED: kReaderSlow, if that is why
  uint64_t agent_id = 0;      // HELLO
  uint64_t netns_cookie = 0;  // HELLO
  int32_t pid = 0;            // HELLO; for display
  uint32_t sender_slot = 0;
  uint32_t sender_generation = 0;
  uint32_t receiver_slot = 0;
  uint32_t receiver_generation = 0;
  uint32_t domid = 0;  // BRIDGE
  Tuple tuple;         // OFFER, SEEK, DATAGRAM_OFFER
  uint32_t reserved = 0;
  uint64_t words[4] = {0, 0, 0, 0};  // the ticket, between domains; WHERE, STANDS
};
static_assert(sizeof(Tuple) == 36);
static_assert(sizeof(ControlMessage) == 128);
inline constexpr size_t kKeptByteCount = 24;  // to agent_id
static_assert(offsetof(ControlMessage, netns_cookie) == kKeptByteCount);

inline Reason ReasonOfRefusal(uint32_t refusal) {
  switch (static_cast<RefusalReason>(refusal)) {
    case RefusalReason::kUnknownConnection:
      return Reason::kNotPublished;
    case RefusalReason::kByConfiguration:
      return Reason::kOffersRefused;
    case RefusalReason::kNotAllowed:
      return Reason::kOtherUser;
    case RefusalReason::kBusy:
      return Reason::kPeerCannot;
    case RefusalReason::kNotFound:
      return Reason::kNoPeerInGuest;
    case RefusalReason::kMoving:
      return Reason::kGuestMoves;
    case RefusalReason::kSuspended:
      return Reason::kSuspended;
    case RefusalReason::kNotProvable:
      return Reason::kNotProvable;
    case RefusalReason::kOtherVersion:
      return Reason::kOtherVersion;
    case RefusalReason::kReaderSlow:
      return Reason::kUnread;
    case RefusalReason::kNotTheirs:
      return Reason::kSocketUnseen;
    case RefusalReason::kNoResources:
      return Reason::kPeerOutOfResources;
    default:
      return Reason::kRefused;
  }
}

// Whatever else it says, and however long it is.
inline bool IsOfOtherVersion(const ControlMessage& packet, size_t bytes) {
  return bytes >= kKeptByteCount && packet.magic == kControlMagic &&
         packet.version != kControlVersion;
}

}  // namespace xenloop
