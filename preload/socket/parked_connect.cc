// See parked.h: connect. Whoever connects to one place often has parked connections made to it, and
// takes one of them; whatever is unusual about the socket or the address means an ordinary connect.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

#include "channel/base/descriptor.h"
#include "channel/base/time.h"
#include "discovery/owner.h"
#include "preload/agent/agent.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/epoll.h"
#include "preload/side/agent_shared.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/socket/parked.h"

namespace xenloop {
namespace {

// False: not an address of a kind that is parked.
bool NameAt(const sockaddr* address, socklen_t length, sockaddr_storage* name, Endpoint* to) {
  if (length < sizeof(sockaddr_in) || length > sizeof *name || !MayRead(address, length))
    return false;
  memset(name, 0, sizeof *name);
  memcpy(name, address, length);
  if (name->ss_family == AF_INET6) {
    const auto* const v6 = reinterpret_cast<const sockaddr_in6*>(name);
    if (length < sizeof *v6 || v6->sin6_scope_id != 0 || v6->sin6_flowinfo != 0) return false;
  } else if (name->ss_family != AF_INET) {
    return false;
  }
  return ToEndpoint(*name, to) && to->port != 0;
}

bool IsFor(const Destination& at, sa_family_t family, const Endpoint& to) {
  return at.name.ss_family == family && SameEndpoint(at.to, to);
}

void Name(Destination& at, const sockaddr_storage& name, const Endpoint& to) {
  at.name = name;
  at.name_length = name.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  at.to = to;
}

// Nothing is left of it that would be missed: it has no pair, and its count has run out.
bool IsForgotten(const Destination& at, uint64_t now) {
  return at.made.load(std::memory_order_acquire) == 0 &&
         at.wanted.load(std::memory_order_relaxed) == 0 &&
         now - at.window_ns.load(std::memory_order_relaxed) > 2 * kNsPerSecond;
}

// Whoever has found it by its former name finds out under the lock.
Destination* TakeForgotten(Destination* at, const sockaddr_storage& name, const Endpoint& to) {
  const uint64_t now = sys::MonotonicNs();
  const LockScope scope(at->lock, CurrentTid());
  if (scope.result() == LockResult::kReentered || at->in_use.load(std::memory_order_relaxed) != 2 ||
      !IsForgotten(*at, now))
    return nullptr;
  at->in_use.store(1, std::memory_order_relaxed);
  Name(*at, name, to);
  at->window_ns.store(now, std::memory_order_relaxed);
  at->count.store(0, std::memory_order_relaxed);
  at->not_before_ns.store(0, std::memory_order_relaxed);
  at->ordinary.store(kNoneWaits, std::memory_order_relaxed);
  at->in_use.store(2, std::memory_order_release);
  return at;
}

Destination* DestinationOf(const sockaddr_storage& name, const Endpoint& to) {
  const uint32_t start = (to.port * 31u + to.address[15] * 7u + name.ss_family) % kMostDestinations;
  constexpr uint32_t kProbes = 8;
  Destination* forgotten = nullptr;
  for (uint32_t i = 0; i < kProbes; ++i) {
    Destination& at = parked.destinations[(start + i) % kMostDestinations];
    uint32_t state = at.in_use.load(std::memory_order_acquire);
    if (state == 0 && at.in_use.compare_exchange_strong(state, 1, std::memory_order_acq_rel)) {
      Name(at, name, to);
      at.in_use.store(2, std::memory_order_release);
      return &at;
    }
    if (state == 2 && IsFor(at, name.ss_family, to)) return &at;
    if (forgotten == nullptr && state == 2 && IsForgotten(at, sys::MonotonicNs())) forgotten = &at;
  }
  return forgotten != nullptr ? TakeForgotten(forgotten, name, to) : nullptr;
}

// The program's socket, which a parked connection takes the place of.
struct Fresh {
  int fd;
  Side* side;
  sa_family_t family;  // of the address
  Endpoint to;
  bool nonblocking;
  bool closes_on_exec;
  uint32_t options;  // which have been set
  int values[kRestoredOptions];
};

// False: something is known about it, or cannot be known, that a parked connection has not.
bool IsPlain(Fresh* fresh) {
  Side* const side = fresh->side;
  if (side->references.load(std::memory_order_acquire) != 1 ||
      side->pinned.load(std::memory_order_relaxed) != 0 || IsStandardStream(side) ||
      side->kept.load(std::memory_order_relaxed) != 0 ||
      side->inherited.load(std::memory_order_relaxed) != 0 ||
      side->holders.load(std::memory_order_relaxed) != 1 || !EpollMayMove(side))
    return false;
  fresh->options = side->options_set.load(std::memory_order_relaxed);
  if ((fresh->options & kOtherOption) != 0) return false;
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  Endpoint own;
  if (sys::Call(SYS_getsockname, fresh->fd, sys::Word(&bound), sys::Word(&length)) != 0 ||
      bound.ss_family != fresh->family || !ToEndpoint(bound, &own) || own.port != 0)
    return false;
  // A number beyond a limit that was lowered since works on, and nothing can be put in its place.
  // (What is below a limit under which there is an agent is not asked about.)
  constexpr int kLeastLimit = 256;
  if (fresh->fd >= kLeastLimit && static_cast<uint64_t>(fresh->fd) >= sys::DescriptorLimit())
    return false;
  const long flags = sys::Call(SYS_fcntl, fresh->fd, F_GETFL);
  const long closes = sys::Call(SYS_fcntl, fresh->fd, F_GETFD);
  if (flags < 0 || closes < 0 || (flags & (O_ASYNC | O_APPEND)) != 0) return false;
  fresh->nonblocking = (flags & O_NONBLOCK) != 0;
  fresh->closes_on_exec = (closes & FD_CLOEXEC) != 0;
  for (int i = 0; i < kRestoredOptions; ++i) {
    socklen_t size = sizeof fresh->values[i];
    if ((fresh->options & (1u << i)) != 0 &&
        sys::Call(SYS_getsockopt, fresh->fd, kRestored[i].level, kRestored[i].name,
                  sys::Word(&fresh->values[i]), sys::Word(&size)) != 0)
      return false;
  }
  return true;
}

// Under the destination's lock. A handler that jumps out of this leaves locks behind, for which the
// pair's connection goes back to TCP.
bool Claim(Destination* to, ParkedPair* pair, const Fresh& fresh) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Side* const side = pair->side;
  if (side == nullptr || pair->stage.load(std::memory_order_acquire) != PairStage::kIdle ||
      pair->board->ready.load(std::memory_order_seq_cst) == 0 || IsFull(*pair->board) ||
      pair->board->accept_waiting.load(std::memory_order_seq_cst) != 0)
    return false;
  const uint32_t tid = CurrentTid();
  const LockScope send(side->send.lock, tid);
  const LockScope receive(side->receive.lock, tid);
  if (pair->stage.load(std::memory_order_relaxed) != PairStage::kIdle || !pair->end ||
      side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
      side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kFifo ||
      side->receive.kernel_users.Any() || !pair->end.Claim(to->life))
    return false;
  // Behind the claim and before the queue: a server that dies later has died with a connection.
  const bool dead = SocketShadow(pair->fd, side).Readable();
  if (!pair->end.Queue(dead)) return false;
  Hint(*pair->board, static_cast<int>(pair->hint));
  // seq_cst: behind the hint; a thread that goes to sleep in accept says so, and then looks at the
  // hints. One that sleeps is woken by the kernel only.
  if (pair->board->accept_waiting.load(std::memory_order_seq_cst) != 0 && pair->end.Withdraw()) {
    TakeHintBack(*pair->board, static_cast<int>(pair->hint));
    return false;
  }
  if (sys::Call(SYS_dup3, pair->fd, fresh.fd, fresh.closes_on_exec ? O_CLOEXEC : 0) < 0) {
    if (pair->end.Withdraw()) {
      TakeHintBack(*pair->board, static_cast<int>(pair->hint));
      return false;
    }
    pair->end.Close(pair->end.life());
    pair->end.End();
    return false;
  }
  BeginLife(pair, fresh.fd, fresh.nonblocking);
  side->opening.store(Opening::kConnected, std::memory_order_relaxed);
  // seq_cst: behind the hint; pairs with whoever goes to wait by another bell.
  RingPeerOf(side, /*certain=*/false, pair->board->bell.load(std::memory_order_seq_cst));
  return true;
}

ParkedPair* ClaimOne(Destination* to, const Fresh& fresh) {
  const LockScope scope(to->lock, CurrentTid());
  if (scope.result() == LockResult::kReentered || !IsFor(*to, fresh.family, fresh.to))
    return nullptr;
  ++to->life;
  const uint32_t first = to->hint.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < kMostParked; ++i) {
    const uint32_t at = (first + i) % kMostParked;
    ParkedPair* const pair = to->pairs[at].load(std::memory_order_acquire);
    if (pair == nullptr || !Claim(to, pair, fresh)) continue;
    to->hint.store(at, std::memory_order_relaxed);
    return pair;
  }
  return nullptr;
}

// The number means the parked connection now; the program's own socket has gone.
void TakePlace(ParkedPair* pair, const Fresh& fresh) {
  if (!EpollMoves(fresh.side, pair->side))
    FallBackToTcp(fresh.fd, Reason::kEpollUnfollowed, TcpFor::kGood, NextWriter::kOurs);
  fresh.side->references.store(0, std::memory_order_release);
  fresh.side->holders.store(0, std::memory_order_release);
  FreeSide(fresh.side);
  for (int i = 0; i < kRestoredOptions; ++i) {
    if ((fresh.options & (1u << i)) == 0) continue;
    sys::Call(SYS_setsockopt, fresh.fd, kRestored[i].level, kRestored[i].name,
              sys::Word(&fresh.values[i]), sizeof fresh.values[i]);
  }
  pair->side->options_set.store(fresh.options, std::memory_order_relaxed);
  parked.connected.fetch_add(1, std::memory_order_relaxed);
}

void AskForMore(Destination* to, uint32_t made) {
  if (made >= kMostParked || to->wanted.load(std::memory_order_relaxed) > made ||
      sys::MonotonicNs() < to->not_before_ns.load(std::memory_order_relaxed))
    return;
  // One after the other: a server that does not accept just now is not asked for ever more.
  uint32_t there = 0;
  for (const std::atomic<ParkedPair*>& place : to->pairs)
    there += place.load(std::memory_order_relaxed) != nullptr ? 1 : 0;
  if (there < made) return;
  parks_something.store(true, std::memory_order_relaxed);
  to->wanted.store(made + 1, std::memory_order_relaxed);
  WantParked();
}

// The server's program must accept in the order of the connects, and it looks at the lives first.
// So none begins while an ordinary connection of this process waits in the kernel's queue, which
// the kernel is asked for (sock_diag).
bool OrdinaryMayWait(Destination* to, const Endpoint& name) {
  const uint32_t before = to->ordinary.load(std::memory_order_acquire);
  if (before == kNoneWaits) return false;
  if (process_state.bypassed) return true;
  Tuple tuple{name, Endpoint{{}, 0}};
  if (name.IsV4()) memset(tuple.peer.address + 10, 0xff, 2);  // 0.0.0.0
  uint32_t state = before;
  {
    const LockScope scope(to->lock, CurrentTid());
    if (scope.result() == LockResult::kReentered) return true;
    state = to->ordinary.load(std::memory_order_relaxed);
    // Of several the last is not known; then the listener's queue has to be empty.
    if (state == kOneMayWait) tuple.peer = to->ordinary_name;
  }
  Arrival arrival;
  const int error = ArrivalOf(tuple, &arrival);
  if (error != 0 && error != -ENOENT) return true;
  // One that is not there any more may stand in the queue all the same: it has been reset.
  if (error == 0 && (arrival.WaitsForAccept() || arrival.waiting != 0)) return true;
  const LockScope scope(to->lock, CurrentTid());
  if (scope.result() == LockResult::kReentered) return true;
  if (state != to->ordinary.load(std::memory_order_relaxed) ||
      (state == kOneMayWait && !SameEndpoint(tuple.peer, to->ordinary_name)))
    return true;  // another one since
  to->ordinary.store(kNoneWaits, std::memory_order_release);
  return false;
}

// The connection that a connect() was told is under way has been reset since: as in the kernel, the
// next connect() says so, and the socket is as new.
ssize_t Aborted(int fd, Side* side) {
  FallBackToTcp(fd, Reason::kDisconnected, TcpFor::kGood, NextWriter::kOurs);
  int error = 0;
  socklen_t length = sizeof error;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, sys::Word(&error), sys::Word(&length));
  const int32_t met = side->send.pending_error.exchange(0, std::memory_order_relaxed);
  const sockaddr nobody{AF_UNSPEC, {}};
  sys::Call(SYS_connect, fd, sys::Word(&nobody), sizeof nobody);
  if (error != 0) return -error;
  return met != 0 ? met : -ECONNABORTED;
}

// Once: as in the kernel, who asks again for a connect() that did not wait hears that it succeeded.
ssize_t AskedAgain(int fd, Side* side) {
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr || !pair->connecting) return kUseKernel;
  pair->connecting = false;
  // Of the kernel the agent has asked that already.
  tcp_info info;
  if (TcpInfoOf(fd, &info) != 0) return kUseKernel;
  return info.tcpi_state != SocketShadow::kTcpClose ? 0 : Aborted(fd, side);
}

}  // namespace

ssize_t ConnectParked(int fd, const sockaddr* address, socklen_t length) {
  Side* const side = FindSide(fd);
  if (side == nullptr || !process_state.ready || InBorrowedMemory()) return kUseKernel;
  sockaddr_storage name;
  Endpoint to;
  if (!NameAt(address, length, &name, &to)) {
    ParkedPair* const pair = PairOf(side);
    if (pair != nullptr) pair->connecting = false;  // perhaps it is dissolved
    return kUseKernel;
  }
  if (side->Connected()) return AskedAgain(fd, side);
  Destination* const destination = DestinationOf(name, to);
  if (destination == nullptr) return kUseKernel;
  const bool hot = IsHot(destination->window_ns, destination->count);
  Fresh fresh = {};
  fresh.fd = fd;
  fresh.side = side;
  fresh.family = name.ss_family;
  fresh.to = to;
  if (!hot) return kUseKernel;
  const uint32_t made = destination->made.load(std::memory_order_relaxed);
  if (made != 0 && (!IsPlain(&fresh) || OrdinaryMayWait(destination, to))) return kUseKernel;
  ParkedPair* const pair = made != 0 ? ClaimOne(destination, fresh) : nullptr;
  if (pair == nullptr) {
    AskForMore(destination, made);
    return kUseKernel;
  }
  TakePlace(pair, fresh);
  if (!fresh.nonblocking) return 0;
  pair->connecting = true;
  return -EINPROGRESS;
}

// Before the first pair is asked for there is nothing to note: its own connection stands in the
// kernel's queue behind all that were there before it.
void ConnectedByKernel(int fd, const sockaddr* address, socklen_t length) {
  sockaddr_storage name;
  Endpoint to;
  if (!process_state.ready || process_state.bypassed || InBorrowedMemory() ||
      !parks_something.load(std::memory_order_relaxed) || !NameAt(address, length, &name, &to))
    return;
  Destination* const destination = DestinationOf(name, to);
  if (destination == nullptr || destination->made.load(std::memory_order_relaxed) == 0) return;
  sockaddr_storage own_name;
  length = sizeof own_name;
  Endpoint own;
  const uint32_t tid = CurrentTid();
  if (sys::Call(SYS_getsockname, fd, sys::Word(&own_name), sys::Word(&length)) != 0 ||
      !ToEndpoint(own_name, &own))
    return;
  const LockScope scope(destination->lock, tid);
  if (!IsFor(*destination, name.ss_family, to)) return;
  const bool alone = destination->ordinary.load(std::memory_order_relaxed) == kNoneWaits ||
                     destination->ordinary_tid == tid;
  destination->ordinary_name = own;
  destination->ordinary_tid = tid;
  if (alone && destination->ordinary.load(std::memory_order_relaxed) == kSeveralMayWait) return;
  destination->ordinary.store(alone ? kOneMayWait : kSeveralMayWait, std::memory_order_release);
}

}  // namespace xenloop
