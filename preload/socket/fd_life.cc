// The life of descriptors: when a socket becomes a side, when a duplicate shares it, and what the
// last close of an accelerated socket owes its peer.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "channel/base/time.h"
#include "discovery/handover.h"
#include "preload/agent/agent.h"
#include "preload/libc/errno.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/bulletin.h"
#include "preload/side/confinement.h"
#include "preload/side/datagram_side.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/log.h"
#include "preload/side/lowest_number.h"
#include "preload/side/mailbox.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"
#include "preload/side/unseen_holders.h"
#include "preload/side/wait.h"
#include "preload/socket/parked.h"
#include "preload/socket/socket.h"
#include "preload/socket/submissions.h"

namespace xenloop {
namespace {

void Follow(int fd) {
  const bool in_range = FdTable::InRange(fd);
  if (process_state.bypassed) return;
  Side* const side = in_range ? AllocateSide() : nullptr;
  if (side == nullptr) {
    bulletin.unfollowed.store(Reason::kAgentNoMemory, std::memory_order_relaxed);
    return CountFallback(Reason::kAgentNoMemory);
  }
  LookAtProgramMemory();
  side->fd.store(fd, std::memory_order_release);
  side->next_attempt.store(GetConfig().upgrade_after, std::memory_order_relaxed);
  FdTable::SetSide(fd, side);
}

// May end a doubt; the sets, too, are looked at no more if a filter stands.
bool MayFollowNow() {
  const bool in_doubt = process_state.in_doubt;
  const bool may = MayFollow();
  if (in_doubt && !may) EpollForgetsAll();
  return may;
}

// A connection without a side has its place in the statistics, too; the question whether it is one
// is asked for them alone.
void NoteUnfollowed(int fd) {
  if (GetConfig().stats_file[0] == '\0' || process_state.sandboxed || process_state.in_doubt ||
      InBorrowedMemory())
    return;
  int protocol = 0;
  socklen_t length = sizeof protocol;
  if (sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, sys::Word(&protocol),
                sys::Word(&length)) != 0 ||
      protocol != IPPROTO_TCP)
    return;
  Reason why = bulletin.program.load(std::memory_order_relaxed);
  if (why == Reason::kNone) why = bulletin.unfollowed.load(std::memory_order_relaxed);
  CountUnfollowed(why != Reason::kNone ? why : Reason::kUnseen);
}

// A thread of ours sleeps in a call on this very socket. The kernel would let it go on with the
// open file after the close, and end the connection when the call returns; so does this: the side
// lives on under a private number.
bool LeaveToBlockedCalls(int fd, Side* side) {
  const int duplicate = DuplicateForUs(fd);
  if (duplicate < 0 || !FdTable::InRange(duplicate)) return false;
  LockScope send(side->send.lock, CurrentTid());
  LockScope receive(side->receive.lock, CurrentTid());
  if (!FdTable::Take(fd, side)) {
    sys::Close(duplicate);
    return true;
  }
  FdTable::SetSide(duplicate, side);
  side->fd.store(duplicate, std::memory_order_release);
  side->orphaned.store(1, std::memory_order_release);
  return true;
}

// Then the end of TCP follows at once, which the peer's agent sees, and answers ours.
bool HoldersAreCounted(const Side* side) {
  return side->kept.load(std::memory_order_relaxed) == 0 &&
         side->inherited.load(std::memory_order_relaxed) == 0 &&
         side->outside.load(std::memory_order_relaxed) == 0;
}

// The last close of an accelerated side: both directions go back to TCP, and the kernel closes what
// is then an ordinary connection. Unread bytes make it reset the connection, as TCP does.
void CloseAttached(int fd, Side* side) {
  sys::SignalsBlocked blocked;
  const EndedByClose ended = EndForClose(fd, side);
  Log("close fd %d: residue %s, unread %s", fd, ended.pending ? "pending" : "none",
      ended.unread ? "yes" : "no");
  int lingering = -1;
  if (ended.pending && !IsOurs(side)) {
    // A number of ours means nothing to another process's agent, which has its own for this
    // (SendRestLater), if it is still there.
    if (side->lingering_fd.load(std::memory_order_acquire) < 0) FlushForClose(fd, side);
  } else if (ended.pending) {
    lingering = DuplicateForUs(fd);
    if (lingering >= 0) {
      FdTable::SetPrivate(lingering);
    } else {  // no descriptor left for the agent to go on with: this close waits
      FlushForClose(fd, side);
    }
  } else if (ended.unread) {
    const linger reset{1, 0};
    sys::Call(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, reinterpret_cast<long>(&reset),
              sizeof reset);
  }
  AgentRelease(side, lingering,
               ended.first && !ended.pending && HoldersAreCounted(side) ? Release::kWhenItWakes
                                                                        : Release::kNow);
}

// Whose agent looks after an accelerated side knows the socket by a number of its own process. To
// write to another file there would be the worst that a forked child could do.
bool MayRename(const Side* side) {
  return IsOurs(side) || side->attached.load(std::memory_order_acquire) == 0;
}

enum class Closed : uint8_t { kOneOfSeveral, kLast };

// One number of several. kLast: other threads have closed the others meanwhile; this one is out of
// the table already.
Closed CloseOneOfSeveral(int fd, Side* side) {
  const int other = OtherDescriptor(side, fd);
  if (other < 0) {
    // Other processes go on with it. Ours will not look after it any longer.
    if (IsOurs(side)) {
      FallBack(fd, side, Reason::kHandedOver);
      SendRestLater(fd, side);
    }
    EpollLosesNumber(side, kAnyNumber);
  } else if (EpollKnowsBy(side, fd)) {
    // The kernel's sets go on telling of it by this number, by which nobody can change that.
    side->pinned.store(kPinned, std::memory_order_relaxed);
    side->reason.store(Reason::kEpollUnfollowed, std::memory_order_relaxed);
    FallBack(fd, side, Reason::kEpollUnfollowed);
    EpollLosesNumber(side, fd);
  }
  {
    // Under the locks nobody is about to write there by this number.
    const LockScope send(side->send.lock, CurrentTid());
    const LockScope receive(side->receive.lock, CurrentTid());
    if (!FdTable::Take(fd, side)) return Closed::kOneOfSeveral;
    if (other >= 0 && MayRename(side) && side->fd.load(std::memory_order_relaxed) == fd)
      side->fd.store(other, std::memory_order_release);
  }
  // Who finds itself alone leaves the count as it is: at 0 the agent lets go of the FIFOs.
  int32_t held = side->references.load(std::memory_order_acquire);
  while (held > 1 &&
         !side->references.compare_exchange_weak(held, held - 1, std::memory_order_acq_rel)) {
  }
  if (held <= 1) return Closed::kLast;
  if (other < 0) LetGo(side);
  return Closed::kOneOfSeveral;
}

void CloseSide(int fd, Side* side) {
  if (Parks() && CloseParked(fd, side)) return;
  UpdateUnseen(fd, side);
  bool taken = false;
  if (side->references.load(std::memory_order_acquire) > 1) {
    if (CloseOneOfSeveral(fd, side) == Closed::kOneOfSeveral) return;
    taken = true;
  }
  if (!taken && side->blocked_calls.load(std::memory_order_acquire) > 0 &&
      LeaveToBlockedCalls(fd, side))
    return;
  // Somebody whom nobody counts may hold it, and then the kernel's sets go on telling of it.
  if (side->kept.load(std::memory_order_relaxed) != 0 ||
      side->inherited.load(std::memory_order_relaxed) != 0)
    EpollLosesNumber(side, kAnyNumber);
  bool attached;
  {
    // Under the send lock the agent cannot be half-way through attaching this side.
    LockScope send(side->send.lock, CurrentTid());
    LockScope receive(side->receive.lock, CurrentTid());
    if (!taken && !FdTable::Take(fd, side)) return;
    CountClosed(fd, side);
    attached = side->attached.load(std::memory_order_acquire) != 0;
  }
  EpollForgets(side);
  LetGoOfPair(side);
  if (attached) {
    // Counts as closed (references == 0) only when both directions are on TCP: the agent lets go of
    // the FIFOs of what is closed.
    CloseAttached(fd, side);
  } else {
    side->references.store(0, std::memory_order_release);
    side->holders.store(0, std::memory_order_release);
    FreeSide(side);
  }
}

// The number means another file by now, so nothing of this may touch it. The peer learns of the end
// from the kernel, and finds in the FIFO what it has not read, as where a process has died.
void ClosedUnseen(int fd, Side* side) {
  constexpr int kNoNumber = -1;
  if (!FdTable::Take(fd, side)) return;
  int32_t number = fd;
  if (MayRename(side))
    side->fd.compare_exchange_strong(number, OtherDescriptor(side, fd), std::memory_order_acq_rel);
  const bool attached = side->attached.load(std::memory_order_acquire) != 0;
  if (side->references.load(std::memory_order_acquire) > 1) {
    side->references.fetch_sub(1, std::memory_order_acq_rel);
    if (OtherDescriptor(side, fd) >= 0) return;
    if (attached && IsOurs(side)) {
      const sys::SignalsBlocked blocked;
      EndForClose(kNoNumber, side);
    }
    return LetGo(side);
  }
  {
    LockScope send(side->send.lock, CurrentTid());
    LockScope receive(side->receive.lock, CurrentTid());
    CountClosed(kNoNumber, side);
  }
  EpollForgets(side);
  if (attached) {
    const sys::SignalsBlocked blocked;
    EndForClose(kNoNumber, side);
    return AgentRelease(side, -1, Release::kNow);
  }
  side->references.store(0, std::memory_order_release);
  side->holders.store(0, std::memory_order_release);
  FreeSide(side);
}

}  // namespace

void NumberIsNew(int fd) {
  const KeepErrno keep_errno;
  if (FdTable::IsPrivate(fd) || InBorrowedMemory()) return;
  if (Side* const side = FindSide(fd)) return ClosedUnseen(fd, side);
  BeforeClose(fd);
}

void SocketCreated(int fd, int domain, int type, int protocol) {
  if (domain != AF_INET && domain != AF_INET6) return;
  if ((type & 0xf) != SOCK_STREAM || (protocol != 0 && protocol != IPPROTO_TCP)) return;
  if (MayFollowNow()) Follow(fd);
}

void SocketConnected(int fd) {
  Side* side = FindSide(fd);
  if (side == nullptr) return NoteUnfollowed(fd);
  if (side->pinned.load(std::memory_order_relaxed) != 0 &&
      side->reason.load() == Reason::kDisconnected) {
    side->pinned.store(0, std::memory_order_relaxed);  // dissolved, and now connected anew
    side->shut.store(0, std::memory_order_relaxed);
    side->next_attempt.store(0, std::memory_order_relaxed);
    if (GetConfig().test_points) WantUpgrade(side);
  }
  if (side->opening.exchange(Opening::kConnected, std::memory_order_relaxed) != Opening::kNone)
    return;
  CountConnection();
  if (GetConfig().test_points) WantUpgrade(side);
}

bool SocketAdopted(int fd, const Handover& note, int32_t key, uid_t uid) {
  Follow(fd);
  Side* side = FindSide(fd);
  if (side == nullptr) return false;
  const auto opening = static_cast<Opening>(note.opening);
  const bool seen = opening == Opening::kAccepted || opening == Opening::kConnected;
  side->cookie.store(note.cookie, std::memory_order_relaxed);
  side->handed_pid.store(note.shared != 0 ? key : 0, std::memory_order_relaxed);
  side->handed_uid.store(uid, std::memory_order_relaxed);
  side->inherited.store(note.shared, std::memory_order_relaxed);
  if (note.shared != 0) side->holders.store(2, std::memory_order_relaxed);
  side->opening.store(seen ? opening : Opening::kUnseen, std::memory_order_relaxed);
  CountConnection();
  if (GetConfig().test_points) side->next_attempt.store(0, std::memory_order_relaxed);
  return true;
}

void SocketReceived(int fd) {
  tcp_info info;
  if (TcpInfoOf(fd, &info) == 0 && info.tcpi_state == SocketShadow::kTcpEstablished)
    NoteUnfollowed(fd);
}

void SocketAccepted(int fd, sa_family_t family) {
  if (family != AF_INET && family != AF_INET6) return;
  // Of a listener that we do not know the agent asks the protocol, before it offers anything.
  if (MayFollowNow()) Follow(fd);
  Side* side = FindSide(fd);
  if (side == nullptr) return NoteUnfollowed(fd);
  side->opening.store(Opening::kAccepted, std::memory_order_relaxed);
  CountConnection();
  if (GetConfig().test_points || GetConfig().upgrade_after == 0) WantUpgrade(side);
}

bool CloseConcernsUs(int fd) { return MayKnow() && !FdTable::IsEmpty(fd); }

bool IsSetInDoubt(int fd) { return process_state.in_doubt && FindEpollSet(fd) != nullptr; }

int BeforeClose(int fd) {
  if (FdTable::IsPrivate(fd)) return -EBADF;
  if (EpollSet* set = FdTable::FindEpollSet(fd)) {
    EpollSetClosed(fd, set);
    FdTable::Clear(fd);
    return 0;
  }
  if (SubmissionQueue* queue = FdTable::FindSubmissions(fd)) {
    SubmissionsClosed(queue);
    FdTable::Clear(fd);
    return 0;
  }
  if (DatagramSide* const datagrams = FindDatagram(fd)) {
    DatagramClosed(fd, datagrams);
  } else if (Side* const side = FindSide(fd)) {
    CloseSide(fd, side);
  }
  AwaitAgent(fd);
  return 0;
}

namespace {
int CloseInKernel(unsigned first, unsigned last) {
  const Placing placing;
  return static_cast<int>(sys::Call(SYS_close_range, first, last, 0));
}
}  // namespace

int CloseRange(unsigned first, unsigned last, int flags) {
  if (flags != 0 || first > last || InBorrowedMemory() || !MayKnow()) {
    return static_cast<int>(sys::Call(SYS_close_range, first, last, flags));
  }
  const unsigned end = static_cast<unsigned>(FdTable::End());
  unsigned start = first;
  for (unsigned fd = first; fd < end && fd <= last;
       fd = static_cast<unsigned>(FdTable::Next(static_cast<int>(fd)))) {
    if (FdTable::IsEmpty(static_cast<int>(fd))) continue;
    if (BeforeClose(static_cast<int>(fd)) == 0) continue;
    if (start < fd) CloseInKernel(start, fd - 1);
    start = fd + 1;
  }
  return start <= last ? CloseInKernel(start, last) : 0;
}

void Duplicated(int from, int to) {
  if (IsSetInDoubt(from)) return EpollSetIsWatchedBlindly(FindEpollSet(from));
  if (!process_state.ready || from == to || InBorrowedMemory()) return;
  if (!FdTable::IsEmpty(from) && !FdTable::InRange(to)) {
    // Nobody would see what is done by that number.
    FallBackToTcp(from, Reason::kAgentNoMemory, TcpFor::kGood);
    if (EpollSet* set = FindEpollSet(from)) EpollSetIsWatchedBlindly(set);
    if (FdTable::FindSubmissions(from) != nullptr) Bypassed(Reason::kIoUringUnknown);
    return;
  }
  DatagramToKernel(from, Reason::kDuplicated, KernelFor::kGood);
  if (Side* side = FindSide(from)) {
    side->references.fetch_add(1, std::memory_order_acq_rel);
    FdTable::SetSide(to, side);
    if (to < 3) FallBackToTcp(to, Reason::kStandardStream, TcpFor::kNow);
  } else if (EpollSet* set = FindEpollSet(from)) {
    EpollSetDuplicated(set);
    FdTable::SetEpollSet(to, set);
  } else if (SubmissionQueue* queue = FdTable::FindSubmissions(from)) {
    SubmissionsDuplicated(queue);
    FdTable::SetSubmissions(to, queue);
  }
}

int MakeRoomAt(int fd) {
  if (FdTable::IsPrivate(fd)) AgentMovePrivate(fd);
  return 0;
}

namespace {
// A vfork child may have opened something else by that number, which our tables know as the
// parent's. What cannot be asked counts as the same.
bool IsTheParents(int fd) {
  char path[48];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", process_state.pid, fd);
  struct stat theirs;
  struct stat ours;
  return sys::Call(SYS_newfstatat, AT_FDCWD, sys::Word(path), sys::Word(&theirs), 0) != 0 ||
         sys::Call(SYS_fstat, fd, sys::Word(&ours)) != 0 ||
         (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino);
}
}  // namespace

void KeptForAnotherProgram(int fd) {
  if (!process_state.ready || FdTable::IsEmpty(fd)) return;
  if (InBorrowedMemory() && !IsTheParents(fd)) return;
  if (EpollSet* const set = FdTable::FindEpollSet(fd)) return EpollSetLeaves(set);
  if (Side* const side = FindSide(fd)) side->kept.store(1, std::memory_order_relaxed);
  FallBackToTcp(fd, Reason::kSpawned, TcpFor::kGood);
}

}  // namespace xenloop
