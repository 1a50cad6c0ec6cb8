// Datagrams in and out, one at a time. What waits, waits in the program's own call.
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "channel/base/time.h"
#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/threads.h"
#include "preload/settings/config.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"
#include "preload/socket/datagram.h"

namespace xenloop {
namespace {

// Longer ones the kernel refuses, or sends in two fragments, of which it may have to tell.
size_t LongestDatagram(const DatagramSide* side) { return side->family == AF_INET ? 65507 : 65488; }

// A common clock of all that send on this machine; only the order counts.
uint64_t Stamp() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return sys::MonotonicNs();
#endif
}

// ---- receiving ----

bool IsTransferable(const iovec* iov, size_t iov_count) {
  return iov_count <= IOV_MAX && (iov_count == 0 || MayRead(iov, iov_count * sizeof *iov)) &&
         !HasBadBuffer(iov, iov_count);
}

bool TellName(const DatagramName& name, const SocketName& from) {
  if (name.name == nullptr) return true;
  if (!MayWrite(name.length, sizeof *name.length)) return false;
  const socklen_t room = *name.length;
  const size_t length = room < from.length ? room : from.length;
  if (!MayWrite(name.name, length)) return false;
  memcpy(name.name, &from.v6, length);
  *name.length = from.length;
  return true;
}

struct Taken {
  ssize_t result;  // the length of the whole datagram, or -errno
  size_t copied;
  SocketName from;
  bool anothers;  // it was sent to wake another thread, which sleeps on
};

// One look at everything; -EAGAIN: nothing is there. kUseKernel: it is not ours to look.
Taken TakeNow(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, bool peek) {
  Taken taken{kUseKernel, 0, {}, false};
  const LockScope scope(side->receive_lock, CurrentTid());
  if (scope.result() == LockResult::kReentered || FindDatagram(fd) != side ||
      side->receiving.load(std::memory_order_relaxed) == 0)
    return taken;
  if (scope.result() == LockResult::kTakenOver ||
      (side->half_done.load(std::memory_order_acquire) != 0 && side->half_done.exchange(0) != 0))
    side->receiver.Recover();
  // An error that the socket has met by its own sending comes before data.
  if (side->error_likely.exchange(0, std::memory_order_relaxed) != 0 && HasKernelError(fd))
    return taken;
  IovCursor cursor(iov, iov_count);
  const size_t room = cursor.remaining();
  DatagramShadow shadow{fd, side};
  int from = kFromKernel;
  taken.result = side->receiver.Receive(shadow, &cursor, peek, &from);
  if (taken.result == -EAGAIN) ReapSources(side);
  if (taken.result < 0) return taken;
  taken.from = from == kFromKernel ? shadow.from : side->sources[from].name;
  taken.copied =
      static_cast<size_t>(taken.result) < room ? static_cast<size_t>(taken.result) : room;
  auto& count = from == kFromKernel ? side->kernel_received : side->fifo_received;
  if (!peek) count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  taken.anothers = from == kFromKernel && !peek && HasTakenAnothersRing(side);
  return taken;
}

bool Spin(DatagramSide* side) {
  const uint32_t budget = SharedSpinBudgetUs();
  uint64_t start = 0;
  uint64_t published;
  uint32_t turns = 0;
  bool found = false;
  while (!found && budget != 0 && SpinTurn(&start, budget, &turns, SharedSpinYields()))
    found = DatagramReadable(side, &published);
  SharedSpinEnded(found);
  return found;
}

}  // namespace

bool HandlerEndsBeforeDatagram(const Interruption& interruption, int fd) {
  timeval limit{0, 0};
  socklen_t length = sizeof limit;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, sys::Word(&limit), sys::Word(&length));
  return InterruptedBefore(interruption, limit.tv_sec == 0 && limit.tv_usec == 0, fd, POLLIN);
}

ssize_t ReceiveDatagram(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                        const DatagramName& name, DatagramNews* news, const KernelCall& kernel,
                        const Interruption& interruption) {
  constexpr int kUnderstood =
      MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_WAITALL;
  const bool waits =
      (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
  const bool transferable = (flags & MSG_ERRQUEUE) == 0 && IsTransferable(iov, iov_count);
  if (side->receiving.load(std::memory_order_acquire) == 0 || !transferable) {
    // Only the kernel knows the answer to a bad pointer, and it needs a datagram for that.
    if (!transferable && (flags & MSG_ERRQUEUE) == 0)
      DatagramToKernel(fd, Reason::kReceiveFlags, KernelFor::kNow);
    ssize_t result = -1;
    if (!ReceiveByKernel(side, fd, waits && (flags & MSG_ERRQUEUE) == 0, kernel, &result,
                         interruption))
      return ReceiveDatagram(fd, side, iov, iov_count, flags, name, news, kernel, interruption);
    return result;
  }
  if ((flags & ~kUnderstood) != 0) {
    DatagramToKernel(fd, Reason::kReceiveFlags, KernelFor::kNow);
    return kernel();
  }
  threads::TestCancel();
  bool may_spin = waits && GetConfig().spin_us != 0;
  // Who would not spin goes to sleep at once: a look at the kernel before is one call too many.
  const bool yields = may_spin && SendersShareOurProcessor(side);
  bool straight =
      waits && (flags & MSG_PEEK) == 0 && (yields || !may_spin || SharedSpinBudgetUs() == 0);
  may_spin = may_spin && !yields;
  for (;;) {
    uint64_t published;
    const auto is_there = [&] { return DatagramReadable(side, &published); };
    if (straight && !is_there() && !(yields && YieldUntil(is_there))) {
      ssize_t result = -1;
      if (ReceiveByKernel(side, fd, waits, kernel, &result, interruption)) return result;
    }
    straight = false;
    const Taken taken = TakeNow(fd, side, iov, iov_count, (flags & MSG_PEEK) != 0);
    if (taken.anothers) DatagramToKernel(fd, Reason::kManyReceivers, KernelFor::kNow);
    if (taken.result >= 0) {
      news->by_kernel = false;
      const bool cut = static_cast<size_t>(taken.result) > taken.copied;
      news->message_flags = (cut ? MSG_TRUNC : 0) | (flags & MSG_CMSG_CLOEXEC);
      if (!TellName(name, taken.from)) return ReturnToLibc(ssize_t{-EFAULT});
      return (flags & MSG_TRUNC) != 0 ? taken.result : static_cast<ssize_t>(taken.copied);
    }
    if (taken.result != -EAGAIN && taken.result != kUseKernel) return ReturnToLibc(taken.result);
    if (taken.result == -EAGAIN && !waits) return ReturnToLibc(taken.result);
    if (may_spin && taken.result == -EAGAIN) {
      may_spin = false;
      if (Spin(side)) continue;
    }
    ssize_t result = -1;
    if (ReceiveByKernel(side, fd, waits, kernel, &result, interruption)) return result;
  }
}

void DatagramsReceived(DatagramSide* side, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) CountKernelReceive(side, 0);
}

// ---- sending ----

namespace {

enum class Sent : uint8_t { kDone, kByKernel, kWait };

// The same of one that is yet to be sent.
UdpName DestinationOf(const DatagramSide* side, const void* to, socklen_t to_length) {
  return to == nullptr || MayRead(to, NameLengthOf(to_length))
             ? DestinationOfSent(side, to, to_length)
             : UdpName{};
}

// The FIFO has been left just now, by either end: the agent lets go of it.
void NoteEnd(DatagramSide* side) ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->send_lock) {
  if (side->sending.exchange(2, std::memory_order_acq_rel) == 2 &&
      side->sender.route.load(std::memory_order_relaxed) != DatagramRoute::kKernel)
    return;
  AskAgent(side, kWantsService);
}

// What a flush has met comes before the next datagram, which is not sent then.
bool TakePendingError(DatagramSide* side, ssize_t* result)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->send_lock) {
  const int error = side->sender.pending_error;
  side->sender.pending_error = 0;
  *result = -error;
  return error != 0;
}

// A receiver that is asleep before each datagram is woken by the kernel each time, and the FIFO
// only costs. It is tried again later: sleepers come to spin, and processors become free.
void LeaveSleeper(DatagramSide* side, DatagramShadow& shadow)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->send_lock) {
  constexpr uint32_t kMostRings = 256;
  constexpr uint32_t kLeastQuiet = 1024;
  constexpr uint32_t kMostQuiet = 16384;
  if (++side->rings < kMostRings) return;
  const uint32_t quiet = side->quiet_sends.load(std::memory_order_relaxed) * 2;
  side->quiet_sends.store(quiet < kLeastQuiet  ? kLeastQuiet
                          : quiet > kMostQuiet ? kMostQuiet
                                               : quiet,
                          std::memory_order_relaxed);
  side->quiet_until.store(side->kernel_sent.load(std::memory_order_relaxed) +
                              side->quiet_sends.load(std::memory_order_relaxed),
                          std::memory_order_relaxed);
  side->watches.store(0, std::memory_order_relaxed);
  side->sender.Leave(shadow);
  side->reason.store(Reason::kAlwaysAsleep, std::memory_order_relaxed);
  NoteEnd(side);
}

Sent SendByFifo(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                const UdpName& to, bool plain, ssize_t* result) {
  constexpr int kMeaningless = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM;
  const LockScope scope(side->send_lock, CurrentTid());
  if (scope.result() == LockResult::kReentered || FindDatagram(fd) != side ||
      side->sending.load(std::memory_order_relaxed) == 0)
    return Sent::kByKernel;
  DatagramShadow shadow{fd, side};
  shadow.to = side->fifo_destination;
  IovCursor source(iov, iov_count);
  const size_t length = source.remaining();
  const bool too_long = length > LongestDatagram(side);
  if (to != side->fifo_destination || !plain || (flags & ~kMeaningless) != 0 || too_long) {
    side->sender.Leave(shadow);
    side->reason.store(!plain ? Reason::kAncillaryData : Reason::kSendFlags,
                       std::memory_order_relaxed);
  }
  if (too_long) {
    NoteEnd(side);
    return Sent::kByKernel;
  }
  if (TakePendingError(side, result)) return Sent::kDone;
  // A send by the kernel that was under way when this socket went over to the FIFO, too.
  if (const uint64_t sent = side->kernel_sent.load(std::memory_order_relaxed);
      sent != side->kernel_seen) {
    side->kernel_seen = sent;
    side->sender.account.after_kernel = true;
  }
  const Sending sending = side->sender.Send(shadow, source, Stamp());
  if (sending != Sending::kDone && TakePendingError(side, result)) return Sent::kDone;
  *result = static_cast<ssize_t>(length);
  if (side->sender.route.load(std::memory_order_relaxed) != DatagramRoute::kFifo) NoteEnd(side);
  switch (sending) {
    case Sending::kDone:
      side->rings = 0;
      side->mine.fifo.header->producer_cpu.store(CurrentCpu(), std::memory_order_relaxed);
      side->fifo_sent.store(side->fifo_sent.load(std::memory_order_relaxed) + 1,
                            std::memory_order_relaxed);
      return Sent::kDone;
    case Sending::kRing:
      side->mine.fifo.header->producer_cpu.store(CurrentCpu(), std::memory_order_relaxed);
      // A name would have the kernel look for a route.
      if (side->connected.load(std::memory_order_relaxed) != 0) shadow.to = UdpName{};
      *result = shadow.SendRecord(iov, iov_count);
      side->sender.Rang(*result >= 0);
      if (*result >= 0)
        side->kernel_sent.store(side->kernel_sent.load(std::memory_order_relaxed) + 1,
                                std::memory_order_relaxed);
      if (*result >= 0) LeaveSleeper(side, shadow);
      return *result == -EAGAIN ? Sent::kByKernel : Sent::kDone;
    case Sending::kWait:
      return Sent::kWait;
    case Sending::kByKernel:
      break;
  }
  return Sent::kByKernel;
}

// What was sent by the FIFO and is not in the kernel yet, whose send buffer is full (over loopback
// it never is, unless the administrator makes it wait), comes before what is sent now.
bool MayWaitForResidue(const DatagramSide* side, int flags) {
  if ((flags & MSG_DONTWAIT) != 0 || side->nonblocking.load(std::memory_order_relaxed) != 0)
    return false;
  Nap(kNsPerMs);
  return true;
}

}  // namespace

void DatagramSent(DatagramSide* side, const msghdr& message) {
  const bool named = message.msg_name != nullptr && message.msg_namelen != 0;
  CountKernelSend(side, named ? message.msg_name : nullptr, message.msg_namelen);
}

ssize_t SendDatagram(int fd, DatagramSide* side, const iovec* iov, size_t iov_count, int flags,
                     const void* to, socklen_t to_length, bool plain, const KernelCall& kernel) {
  const UdpName destination = DestinationOf(side, to, to_length);
  if (side->sending.load(std::memory_order_acquire) != 0 && IsTransferable(iov, iov_count)) {
    Sent sent;
    ssize_t result = -EAGAIN;
    do {
      threads::TestCancel();
      sent = SendByFifo(fd, side, iov, iov_count, flags, destination, plain, &result);
    } while (sent == Sent::kWait && MayWaitForResidue(side, flags));
    if (sent != Sent::kByKernel) return ReturnToLibc(sent == Sent::kDone ? result : -EAGAIN);
  }
  // Corked data wait in the kernel for what is sent next.
  if ((flags & MSG_MORE) != 0) {
    side->pinned.store(1, std::memory_order_relaxed);
    side->reason.store(Reason::kSendFlags, std::memory_order_relaxed);
  }
  const ssize_t result = kernel();
  if (result >= 0) CountKernelSend(side, to, to_length);
  return result;
}

}  // namespace xenloop
