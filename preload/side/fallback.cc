// See fallback.h.
#include "preload/side/fallback.h"

#include <errno.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "preload/side/agent_shared.h"
#include "preload/side/borrowed.h"
#include "preload/side/bulletin.h"
#include "preload/side/datagram_side.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/log.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"
#include "preload/side/wait.h"

namespace xenloop {
namespace {

constexpr uint64_t kLongestFlushMs = 5000;
constexpr uint64_t kLongestForNobodyMs = 500;  // nobody is likely to write behind it
constexpr int kMostTurns = 2000;               // for a clock that stands still
constexpr int kBufferLocks = 72;               // SO_BUF_LOCK: which sizes the program has set

// After a fallback of ours: bytes that were readable in the FIFO come back by TCP. The program may
// be told EAGAIN or an empty socket where it saw bytes before, so wait until they are here; not for
// ever, the peer may be stopped.
void AwaitResidue(int fd, uint64_t owed, int64_t received_before) {
  Naps naps(100 * kNsPerMs, 50 * kNsPerUs);
  tcp_info info;
  while (TcpInfoOf(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished &&
         info.tcpi_bytes_received < static_cast<uint64_t>(received_before) + owed && naps.Take()) {
  }
}

}  // namespace

void ResetConnection(int fd, Side* side) {
  // After a suspension without notice it is not known where the peer stands in the stream. What is
  // owed otherwise finds no room.
  const bool asks = side->send.route.load(std::memory_order_relaxed) == SendRoute::kAsking;
  const Reason reason = asks ? Reason::kSuspended : Reason::kOwedTooLong;
  sockaddr nobody = {};
  nobody.sa_family = AF_UNSPEC;
  sys::Call(SYS_connect, fd, reinterpret_cast<long>(&nobody), sizeof nobody);
  Log("reset fd %d: %s", fd, ReasonText(reason));
  side->reason.store(reason, std::memory_order_relaxed);
  CountFallback(reason);
}

namespace {

// What of a direction of this side has ended by now, and is still to be done.
struct Ended {
  bool now = false;      // it was on a FIFO until this call
  bool first = false;    // and the other end had not ended that
  bool pending = false;  // TCP has not taken all of the residue
  bool unread = false;   // the FIFO held bytes,
  uint64_t owed = 0;     // of which so many were readable
  int64_t received_before = 0;
};

// Whose number it must be: under the lock, since a close may be under way. kTaken: ours is the
// close.
enum class Number : uint8_t { kOfTheSide, kTaken };

// Of two ends that seal it at the same moment, one is the first. acq_rel: as Fifo::Seal, which
// follows.
bool IsFirstToSeal(const Fifo& fifo) {
  return !IsSealed(fifo.header->producer.fetch_or(1, std::memory_order_acq_rel));
}

// Signals are blocked, here and below.
Ended EndSendingQuietly(int fd, Side* side, Number number) {
  SocketShadow shadow(fd, side);
  Ended found;
  const LockScope scope(side->send.lock, CurrentTid());
  const SendRoute route = side->send.route.load(std::memory_order_relaxed);
  if (route == SendRoute::kTcp || (number == Number::kOfTheSide && FindSide(fd) != side))
    return found;
  found.now = !SendStream::IsOwing(route);
  found.first = found.now && IsFirstToSeal(side->send.fifo);
  side->send.BeginFlush(shadow);
  found.pending = side->send.PumpResidue(shadow) != 0;
  return found;
}

Ended EndReceivingQuietly(int fd, Side* side, Number number) {
  SocketShadow shadow(fd, side);
  Ended found;
  const LockScope scope(side->receive.lock, CurrentTid());
  const ReceiveRoute route = side->receive.route.load(std::memory_order_relaxed);
  if (route == ReceiveRoute::kTcp || (number == Number::kOfTheSide && FindSide(fd) != side))
    return found;
  found.now = true;
  found.first = IsFirstToSeal(side->receive.fifo);
  const uint64_t held = side->receive.fifo.AvailableBytes();
  found.unread = held > 0;
  // What a shutdown of both ways has kept (EndFifoAndKeep).
  if (route == ReceiveRoute::kResidue)
    found.unread = side->receive.residue_begin != side->receive.residue_end;
  if (route == ReceiveRoute::kFifo && held > 0 && number == Number::kOfTheSide) {
    tcp_info info;
    found.received_before =
        TcpInfoOf(fd, &info) == 0 ? static_cast<int64_t>(info.tcpi_bytes_received) : 0;
    found.owed = held;
  }
  side->receive.EndFifo(shadow);
  return found;
}

Ended EndSending(int fd, Side* side) {
  const sys::SignalsBlocked blocked;
  return EndSendingQuietly(fd, side, Number::kOfTheSide);
}
Ended EndReceiving(int fd, Side* side) {
  const sys::SignalsBlocked blocked;
  return EndReceivingQuietly(fd, side, Number::kOfTheSide);
}

void CountEnd(int fd, Side* side, Reason reason) {
  Log("fall back fd %d: %s", fd, ReasonText(reason));
  side->fallbacks.fetch_add(1, std::memory_order_relaxed);
  side->reason.store(reason, std::memory_order_relaxed);
  CountFallback(reason);
}

}  // namespace

void FallBack(int fd, Side* side, Reason reason) {
  if (side->queue.load(std::memory_order_relaxed) != 0) EndQueue(side, QueueEnd::kGoesOn);
  const Ended sending = EndSending(fd, side);
  const Ended receiving = EndReceiving(fd, side);
  const bool ended = sending.now || receiving.now;
  if (ended) CountEnd(fd, side, reason);
  if (ended || sending.pending) RequestService(side);
  MindWhatIsOwed(side);
  if (receiving.owed > 0 && CurrentTid() != agent_shared.tid.load(std::memory_order_relaxed))
    AwaitResidue(fd, receiving.owed, receiving.received_before);
}

void FallBackSending(int fd, Side* side, Reason reason) {
  const Ended sending = EndSending(fd, side);
  if (sending.now) CountEnd(fd, side, reason);
  if (sending.now || sending.pending) RequestService(side);
}

void FallBackReceiving(int fd, Side* side) {
  if (EndReceiving(fd, side).now) RequestService(side);
}

void StopAsking(Side* side) {
  if (side->send.route.load(std::memory_order_acquire) != SendRoute::kAsking) return;
  const int lingering_fd = side->lingering_fd.load(std::memory_order_acquire);
  const int fd = lingering_fd >= 0 ? lingering_fd : side->fd.load(std::memory_order_acquire);
  SocketShadow shadow(fd, side);
  sys::SignalsBlocked blocked;
  LockScope scope(side->send.lock, CurrentTid());
  if (lingering_fd >= 0 || FindSide(fd) == side) side->send.GiveUp(shadow);
}

namespace {

bool OptionOf(int fd, int name, int* value) {
  socklen_t length = sizeof *value;
  return sys::Call(SYS_getsockopt, fd, SOL_SOCKET, name, sys::Word(value), sys::Word(&length)) == 0;
}
void SetOption(int fd, int name, int value) {
  sys::Call(SYS_setsockopt, fd, SOL_SOCKET, name, sys::Word(&value), sizeof value);
}

// TCP has not taken all of the residue: its send buffer is made larger for a moment, if an ordinary
// program may make it so. The buffer stays as full as it is then, and the options say what they
// said. Not where they cannot be put back (before Linux 5.14).
void MakeRoomForResidue(int fd, Side* side) {
  SocketShadow shadow(fd, side);
  const sys::SignalsBlocked blocked;
  const LockScope scope(side->send.lock, CurrentTid());
  int locks = 0;
  int bytes = 0;
  if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFlushing ||
      FindSide(fd) != side || !OptionOf(fd, kBufferLocks, &locks) ||
      !OptionOf(fd, SO_SNDBUF, &bytes))
    return;
  SetOption(fd, SO_SNDBUF, 1 << 30);  // the kernel makes the most of it that it allows
  int most = bytes;
  OptionOf(fd, SO_SNDBUF, &most);
  if (most > bytes) side->send.PumpResidue(shadow);
  // Less than it was (TCP had made it larger than a program may): as large as it can be then.
  SetOption(fd, SO_SNDBUF, bytes / 2);
  SetOption(fd, kBufferLocks, locks);
}

// Where the residue begins that is still owed; changes when some of it has gone.
uint64_t StillOwedFrom(Side* side) {
  const sys::SignalsBlocked blocked;
  const LockScope scope(side->send.lock, CurrentTid());
  return side->send.residue_begin;
}

bool IsOwing(const Side* side) {
  return SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
}

// Until TCP has what the FIFO owed, or takes no byte of it for so long.
void AwaitRoom(int fd, Side* side, Reason reason, uint64_t longest_ms) {
  uint64_t begin = StillOwedFrom(side);
  TimeLimit limit(InMs(longest_ms));
  for (int turns = 0; IsOwing(side) && turns < kMostTurns &&
                      SleepUntilSettled(fd, side, OwnPatience(&limit)) != -EAGAIN;
       ++turns) {
    FallBack(fd, side, reason);
    const uint64_t now = StillOwedFrom(side);
    if (now == begin) continue;
    begin = now;
    limit = TimeLimit(InMs(longest_ms));
    turns = 0;
  }
}

}  // namespace

void FallBackToTcp(int fd, Reason reason, TcpFor how_long, NextWriter next_writer) {
  Side* side = FindSide(fd);
  DatagramToKernel(fd, reason, how_long == TcpFor::kGood ? KernelFor::kGood : KernelFor::kNow);
  if (side == nullptr) return;
  if (how_long == TcpFor::kGood) side->pinned.store(kPinned, std::memory_order_relaxed);
  FallBack(fd, side, reason);
  side->receive.ForgetTaken();  // who reads next does not pass through us
  side->reason.store(reason, std::memory_order_relaxed);
  if (next_writer == NextWriter::kOurs || !IsOwing(side)) return;
  MakeRoomForResidue(fd, side);
  const bool perhaps = next_writer == NextWriter::kPerhapsUnseen;
  AwaitRoom(fd, side, reason, perhaps ? kLongestForNobodyMs : kLongestFlushMs);
  if (perhaps || !IsOwing(side)) return;
  SocketShadow shadow(fd, side);
  const sys::SignalsBlocked blocked;
  const LockScope scope(side->send.lock, CurrentTid());
  if (FindSide(fd) == side) side->send.SettleOrBreak(shadow);
}

void Bypassed(Reason reason) {
  if (process_state.bypassed || InBorrowedMemory() ||
      !(process_state.ready || process_state.in_doubt))
    return;
  process_state.bypassed = true;
  bulletin.program.store(reason, std::memory_order_relaxed);
  DatagramsToKernel(reason, KernelFor::kGood);
  EachDescriptor([reason](int fd, Side*) { FallBackToTcp(fd, reason, TcpFor::kGood); });
}

EndedByClose EndForClose(int fd, Side* side) {
  const Ended sending = EndSendingQuietly(fd, side, Number::kTaken);
  const Ended receiving = EndReceivingQuietly(fd, side, Number::kTaken);
  return {sending.pending, receiving.unread, sending.first && receiving.first};
}

void FlushForClose(int fd, Side* side) {
  TimeLimit limit(InMs(kLongestFlushMs));
  bool pending = true;
  for (int turns = 0;
       pending && turns < kMostTurns && SleepUntilSettled(fd, side, OwnPatience(&limit)) == 0;
       ++turns) {
    pending = EndSendingQuietly(fd, side, Number::kTaken).pending;
  }
  if (!pending) return;
  SocketShadow shadow(fd, side);
  const LockScope scope(side->send.lock, CurrentTid());
  side->send.GiveUp(shadow);
}

void SendRestLater(int fd, Side* side) {
  if (!SendStream::IsOwing(side->send.route.load(std::memory_order_acquire))) return;
  const int lingering = DuplicateForUs(fd);
  if (lingering < 0) return FlushForClose(fd, side);
  FdTable::SetPrivate(lingering);
  bool owes;
  {
    // Under the lock under which the agent finds that nothing is owed any more.
    const LockScope scope(side->send.lock, CurrentTid());
    owes = IsOurs(side) && SendStream::IsOwing(side->send.route.load(std::memory_order_relaxed));
    if (owes) side->lingering_fd.store(lingering, std::memory_order_release);
  }
  owes ? RequestService(side) : ClosePrivate(lingering);
}

}  // namespace xenloop
