// A UDP socket, as this library knows it: what it sends by a FIFO, and the FIFOs that it receives
// from. Which datagram goes how is channel/datagram_*.h's matter; who meets whom,
// agent_datagram.cc's.
//
// Memory of this process alone: before a fork everything goes back to the kernel. Slots are never
// unmapped, so whoever comes late finds a valid one, and looks again through the table under the
// lock before it moves a datagram.
//
// Who waits for a datagram waits in the kernel, in the call that the program has made, and counts
// itself before: senders wake it by the kernel (datagram_record.h, kSleepers). So no wait is ours.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "channel/base/abandon.h"
#include "channel/base/lock.h"
#include "channel/datagram_receiver.h"
#include "channel/datagram_sender.h"
#include "channel/transport.h"
#include "discovery/protocol/reasons.h"
#include "preload/libc/errno.h"
#include "preload/side/fd_table.h"
#include "preload/side/udp_name.h"

namespace xenloop {

// The other end of a FIFO, as our agent and its agent number it.
struct DatagramPeer {
  uint32_t talk = ~0u;
  uint32_t slot = 0;
  uint32_t generation = 0;
};

// How far the agent has come with a socket that sends.
enum class DatagramStage : uint8_t { kNone, kWaiting, kOffered, kAttached };

struct alignas(64) DatagramSide {
  // What each call looks at, in one line of the cache.
  std::atomic<uint32_t> in_use;  // 1: has a descriptor; 2: closed, the agent lets go of the rest
  std::atomic<uint32_t> generation;
  std::atomic<int32_t> fd;
  int32_t family;                // AF_INET, AF_INET6
  std::atomic<uint32_t> pinned;  // never by FIFO
  std::atomic<uint32_t> nonblocking;
  std::atomic<uint32_t> sending;       // there is a FIFO to look at
  std::atomic<uint32_t> receiving;     // so many FIFOs are there
  std::atomic<uint32_t> watches;       // it is looked at where each datagram goes
  std::atomic<uint32_t> error_likely;  // it has sent by the kernel: an error comes before data
  std::atomic<int32_t> sleepers;       // threads in calls that wait for a datagram
  std::atomic<int32_t> edge_sleepers;  // those among them that wait for an edge
  std::atomic<uint64_t> kernel_sent, kernel_received;

  std::atomic<Reason> reason;
  std::atomic<uint32_t> shares;  // its port: SO_REUSEADDR or SO_REUSEPORT was set

  // Which the program has sent to last, or is connected to.
  AtomicUdpName destination;
  std::atomic<uint32_t> connected;

  // Is it hot, and is anybody there to meet? (socket/datagram_hot.cc)
  std::atomic<uint32_t> run;  // so many in a row have gone to `destination`
  std::atomic<uint64_t> run_since_ns, receives_since_ns;
  std::atomic<uint32_t> send_looks, receive_looks;
  std::atomic<uint64_t> next_send_look_ns, next_receive_look_ns;
  // For the agent: kWants... bits.
  std::atomic<uint32_t> wants;
  std::atomic<uint32_t> asked;  // the agent knows of this socket, and lets go of it
  std::atomic<uint32_t> published;

  // By FIFOs.
  std::atomic<uint64_t> fifo_sent, fifo_received, fallbacks, upgrades;

  // ---- sending ----
  RecoverableLock send_lock;
  DatagramSender sender ABSL_GUARDED_BY(send_lock);
  UdpName fifo_destination ABSL_GUARDED_BY(send_lock);
  FifoMapping mine;  // of an offer: the agent's own; attached: under the send lock
  Endpoint fifo_source ABSL_GUARDED_BY(send_lock);  // the name that the receiver tells
  UdpName offered_to;                               // the agent's own
  uint64_t kernel_seen ABSL_GUARDED_BY(send_lock);  // of kernel_sent: what a record has told of
  // The receiving socket, as the kernel shows it: its process, its number there, its inode.
  int32_t receiver_pid ABSL_GUARDED_BY(send_lock);
  uint32_t receiver_fd ABSL_GUARDED_BY(send_lock);
  uint32_t receiver_inode ABSL_GUARDED_BY(send_lock);
  uint32_t rings ABSL_GUARDED_BY(send_lock);  // since the last record: datagrams to a sleeper
  std::atomic<uint32_t> quiet_sends;          // so many went by the kernel before the last try
  std::atomic<uint64_t> quiet_until;          // no try before the kernel has sent so many
  DatagramPeer receiver_at;                   // the agent's own
  DatagramStage stage;                        // likewise

  // ---- receiving ----
  RecoverableLock receive_lock;
  DatagramReceiver receiver ABSL_GUARDED_BY(receive_lock);
  struct Source {
    FifoMapping theirs;
    SocketName name;
    DatagramPeer at;
    std::atomic<uint32_t> used;  // 1: joined; 2: let go, the agent tells its peer
  } sources[DatagramQueue::kMostSlots];
  uint64_t
      unread_at;  // the agent's own: what had been taken when something lay there, + 1; 0: nothing
  // Several threads use it: the datagram that wakes one may be taken by another. From then on
  // nothing goes by FIFO while anybody sleeps.
  std::atomic<uint32_t> crowded;
  std::atomic<uint32_t> half_done;  // a signal handler has jumped out from under the receive lock
};

inline constexpr uint32_t kMostDatagramSides = 1024;
inline constexpr uint32_t kWantsToSend = 1;
inline constexpr uint32_t kWantsToReceive = 2;
inline constexpr uint32_t kWantsService = 4;  // something has ended

// All of them (kMostDatagramSides), or nullptr before the first.
DatagramSide* DatagramSides();
DatagramSide* DatagramSideAt(uint32_t slot);
uint32_t SlotOf(const DatagramSide* side);
template <typename Visit>
void EachDatagramSide(Visit visit) {
  DatagramSide* const all = DatagramSides();
  if (all == nullptr) return;
  for (uint32_t i = 0; i < kMostDatagramSides; ++i) {
    if (all[i].in_use.load(std::memory_order_acquire) != 0) visit(&all[i]);
  }
}
// nullptr: no room.
DatagramSide* AllocateDatagramSide();
void FreeDatagramSide(DatagramSide* side);

// Something of this side is for the agent, if there is one.
void AskAgent(DatagramSide* side, uint32_t wants);
// Of all UDP sockets that there are or have been, for people.
struct DatagramCounts {
  uint64_t fifo_sent, fifo_received, kernel_sent, kernel_received;
  // Because a queue was full: by a sender that saw it in its FIFO, by the receiver that added up
  // those of several senders, and by the kernel (of sockets that are open).
  uint64_t dropped_sending, dropped_receiving, dropped_kernel;
  uint64_t upgrades, fallbacks;
  bool Any() const { return fifo_sent + fifo_received + kernel_sent + kernel_received != 0; }
};
DatagramCounts CountedDatagrams();
void ForgetDatagramCounts();  // in a forked child
// {"fifo_sent":n,...} into `text`; the length.
size_t FormatDatagrams(char* text, size_t capacity);
// Set by AskAgent, taken by the agent.
extern std::atomic<uint32_t> datagrams_due;

// The kernel's socket as channel/datagram_*.h wants it.
struct DatagramShadow {
  int fd;
  DatagramSide* side;
  SocketName from{};  // of what Peek has found
  UdpName to{};       // SendRecord's; not known: where the socket is connected to

  ssize_t Peek(IovCursor* into);
  ssize_t Take(IovCursor* into);
  ssize_t SendRecord(const iovec* iov, size_t count);
  void Wake() {}
  bool IsReceiverThere() const;
  // What it sends comes under the name that it had when it went over to the FIFO: a connect may
  // have taken its port.
  bool HasItsName() const;
};

// The kernel's socket has neither a datagram nor an error for the program now.
bool IsKernelDry(int fd);
// The length of its first datagram, or -EAGAIN; takes neither that nor an error.
ssize_t FirstOfKernel(int fd);
// It has an error.
bool HasKernelError(int fd);

// This thread goes into a call of the kernel that waits for a datagram: it counts itself, then
// tells the senders; or it comes back. Tell: false: there is one in a FIFO now, and the call must
// not wait. `wanted`: the call ends when it has so many; who wants more than one counts as two
// sleepers, since no single one wakes it.
inline int32_t SleepersFor(uint32_t wanted) { return wanted > 1 ? 2 : 1; }
inline void CountDatagramSleeper(DatagramSide* side, bool for_edge = false, uint32_t wanted = 1) {
  if (for_edge) side->edge_sleepers.fetch_add(1, std::memory_order_seq_cst);
  // seq_cst: before the look whether there are FIFOs; pairs with the agent, which counts a FIFO and
  // then tells it of the sleepers.
  side->sleepers.fetch_add(SleepersFor(wanted), std::memory_order_seq_cst);
}
bool TellOfDatagramSleep(DatagramSide* side);
void TellOfDatagramWake(DatagramSide* side);
inline void DatagramWake(DatagramSide* side, uint32_t generation, bool for_edge = false,
                         uint32_t wanted = 1) {
  if (side->generation.load(std::memory_order_acquire) != generation) return;
  if (for_edge) side->edge_sleepers.fetch_sub(1, std::memory_order_seq_cst);
  side->sleepers.fetch_sub(SleepersFor(wanted), std::memory_order_seq_cst);
  if (side->receiving.load(std::memory_order_seq_cst) != 0) TellOfDatagramWake(side);
}
// The same for a call that may never come back: its thread is cancelled, or a handler jumps.
class DatagramSleeper : public Abandonable {
 public:
  explicit DatagramSleeper(DatagramSide* side, uint32_t wanted = 1)
      : side_(side),
        generation_(side->generation.load(std::memory_order_acquire)),
        wanted_(wanted) {
    Enter(&GiveBack);
    CountDatagramSleeper(side, /*for_edge=*/false, wanted);
    counted_ = true;
    if (side->receiving.load(std::memory_order_seq_cst) != 0) may_wait_ = TellOfDatagramSleep(side);
  }
  ~DatagramSleeper() {
    const KeepErrno keep_errno;
    Leave();
    DatagramWake(side_, generation_, /*for_edge=*/false, wanted_);
  }
  bool MayWait() const { return may_wait_; }

 private:
  static void GiveBack(Abandonable* scope) {
    auto* const self = static_cast<DatagramSleeper*>(scope);
    if (self->counted_) DatagramWake(self->side_, self->generation_, false, self->wanted_);
  }
  DatagramSide* const side_;
  const uint32_t generation_;
  const uint32_t wanted_;
  bool counted_ = false;
  bool may_wait_ = true;
};
// A call was left while it held that lock: if it is one of ours, what it was doing is half done.
void DatagramLockAbandoned(const RecoverableLock* lock);
// Under the receive lock: all senders are told who sleeps.
void TellSleepers(DatagramSide* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->receive_lock);
// Its datagrams go by the kernel again: for people.
void CountDatagramEnd(DatagramSide* side, Reason reason);
// Under the receive lock: a thread has taken a datagram of the kernel. True: it may have been the
// one that was to wake another, for which something stands in a FIFO.
bool HasTakenAnothersRing(DatagramSide* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->receive_lock);
// A datagram stands in a FIFO. `published`: changes with each that comes.
bool DatagramReadable(DatagramSide* side, uint64_t* published);

// None of its senders can send while this thread spins: they were last seen on the processor that
// it has, or there is no other.
bool SendersShareOurProcessor(DatagramSide* side);

// ---- back to the kernel ----

// The one door: what is sent from here on goes by the kernel, and what has been sent by FIFOs is
// read from where it is or is in the kernel's queue when this returns (kNow, kGood: it is not
// looked at again). Harmless on a socket that is with the kernel.
enum class KernelFor : uint8_t { kNow, kGood };
void DatagramToKernel(int fd, Reason reason, KernelFor how_long);
// Of one direction. Sending: what the FIFO holds is the receiver's.
void StopSending(DatagramSide* side, Reason reason);
// Receiving, as connect does: what has come stays.
void EndSources(DatagramSide* side, Reason reason);
// The last close, before the real one.
void DatagramClosed(int fd, DatagramSide* side);
// Lets go of the FIFOs that have come to their end. Under the receive lock.
void ReapSources(DatagramSide* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->receive_lock);
// Of all sockets, both directions, as connect does: nobody else reads them. Waits for nobody.
void EndDatagrams(Reason reason);
// All of this process; waits for what is to be flushed if `wait`.
void DatagramsToKernel(Reason reason, KernelFor how_long);
// They are ordinary sockets from now on: in a forked child, or before a sandbox.
void ForgetDatagramSides();

}  // namespace xenloop
