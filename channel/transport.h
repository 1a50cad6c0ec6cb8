// The seam below streams: what a transport (local: memfd and a socket; xen: grants and event
// channels) must offer. A transport is on no data path except the doorbell. It never sees streams,
// sockets or the program's descriptors. PORTING.md says how one is added.
//
// A table of functions and not a class with virtuals: it needs no C++ runtime in the shared object,
// and a test can make one on the spot (tests/contract/ runs one suite over every table).
#pragma once

#include <cstddef>
#include <cstdint>

#include "channel/fifo.h"

namespace xenloop {

struct Transport;

inline constexpr size_t kTicketDescriptors = 3;

// What the peer needs to join an offered FIFO or to ring a doorbell. Two descriptors travel
// with it at the most (local; the third is for a daemon's packets); `words` is for transports whose
// tickets are numbers (xen: grant references, event channel port).
struct Ticket {
  // For whom it is, or who has sent it, as the transport numbers its peers (xen: the domid; local:
  // nothing). Set by the caller, who knows to whom it is talking, and never taken from a message.
  uint32_t peer = 0;
  int fds[kTicketDescriptors] = {-1, -1, -1};
  uint64_t words[4] = {0, 0, 0, 0};
};

struct FifoMapping {
  Fifo fifo;
  void* memory = nullptr;
  size_t memory_bytes = 0;
  const Transport* transport = nullptr;  // whose memory it is; null: our own, kept privately
  bool mine = false;                     // we are the producer
  uint64_t handles[2] = {0, 0};          // the transport's own business
};

// The wake-up line into one process. The page is written by its owner and mapped read-only by
// peers. A transport may keep more in a page of its own, behind this.
struct DoorbellPage {
  std::atomic<uint32_t> sleepers;  // threads of the owner asleep in a wait that the doorbell ends
  // How often one has gone to sleep, or woken: changed before he looks at the FIFOs, both times.
  // Who has rung since the last change need not ring again: all who sleep are woken, and have not
  // looked yet.
  std::atomic<uint64_t> changes;

  // 1: one goes to sleep; ~0u: one has woken; 0: one has seen a ring that was for others as well.
  // seq_cst, both: counted before the look at the FIFOs; pairs with RingDoorbell.
  void Count(uint32_t more) {
    sleepers.fetch_add(more, std::memory_order_seq_cst);
    changes.fetch_add(1, std::memory_order_seq_cst);
  }
};
// A local process may have bells besides, each of which wakes some of its sleepers only. The
// sleepers of a bell have a line of their own in the page, as those of the doorbell, who are all,
// have the first.
inline constexpr uint32_t kMostBells = 1024;
inline constexpr size_t kLineBytes = 64;
inline DoorbellPage* LineOf(DoorbellPage* page, uint32_t bell) {
  return reinterpret_cast<DoorbellPage*>(reinterpret_cast<char*>(page) + bell * kLineBytes);
}
// At whom rings it.
struct Bell {
  int fd;         // 0: not known here
  uint64_t rung;  // as in the doorbell
};

struct Doorbell {
  int fd = -1;           // at the owner: readable at all times, a ring is an edge (EPOLLET), and
                         // there is nothing to drain
  bool owns_fd = false;  // the descriptor is this doorbell's alone, and is closed with it
  DoorbellPage* page = nullptr;  // of whoever is rung
  // Ours, where we count those of our sleepers whom the peer of this doorbell may ring. With a
  // doorbell per peer it stays mapped when that is released: any thread may be about to count
  // itself there.
  DoorbellPage* own_page = nullptr;
  void (*ring)(const Doorbell&) = nullptr;  // never blocks; async-signal-safe; any thread
  mutable uint64_t rung = 0;        // `changes` of the page when we have last rung; any thread
  uint32_t lines = 1;               // of the page: one more than the highest bell
  uint64_t handles[3] = {0, 0, 0};  // the transport's own business
};

struct Transport {
  const char* name;  // the route's name in tools: "local", "xen"
  // The peers run under another kernel, in another guest. No futex reaches them, they have
  // processors of their own, their memory can vanish from under a mapping (it reads as all ones
  // then), and a forked child has none of it. Each Fifo of the transport says so too.
  bool foreign;
  // Each peer gets a doorbell of ours for itself, made when we speak to it first. Else one doorbell
  // of the process serves all, and tickets for it are copies.
  bool doorbell_per_peer;

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
  // Puts a copy at the same address and lets go of what was shared. 0 or -errno. See KeepPrivately.
  int (*keep_privately)(FifoMapping* mapping);

  int (*create_doorbell)(Doorbell* doorbell, Ticket* ticket);
  int (*map_doorbell)(Ticket* ticket, Doorbell* doorbell);
  void (*release_doorbell)(Doorbell* doorbell);

  // A bell of ours besides the doorbell: its descriptor, or -errno. Null: there are none.
  int (*create_bell)() = nullptr;
  // A peer's ticket for one, after checking that ringing it neither blocks nor fails: its
  // descriptor, or -EPERM. Closes what it does not take.
  int (*map_bell)(Ticket* ticket) = nullptr;
};

// Releases a mapping, whosever it is. Harmless on an empty one.
void ReleaseFifo(FifoMapping* mapping);
// Ends what the peer has of a FIFO, or we of the peer's, when both words are sealed, and keeps a
// copy at the same address: what it still owes can be sent, or is there if its sender dies. It is
// memory of this process alone then. 0 (also if it has been done before) or -errno.
int KeepPrivately(FifoMapping* mapping);

// Rings if the owner has sleepers whom we have not rung yet, or a thread of it is known to sleep
// (`certain`). Any thread; never blocks; async-signal-safe. tests/model/bell.pml.
void RingDoorbell(const Doorbell& doorbell, bool certain = false);
// The same for sleepers that the page does not count.
void RingAnyway(const Doorbell& doorbell);
// The same for those of one bell of the process. Where the bell is not known here (null, or without
// a descriptor) the doorbell wakes them, and all others with them.
void RingBell(const Doorbell& doorbell, Bell* bell, uint32_t number);
void RingBellAnyway(const Doorbell& doorbell, const Bell& bell);

}  // namespace xenloop
