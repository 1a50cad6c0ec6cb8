// See readiness.h.
#include "preload/ready/readiness.h"

#include <poll.h>

#include "preload/side/borrowed.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

short PollNow(int fd, short events) {
  pollfd entry{fd, events, 0};
  const timespec now{0, 0};
  const long ready =
      sys::Call(SYS_ppoll, reinterpret_cast<long>(&entry), 1, reinterpret_cast<long>(&now), 0, 8);
  return ready > 0 ? entry.revents : static_cast<short>(0);
}

// The index with a bit more: an end is news also if no byte came with it.
constexpr uint64_t kEndIsNews = 1ull << 62;

}  // namespace

FifoReadiness ReadinessOf(int fd, Side* side, bool want_room, Self self) {
  FifoReadiness ready{};
  if (side->queue.load(std::memory_order_seq_cst) != 0 && QueueOf(side) != nullptr) {
    ready.published = 1;
    ready.in = QueueHolds(side, &ready.published);
    return ready;
  }
  {
    LockScope scope(side->receive.lock, self.tid);
    SocketShadow shadow(fd, side);
    if (scope.result() != LockResult::kReentered && FindSide(fd) == side)
      side->receive.Advance(shadow);
    const ReceiveRoute route = side->receive.route.load(std::memory_order_relaxed);
    if (route == ReceiveRoute::kFifo) {
      const Fifo fifo = side->receive.fifo;
      const uint64_t low = side->receive_low_water.load(std::memory_order_relaxed);
      const uint64_t most = fifo.capacity_bytes / 2;
      ready.in = fifo.AvailableBytes() >= (low < most ? low : most);
      ready.published = fifo.header->producer.load(std::memory_order_relaxed);
      const uint64_t consumed = fifo.header->consumer.load(std::memory_order_relaxed);
      // Of another guest's FIFO it would not outlive a fork, which unmaps it in the child.
      // Nor is all of a parked connection's news in it.
      if (ready.published == consumed && !IsSealed(consumed) && !fifo.foreign &&
          !side->receive.lives)
        ready.empty = &fifo.header->producer;
      ready.ended = side->receive.lives.OtherHasFinished();
      if (ready.ended) ready.published |= kEndIsNews;
      ready.in = ready.in || (ready.ended && fifo.AvailableBytes() == 0);
    } else if (route == ReceiveRoute::kDraining) {
      // The kernel sees its part of the queue only; what came by FIFO behind it can be read when
      // the whole of that part is there, and is an arrival of its own.
      int tcp = 0;
      sys::Call(SYS_ioctl, fd, SIOCINQ, reinterpret_cast<long>(&tcp));
      const auto from_tcp = static_cast<uint64_t>(tcp);
      const uint64_t low = side->receive_low_water.load(std::memory_order_relaxed);
      const uint64_t readable = side->receive.ReadableBytes(from_tcp);
      ready.in = readable >= low && readable > from_tcp;
      if (low > 1) ready.in = readable >= low;
      const Fifo fifo = side->receive.fifo;
      if (ready.in) ready.published = fifo.header->producer.load(std::memory_order_relaxed);
    }
  }
  if (!want_room) return ready;
  {
    LockScope scope(side->send.lock, self.tid);
    const SendRoute route = side->send.route.load(std::memory_order_relaxed);
    ready.out_from_kernel = !SendStream::HoldsRoom(route);
    if (route != SendRoute::kFifo) return ready;
    const Fifo fifo = side->send.fifo;
    ready.out = fifo.HasRoom();
    if (!ready.out) {
      RequestDoorbell(fifo.header->producer_waiting);
      ready.out = fifo.HasRoom();  // once more, now that the consumer will ring
    }
  }
  if (!ready.out) RequestWatch(side);
  return ready;
}

short KernelEvents(int fd, Side* side, short events) {
  // poll takes no lock of the socket; TCP_INFO does, and so waits until the segment that is being
  // worked on has had all its effects.
  tcp_info info;
  TcpInfoOf(fd, &info);
  const short found = PollNow(fd, events);
  // A flush of ours may have met the error, and so taken it from the socket; it is still to be
  // told. A flush that is under way notes it before it lets go of the lock: wait for that.
  if ((found & (POLLHUP | POLLERR)) == POLLHUP) LockScope(side->send.lock, CurrentTid());
  const bool met = side->send.pending_error.load(std::memory_order_relaxed) != 0;
  return static_cast<short>(found | (met ? POLLERR : 0));
}

bool IsOnFifo(const Side* side) {
  const SendRoute send = side->send.route.load(std::memory_order_acquire);
  const ReceiveRoute receive = side->receive.route.load(std::memory_order_acquire);
  return (send != SendRoute::kTcp && !SendStream::IsOwing(send)) ||
         (receive != ReceiveRoute::kTcp && receive != ReceiveRoute::kResidue);
}

bool FallBackUnlessOurs(int fd, Side* side) {
  MindWhatIsOwed(side);
  if (IsOurs(side) || !IsOnFifo(side)) return false;
  FallBackToTcp(fd, Reason::kUsedByChild, TcpFor::kNow, NextWriter::kOurs);
  return true;
}

bool KernelWritable(int fd) { return (PollNow(fd, POLLOUT) & POLLOUT) != 0; }

}  // namespace xenloop
