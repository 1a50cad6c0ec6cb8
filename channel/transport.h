// The seam below streams: what a transport (local: memfd and a socket; xen: grants and event
// channels) must offer. A transport is on no data path except the doorbell. It never sees streams,
// sockets or the program's descriptors.
//
// A table of functions and not a class with virtuals: it needs no C++ runtime in the shared object,
// and a test can make one on the spot (tests/contract/ runs one suite over every table).
#pragma once

#include <cstddef>
#include <cstdint>

#include "channel/fifo.h"

namespace xenloop {

inline constexpr size_t kTicketDescriptors = 3;

// What the peer needs to join an offered FIFO or to ring a doorbell. Two descriptors travel
// with it at the most (local; the third is for a daemon's packets); `words` is for transports whose
// tickets are numbers (xen: grant references, event channel port). `domid` is set by the caller,
// who knows to whom it is talking.
struct Ticket {
  uint32_t domid = 0;
  int fds[kTicketDescriptors] = {-1, -1, -1};
  uint64_t words[4] = {0, 0, 0, 0};
};

struct FifoMapping {
  Fifo fifo;
  void* memory = nullptr;
  size_t memory_bytes = 0;
  bool mine = false;             // we are the producer
  uint64_t handles[2] = {0, 0};  // the transport's own business
};

// The wake-up line into one process. The page is written by its owner and mapped read-only by
// peers.
struct DoorbellPage {
  std::atomic<uint32_t> sleepers;  // threads of the owner asleep in a wait that the doorbell ends
  // 1, and 0 once the owner has gone: the kernel of its guest sees to that (xen; elsewhere always
  // 0).
  std::atomic<uint8_t> alive;
};
struct Doorbell {
  int fd = -1;  // readable at all times; a ring is an edge (EPOLLET), and there is nothing to drain
  DoorbellPage* page = nullptr;
  // Where a ring is an ioctl on a port and not a write (xen). One doorbell then serves both
  // directions: `page` is the peer's, `own_page` what it reads of us.
  unsigned long ring_request = 0;
  uint32_t port = 0;
  DoorbellPage* own_page = nullptr;
  bool tells_death = false;  // the page has said "alive"
  uint64_t handle = 0;       // the transport's own business
};

struct Transport {
  const char* name;  // the route's name in tools: "local", "xen"

  // Makes a FIFO owned by the caller, the producer. 0 or -errno. The ticket's descriptors belong to
  // the caller and are closed after sending.
  int (*create_fifo)(uint64_t capacity_bytes, FifoMapping* mapping, Ticket* ticket);
  // Maps the FIFO behind a peer's ticket, after checking that the peer cannot pull the memory away
  // (-EPERM) and that it is a FIFO (-EPROTO). Closes the ticket's descriptors in any case.
  int (*map_fifo)(Ticket* ticket, FifoMapping* mapping);
  void (*release_fifo)(FifoMapping* mapping);
  // Gives the FIFO's data pages back to the system while keeping the mapping; only when nothing in
  // it matters.
  void (*discard_data)(const FifoMapping& mapping);

  // Ends what the peer has of a FIFO, or we of the peer's, when both words are sealed, and keeps a
  // copy at the same address: what it still owes can be sent, or is there if its sender dies. It is
  // memory of this process then, `fifo.foreign` is false, and the local transport releases it. 0 or
  // -errno.
  int (*keep_privately)(FifoMapping* mapping);

  int (*create_doorbell)(Doorbell* doorbell, Ticket* ticket);
  int (*map_doorbell)(Ticket* ticket, Doorbell* doorbell);
  void (*release_doorbell)(Doorbell* doorbell);
};

// The owner's death, where the page tells it (xen). It is rung as well, after the page has changed.
inline bool OwnerIsDead(const Doorbell& doorbell) {
  return doorbell.tells_death && doorbell.page->alive.load(std::memory_order_acquire) == 0;
}

// Rings if the owner has sleepers, or a thread of it is known to sleep (`certain`). Any thread;
// never blocks; async-signal-safe.
void RingDoorbell(const Doorbell& doorbell, bool certain = false);
// The same for sleepers that the page does not count.
void RingAnyway(const Doorbell& doorbell);

const Transport& LocalTransport();

}  // namespace xenloop
