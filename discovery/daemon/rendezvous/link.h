// The byte channel between the daemons of two guests: a FIFO each way and an event channel, found
// through keys that only these two domains can read. What arrives by it comes from the daemon of
// that domain and from nobody else, since Xen lets a domain map only what was granted to it.
//
//   data/xenloop-link/PEER in XenStore, written by its owner, readable by PEER:
//     "1 NONCE REFERENCE PAGES IDENTITY PORT ECHO"   numbers in hexadecimal
//
// NONCE is drawn anew for each attempt, ECHO is the peer's NONCE as we see it (0: none). The link
// stands when each sees its own NONCE echoed. The lower domid makes the event channel (PORT).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "channel/transport.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

// A frame: header, payload. `bridge` is a number that the opener has chosen.
enum class FrameType : uint32_t { kOpen = 1, kOpened, kRefused, kPacket, kClose, kLeave };
struct FrameHeader {
  uint32_t length;  // with this header
  FrameType type;
  uint32_t bridge;
  uint32_t reserved;
};
inline constexpr uint32_t kLongestFrame = 512;

struct Frame {
  FrameType type;
  uint32_t bridge;
  std::string payload;
};

class Link {
 public:
  Link(XenStore* store, uint32_t own_domid, uint32_t peer_domid);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  uint32_t domid() const { return peer_; }
  bool stands() const { return stands_; }
  uint32_t own() const { return own_; }
  // This guest has been suspended without notice since: the peer's memory is not there any more.
  bool Gone() const { return stands_ && theirs_.fifo.CutOff(); }
  uint32_t port() const;

  // Publishes our part; the link is down until Follow() finds the other.
  absl::Status Start();
  // Looks at the peer's key. kUnavailable: the link has broken down and begins anew.
  absl::Status Follow();

  // False: too much is waiting, the peer does not read. Nothing is added then, and Receive() says
  // that the link is to begin anew.
  bool Send(FrameType type, uint32_t bridge, const void* payload, size_t length);
  size_t waiting_bytes() const { return outgoing_.size(); }
  // What has come, at most what the FIFO holds: the peer may go on writing for ever. Who writes
  // more meanwhile rings again. False: nonsense has come; Reset().
  bool Receive(std::vector<Frame>* frames);
  // Moves what waits into the FIFO, as far as there is room.
  void Pump();
  absl::Status Reset();

  // Our part vanishes from XenStore: for the peer this means that we shall use the link no more.
  void Withdraw();
  // Nothing of the peer's daemon is left in this link, or it never stood.
  bool PeerHasLeft();

 private:
  struct Key;
  absl::Status Publish();
  absl::Status Open(const Key& theirs);
  void Drop();

  XenStore* const store_;
  const uint32_t own_;
  const uint32_t peer_;
  const std::string own_key_;
  const std::string peer_key_;
  bool stands_ = false;
  uint64_t nonce_ = 0;
  uint64_t echo_ = 0;
  FifoMapping mine_;
  FifoMapping theirs_;
  Ticket ticket_;
  Doorbell bell_;
  uint64_t known_consumer_ = 0;
  std::string outgoing_;
  std::string incoming_;
};

// Total: any text gives a key or "no".
struct LinkKey {
  uint64_t nonce, reference, pages, identity, port, echo;
};
bool ParseLinkKey(const std::string& text, LinkKey* key);
std::string FormatLinkKey(const LinkKey& key);

}  // namespace xenloop
