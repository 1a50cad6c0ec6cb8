// What agents say to each other over their SEQPACKET sockets, one fixed message a packet. All
// numbers in host order: both ends run on one machine (one host, on Xen). A packet of any other
// size, magic or version is answered by closing the connection.
//
//   HELLO   + 2 descriptors (doorbell, its page)      both ways, first
//   SEEK    tuple as the receiver sees it             to the guest's xenloopd: who holds that end?
//   BRIDGE  domid, agent id + 3 descriptors of Xen    from xenloopd: what follows goes to, or comes
//                                                     from, an agent of that domain; tickets are
//                                                     words then, also that of HELLO
//   OFFER   slot, generation, tuple as the receiver sees it, + 1 descriptor: "join my FIFO"
//   JOIN    slot, generation of both, + 1 descriptor: "joined; here is mine"
//   REFUSE  slot, generation of the offer, reason
//   LEAVE   reason                                    from xenloopd: go back to TCP, let go of all
//   that
//                                                     leads to this peer; to close is to answer
//           or kSuspended                             from xenloopd: the descriptors of Xen are of
//           a former
//                                                     life; it will end the talk presently
//   KEEP    + 1 descriptor of Xen                     to xenloopd: the event channels in use; after
//                                                     kSuspended: what must not be closed when we
//                                                     end
//   WHERE   tuple as the other end sees it, words:    to xenloopd, after a suspension without
//   notice, and
//           identity of the sender's FIFO             from there to the agent at the other end
//           (tuple as it
//                                                     sees it): where did your reading of this FIFO
//                                                     end?
//   STANDS  slot, generation of the question, words:  the answer, the same way back. Who does not
//   know
//           identity, bytes consumed                  says nothing
//   SEALED  slot, generation of both: "a FIFO of this stream is sealed; flush what you owe"
//
// A packet that begins with a capital letter and ends in a newline is a question of a tool: STAT,
// OFF, ON; LOOK ("there are new peers"); LEAVE and ARRIVE, for agents of the network namespace
// whose cookie follows in decimal.
#pragma once

#include <cstdint>

#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"

namespace xenloop {

inline constexpr uint32_t kControlMagic = 0x584c4354;  // "XLCT"
inline constexpr uint32_t kControlVersion = 2;

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
  kStands
};

// Why an offer is refused: the number that is sent. What the other end shows is ReasonOfRefusal.
enum class RefusalReason : uint32_t {
  kUnknownConnection,  // not (yet) published by the receiver: try again later
  kByConfiguration,
  kNotAllowed,
  kBusy,
  kNoResources,
  kNotFound,   // no agent of that guest has published the connection
  kMoving,     // this guest or that one is about to be moved, saved or suspended
  kSuspended,  // this guest has been, without notice
  kCount
};

struct ControlMessage {
  uint32_t magic = kControlMagic;
  uint32_t version = kControlVersion;
  ControlType type = ControlType::kHello;
  uint32_t refusal = 0;
  uint64_t agent_id = 0;      // HELLO
  uint64_t netns_cookie = 0;  // HELLO
  int32_t pid = 0;            // HELLO; for display
  uint32_t sender_slot = 0;
  uint32_t sender_generation = 0;
  uint32_t receiver_slot = 0;
  uint32_t receiver_generation = 0;
  uint32_t domid = 0;  // BRIDGE
  Tuple tuple;         // OFFER, SEEK
  uint32_t reserved = 0;
  uint64_t words[4] = {0, 0, 0, 0};  // the ticket, between domains; WHERE, STANDS
};
static_assert(sizeof(Tuple) == 36);
static_assert(sizeof(ControlMessage) == 128);

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
    case RefusalReason::kNoResources:
      return Reason::kPeerOutOfResources;
    default:
      return Reason::kRefused;
  }
}

}  // namespace xenloop
