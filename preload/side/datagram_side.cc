// See datagram_side.h.
#include "preload/side/datagram_side.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "discovery/owner.h"
#include "preload/side/agent_shared.h"
#include "preload/side/log.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"

namespace xenloop {

std::atomic<uint32_t> datagrams_due{0};

namespace {
std::atomic<DatagramSide*> sides{nullptr};
DatagramSide* MapSides() {
  constexpr size_t kBytes = sizeof(DatagramSide) * kMostDatagramSides;
  const long memory = sys::Call(SYS_mmap, 0, kBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  auto* const made = reinterpret_cast<DatagramSide*>(memory);
  DatagramSide* none = nullptr;
  if (sides.compare_exchange_strong(none, made, std::memory_order_acq_rel)) return made;
  sys::Call(SYS_munmap, memory, kBytes);
  return none;
}
}  // namespace

DatagramSide* DatagramSides() { return sides.load(std::memory_order_acquire); }
DatagramSide* DatagramSideAt(uint32_t slot) { return &DatagramSides()[slot]; }
uint32_t SlotOf(const DatagramSide* side) { return static_cast<uint32_t>(side - DatagramSides()); }

// The caller is alone with it until it stands in the table.
DatagramSide* AllocateDatagramSide() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DatagramSide* all = DatagramSides();
  if (all == nullptr) all = MapSides();
  for (uint32_t i = 0; all != nullptr && i < kMostDatagramSides; ++i) {
    DatagramSide& side = all[i];
    uint32_t free = 0;
    if (side.in_use.load(std::memory_order_relaxed) != 0 ||
        !side.in_use.compare_exchange_strong(free, 1, std::memory_order_acq_rel))
      continue;
    side.generation.fetch_add(1, std::memory_order_acq_rel);
    for (auto* word : {&side.pinned, &side.nonblocking, &side.shares, &side.connected, &side.run,
                       &side.send_looks, &side.receive_looks, &side.wants, &side.published,
                       &side.sending, &side.receiving, &side.error_likely, &side.crowded,
                       &side.asked, &side.half_done, &side.quiet_sends})
      word->store(0, std::memory_order_relaxed);
    side.watches.store(1, std::memory_order_relaxed);
    side.destination.Store(UdpName{});
    for (auto* word :
         {&side.run_since_ns, &side.receives_since_ns, &side.next_send_look_ns,
          &side.next_receive_look_ns, &side.quiet_until, &side.kernel_sent, &side.kernel_received,
          &side.fifo_sent, &side.fifo_received, &side.fallbacks, &side.upgrades})
      word->store(0, std::memory_order_relaxed);
    side.sleepers.store(0, std::memory_order_relaxed);
    side.edge_sleepers.store(0, std::memory_order_relaxed);
    side.reason.store(Reason::kNotHotYet, std::memory_order_relaxed);
    side.sender.route.store(DatagramRoute::kKernel, std::memory_order_relaxed);
    side.sender.pending_error = 0;
    side.rings = 0;
    side.sender.dropped = 0;
    side.receiver = DatagramReceiver{};
    side.mine = FifoMapping{};
    side.receiver_at = DatagramPeer{};
    side.unread_at = 0;
    side.stage = DatagramStage::kNone;
    for (auto& source : side.sources) source.used.store(0, std::memory_order_relaxed);
    return &side;
  }
  return nullptr;
}

void AskAgent(DatagramSide* side, uint32_t wants) {
  side->asked.store(1, std::memory_order_release);
  side->wants.fetch_or(wants, std::memory_order_acq_rel);
  datagrams_due.store(1, std::memory_order_release);
  Poke(process_state.pid);
}

// ---- the kernel's socket ----

namespace {
ssize_t ReceiveNow(DatagramShadow* shadow, IovCursor* into, int flags) {
  constexpr size_t kMostPieces = 64;
  iovec pieces[kMostPieces];
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = into != nullptr ? into->Rest(pieces, kMostPieces, SIZE_MAX) : 0;
  message.msg_name = &shadow->from.v6;
  message.msg_namelen = sizeof shadow->from.v6;
  const long result =
      sys::Call(SYS_recvmsg, shadow->fd, sys::Word(&message), flags | MSG_DONTWAIT | MSG_TRUNC);
  shadow->from.length = message.msg_namelen;
  return result;
}

short EventsOf(int fd, short events) {
  pollfd entry{fd, events, 0};
  const timespec now{0, 0};
  return sys::Call(SYS_ppoll, sys::Word(&entry), 1, sys::Word(&now), 0, 8) > 0 ? entry.revents
                                                                               : short{0};
}
}  // namespace

bool IsKernelDry(int fd) { return EventsOf(fd, POLLIN) == 0; }
ssize_t FirstOfKernel(int fd) {
  if ((EventsOf(fd, POLLIN) & POLLIN) == 0) return -EAGAIN;
  int bytes = 0;
  const long error = sys::Call(SYS_ioctl, fd, FIONREAD, sys::Word(&bytes));
  return error < 0 ? error : bytes;
}
bool HasKernelError(int fd) { return EventsOf(fd, 0) != 0; }

ssize_t DatagramShadow::Peek(IovCursor* into) { return ReceiveNow(this, into, MSG_PEEK); }
ssize_t DatagramShadow::Take(IovCursor* into) { return ReceiveNow(this, into, 0); }

ssize_t DatagramShadow::SendRecord(const iovec* iov, size_t count) {
  const SocketName name = to.Known() ? ToSocketName(ToEnd(to), side->family) : SocketName{};
  if (count == 1)  // costs less than a message
    return sys::Call(SYS_sendto, fd, sys::Word(iov->iov_base), static_cast<long>(iov->iov_len),
                     MSG_DONTWAIT | MSG_NOSIGNAL, to.Known() ? sys::Word(&name.v6) : 0,
                     name.length);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov);
  message.msg_iovlen = count;
  message.msg_name = const_cast<sockaddr_in6*>(&name.v6);
  message.msg_namelen = name.length;
  return sys::Call(SYS_sendmsg, fd, sys::Word(&message), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool DatagramShadow::HasItsName() const ABSL_NO_THREAD_SAFETY_ANALYSIS {  // the caller has the lock
  SocketName now;
  now.length = sizeof now.v6;
  if (sys::Call(SYS_getsockname, fd, sys::Word(&now.v6), sys::Word(&now.length)) != 0) return false;
  const Endpoint end = ToEnd(ReadUdpName(now.any.sa_family, &now.v6, now.length));
  constexpr uint8_t kNone[4] = {};
  // Bound to no address, it sends from the same one as before.
  const bool any = memcmp(end.address + 12, kNone, sizeof kNone) == 0 &&
                   (end.IsV4() || memcmp(end.address, Endpoint{}.address, 12) == 0);
  return end.port == side->fifo_source.port &&
         (any || memcmp(end.address, side->fifo_source.address, sizeof end.address) == 0);
}

bool DatagramShadow::IsReceiverThere() const ABSL_NO_THREAD_SAFETY_ANALYSIS {  // likewise
  if (!IsSocketGone(side->receiver_pid, side->receiver_fd, side->receiver_inode)) return true;
  // A process whose first thread has ended shows no descriptors, and in another root directory
  // there is no /proc, or another one.
  DatagramSocket receiver;
  return ReceiverOfDatagrams(Tuple{side->fifo_source, ToEnd(side->fifo_destination)}, &receiver) ==
             0 &&
         receiver.inode == side->receiver_inode;
}

// ---- sleeping ----

void TellSleepers(DatagramSide* side) {
  const int32_t sleepers = side->sleepers.load(std::memory_order_seq_cst);
  if (sleepers > 1) side->crowded.store(1, std::memory_order_relaxed);
  const bool crowded = side->crowded.load(std::memory_order_relaxed) != 0;
  side->receiver.queue.Sleepers(sleepers == 1 && crowded ? 2 : sleepers,
                                side->edge_sleepers.load(std::memory_order_seq_cst) > 0);
}

bool TellOfDatagramSleep(DatagramSide* side) {
  if (side->receiving.load(std::memory_order_seq_cst) == 0) return true;
  const LockScope scope(side->receive_lock, CurrentTid());
  if (scope.result() == LockResult::kReentered) return true;
  TellSleepers(side);
  return !side->receiver.Readable();
}

void TellOfDatagramWake(DatagramSide* side) {
  const LockScope scope(side->receive_lock, CurrentTid());
  if (scope.result() != LockResult::kReentered) TellSleepers(side);
}

void DatagramLockAbandoned(const RecoverableLock* lock) {
  EachDatagramSide([lock](DatagramSide* side) {
    if (lock == &side->receive_lock) side->half_done.store(1, std::memory_order_release);
  });
}

bool HasTakenAnothersRing(DatagramSide* side) {
  if (side->sleepers.load(std::memory_order_seq_cst) <= 0 ||
      side->crowded.exchange(1, std::memory_order_relaxed) != 0)
    return false;
  TellSleepers(side);
  return side->receiver.Readable();
}

bool DatagramReadable(DatagramSide* side, uint64_t* published) {
  *published = 0;
  if (side->receiving.load(std::memory_order_acquire) == 0) return false;
  const LockScope scope(side->receive_lock, CurrentTid());
  if (scope.result() == LockResult::kReentered) return false;
  for (const auto& source : side->sources) {
    if (source.used.load(std::memory_order_relaxed) == 1 && source.theirs.fifo)
      *published += source.theirs.fifo.header->producer.load(std::memory_order_acquire) >> 1;
  }
  return side->receiver.Readable();
}

bool SendersShareOurProcessor(DatagramSide* side) {
  if (process_state.processors < 2) return true;
  const Self self = CurrentSelf();
  const LockScope scope(side->receive_lock, self.tid);
  bool share = false;
  for (const auto& source : side->sources) {
    if (source.used.load(std::memory_order_relaxed) != 1 || !source.theirs.fifo) continue;
    const uint32_t cpu = source.theirs.fifo.header->producer_cpu.load(std::memory_order_relaxed);
    if (cpu == 0 || cpu != self.cpu) return false;
    share = true;
  }
  return share;
}

// ---- back to the kernel ----

void ReapSources(DatagramSide* side) {
  bool any = false;
  for (int i = 0; i < DatagramQueue::kMostSlots; ++i) {
    DatagramSide::Source& source = side->sources[i];
    if (source.used.load(std::memory_order_relaxed) != 1 || !side->receiver.queue.HasEnded(i))
      continue;
    side->receiver.queue.Detach(i);
    ReleaseFifo(&source.theirs);
    source.used.store(2, std::memory_order_release);
    side->receiving.fetch_sub(1, std::memory_order_seq_cst);
    any = true;
  }
  if (any) AskAgent(side, kWantsService);
}

void CountDatagramEnd(DatagramSide* side, Reason reason) {
  Log("datagrams of fd %d to the kernel: %s", side->fd.load(std::memory_order_relaxed),
      ReasonText(reason));
  side->fallbacks.fetch_add(1, std::memory_order_relaxed);
  side->reason.store(reason, std::memory_order_relaxed);
  CountFallback(reason);
}

namespace {
// Every sender that is alive is asked to send again what it has sent. False: nothing was joined.
bool AskBack(DatagramSide* side) {
  const LockScope scope(side->receive_lock, CurrentTid());
  if (side->receiving.load(std::memory_order_relaxed) == 0) return false;
  side->receiver.queue.Return(/*whatever_order=*/true);
  ReapSources(side);
  return true;
}
bool IsAnyJoined(DatagramSide* side) {
  const LockScope scope(side->receive_lock, CurrentTid());
  ReapSources(side);
  return side->receiving.load(std::memory_order_relaxed) != 0;
}
void ForgetAll(DatagramSide* side) {
  const LockScope scope(side->receive_lock, CurrentTid());
  side->receiver.queue.Close();
  ReapSources(side);
}
}  // namespace

void StopSending(DatagramSide* side, Reason reason) {
  if (side->sending.load(std::memory_order_acquire) == 0) return;
  const LockScope scope(side->send_lock, CurrentTid());
  DatagramShadow shadow{side->fd.load(std::memory_order_relaxed), side};
  shadow.to = side->fifo_destination;
  if (side->sender.route.load(std::memory_order_relaxed) == DatagramRoute::kFifo)
    CountDatagramEnd(side, reason);
  side->sender.Leave(shadow);
  side->sender.Settle(shadow);
  AskAgent(side, kWantsService);
}

namespace {
// Their agents are asked to send by the kernel what they owe. False: some have not done so.
bool AwaitSenders(DatagramSide* side, bool (*is_any_left)(DatagramSide*)) {
  if (!is_any_left(side)) return true;
  AskAgent(side, kWantsService);
  if (CurrentTid() == agent_shared.tid.load(std::memory_order_relaxed)) return true;
  constexpr uint64_t kLongestNs = 500 * kNsPerMs;
  Naps naps(kLongestNs, 50 * kNsPerUs);
  while (naps.Take()) {
    if (!is_any_left(side)) return true;
  }
  return false;
}
bool IsAnyOwed(DatagramSide* side) {
  const LockScope scope(side->receive_lock, CurrentTid());
  return side->receiver.queue.IsOwed();
}
}  // namespace

void EndSources(DatagramSide* side, Reason reason) {
  if (side->receiving.load(std::memory_order_acquire) == 0) return;
  {
    const LockScope scope(side->receive_lock, CurrentTid());
    // What the kernel brings from here on is newer than what the FIFOs hold.
    side->receiver.queue.Admit();
    const uint32_t draining = side->receiver.queue.Draining();
    if (draining != 0 && IsKernelDry(side->fd.load(std::memory_order_relaxed)))
      side->receiver.queue.KernelIsDry(draining);
    for (int i = 0; i < DatagramQueue::kMostSlots; ++i) {
      if (side->sources[i].used.load(std::memory_order_relaxed) == 1)
        side->receiver.queue.EndInOrder(i);
    }
    CountDatagramEnd(side, reason);
    ReapSources(side);
  }
  if (AwaitSenders(side, &IsAnyOwed)) return;
  const LockScope scope(side->receive_lock, CurrentTid());
  side->receiver.queue.ReclaimAll();
}

void DatagramToKernel(int fd, Reason reason, KernelFor how_long) {
  DatagramSide* const side = FindDatagram(fd);
  if (side == nullptr) return;
  if (how_long == KernelFor::kGood) {
    side->pinned.store(1, std::memory_order_seq_cst);
    side->reason.store(reason, std::memory_order_relaxed);
  }
  if (AskBack(side)) {
    CountDatagramEnd(side, reason);
    AskAgent(side, kWantsService);
    if (!AwaitSenders(side, &IsAnyJoined)) ForgetAll(side);
  }
  StopSending(side, reason);
}

void DatagramsToKernel(Reason reason, KernelFor how_long) {
  // Who receives first: what a sender of ours has sent is flushed while it still can be.
  EachDatagramSide([=](DatagramSide* side) {
    const int fd = side->fd.load(std::memory_order_acquire);
    if (FindDatagram(fd) == side && side->receiving.load(std::memory_order_acquire) != 0)
      DatagramToKernel(fd, reason, how_long);
  });
  EachDatagramSide([=](DatagramSide* side) {
    const int fd = side->fd.load(std::memory_order_acquire);
    if (FindDatagram(fd) == side) DatagramToKernel(fd, reason, how_long);
  });
}

void EndDatagrams(Reason reason) {
  EachDatagramSide([reason](DatagramSide* side) {
    if (FindDatagram(side->fd.load(std::memory_order_acquire)) != side) return;
    EndSources(side, reason);
    StopSending(side, reason);
  });
}

void DatagramClosed(int fd, DatagramSide* side) {
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send_lock, tid);
    const LockScope receive(side->receive_lock, tid);
    if (FindDatagram(fd) != side) return;
    FdTable::Clear(fd);
    side->receiver.queue.Close();
    ReapSources(side);
    DatagramShadow shadow{fd, side};
    shadow.to = side->fifo_destination;
    if (side->sending.load(std::memory_order_relaxed) != 0) {
      side->sender.Leave(shadow);
      // What is left is the receiver's, which has it mapped itself.
      side->sender.route.store(DatagramRoute::kKernel, std::memory_order_relaxed);
    }
  }
  // The agent may be at work on it at this moment, or have something of it.
  const bool met = side->asked.load(std::memory_order_acquire) != 0;
  side->in_use.store(2, std::memory_order_release);
  if (met) return AskAgent(side, kWantsService);
  FreeDatagramSide(side);
}

// Alone. What another thread of the parent held is given back with the slot.
void ForgetDatagramSides() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  EachDatagramSide([](DatagramSide* side) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    const int fd = side->fd.load(std::memory_order_relaxed);
    if (FindDatagram(fd) == side) FdTable::Clear(fd);
    ReleaseFifo(&side->mine);
    for (auto& source : side->sources) {
      if (source.used.load(std::memory_order_relaxed) == 1) ReleaseFifo(&source.theirs);
    }
    side->send_lock.Release();
    side->receive_lock.Release();
    side->in_use.store(0, std::memory_order_release);
  });
  ForgetDatagramCounts();
}

}  // namespace xenloop
