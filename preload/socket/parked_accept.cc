// See parked.h: accept. Whether a life comes next or the kernel's connection is decided in
// channel/parked_turn.h.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <algorithm>

#include "channel/base/time.h"
#include "channel/parked_turn.h"
#include "preload/agent/agent.h"
#include "preload/libc/program_memory.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/lowest_number.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/socket/parked.h"

namespace xenloop {
namespace {

bool KernelHasOne(Side* listener) {
  return SocketShadow(listener->fd.load(std::memory_order_acquire), listener).Readable();
}

// The kernel's next connection comes now, without being asked for: else the fence would let the one
// after that come before the lives that are older.
void TakeFenceAway(ListenerQueue* queue) {
  const LockScope scope(queue->lock, CurrentTid());
  if (scope.result() != LockResult::kReentered) queue->fenced = false;
}

ParkedPair* TakeFirst(ListenerQueue* queue) {
  const LockScope scope(queue->lock, CurrentTid());
  if (scope.result() == LockResult::kReentered ||
      IsKernelsTurn(queue, [queue] { return KernelHasOne(queue->listener); }))
    return nullptr;
  const AcceptedInTurn life =
      AcceptInTurn(queue, queue->turn.fetch_add(1, std::memory_order_relaxed));
  if (life.result == LifeAccept::kNothing) return nullptr;
  queue->taken.fetch_add(1, std::memory_order_relaxed);
  return queue->boards[life.board].ends[life.slot].pair();
}

// The smallest that is free, or -errno. It means the listener until it gets its connection.
int NewNumber(const Side* listener) {
  const auto fd = static_cast<int>(Numbered([&] {
    return sys::Call(SYS_fcntl, listener->fd.load(std::memory_order_acquire), F_DUPFD_CLOEXEC, 0);
  }));
  if (fd < 0 || FdTable::InRange(fd)) return fd;
  sys::Close(fd);
  return -EMFILE;
}

// As accept tells it: cut off where there is not enough room, and the whole length.
ssize_t TellName(const ParkedPair& pair, sockaddr* address, socklen_t* length) {
  if (address == nullptr) return 0;
  const socklen_t room = std::min(*length, pair.peer_name_length);
  if (!MayWrite(address, room)) return -EFAULT;
  memcpy(address, &pair.peer_name, room);
  *length = pair.peer_name_length;
  return 0;
}

}  // namespace

bool MayAcceptParked(const Side* listener) {
  uint64_t news = 0;
  return QueueHolds(listener, &news);
}

ssize_t AcceptParked(Side* listener, sockaddr* address, socklen_t* length, int flags) {
  ListenerQueue* const queue = QueueOf(listener);
  if (queue == nullptr || (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0 || InBorrowedMemory())
    return kUseKernel;
  if (!MayAcceptParked(listener)) {
    TakeFenceAway(queue);
    return kUseKernel;
  }
  if (address != nullptr && (!MayWrite(length, sizeof *length) || *length > INT32_MAX))
    return kUseKernel;
  // The number first: as with the kernel, who has none left leaves the connection in the queue.
  const int fd = NewNumber(listener);
  if (fd < 0) return fd;
  ParkedPair* const pair = TakeFirst(queue);
  if (pair == nullptr) {
    sys::Close(fd);
    return kUseKernel;
  }
  ssize_t told = TellName(*pair, address, length);
  if (told == 0)
    told = sys::Call(SYS_dup3, pair->fd, fd, (flags & SOCK_CLOEXEC) != 0 ? O_CLOEXEC : 0);
  if (told < 0) {
    // As with the kernel: the client finds a connection that has been reset.
    sys::Close(fd);
    pair->stage.store(PairStage::kIdle, std::memory_order_release);
    EndPair(pair);
    return told;
  }
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(pair->side->send.lock, tid);
    const LockScope receive(pair->side->receive.lock, tid);
    BeginLife(pair, fd, (flags & SOCK_NONBLOCK) != 0);
  }
  parked.accepted.fetch_add(1, std::memory_order_relaxed);
  if (fd < 3) FallBackToTcp(fd, Reason::kStandardStream, TcpFor::kNow);
  return fd;
}

bool ExpectsToPark() {
  // A sandbox may forbid what we would ask.
  return parked.expected.load(std::memory_order_acquire) != 0 && !process_state.bypassed;
}

bool IsToBeParked(int fd) {
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  Endpoint peer;
  if (sys::Call(SYS_getpeername, fd, sys::Word(&name), sys::Word(&length)) != 0 ||
      !ToEndpoint(name, &peer))
    return false;
  // Whichever listener has brought it.
  for (ParkedPair& pair : parked.pairs) {
    if (!IsExpected(pair) || !SameEndpoint(pair.tuple.peer, peer)) continue;
    BeforeClose(fd);  // it was followed as the program's own
    if (IsOrphan(pair)) {
      sys::Close(fd);
      EndOrphan(&pair);
      return true;
    }
    const int moved = MakePrivate(fd);
    if (moved < 0) return true;  // closed, which its agent sees
    pair.accepted_fd.store(moved, std::memory_order_release);
    WantParked();
    return true;
  }
  return false;
}

bool MaySleepInAccept(const Side* listener) {
  ListenerQueue* const queue = QueueOf(listener);
  if (queue == nullptr || !queue->blocks) return false;
  AcceptorEnters(queue);
  return true;
}

void HasSleptInAccept(const Side* listener) {
  ListenerQueue* const queue = QueueOf(listener);
  if (queue != nullptr && queue->blocks) AcceptorLeft(queue);
}

void AcceptedByKernel(Side* listener) {
  ListenerQueue* queue = CountsFor(listener);
  const uint32_t over = queue != nullptr ? queue->over.load(std::memory_order_relaxed) : 0;
  if (over == kQueueOverForGood || (over == kQueueOverWhileItBlocks &&
                                    listener->nonblocking.load(std::memory_order_relaxed) == 0))
    return;
  const bool goes_on = queue == nullptr || MayGoOn(queue);
  if (goes_on && queue != nullptr && queue->published.load(std::memory_order_relaxed) == 2) return;
  if (queue == nullptr) queue = BeginQueue(listener);
  if (queue == nullptr || !IsHot(queue->window_ns, queue->count)) return;
  queue->count.store(0, std::memory_order_relaxed);
  // Nothing is left of a former one, and it may not begin: nothing for the agent to see.
  if (!goes_on && queue->pairs.load(std::memory_order_relaxed) == 0 && QueueOf(listener) == nullptr)
    return;
  // Else the agent is to see that nothing is left of the former queue.
  if (goes_on) queue->published.store(1, std::memory_order_relaxed);
  WantParked();
}

}  // namespace xenloop
