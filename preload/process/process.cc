// fork, exec, spawn and exit: what becomes of followed sockets when the process changes. A forked
// child shares the sides it inherits; a program that we do not see start gets them on TCP.
#include "preload/process/process.h"

#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/process/inheritance.h"
#include "preload/ready/epoll.h"
#include "preload/ready/lent_bell.h"
#include "preload/settings/config.h"
#include "preload/side/datagram_side.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/forked_holders.h"
#include "preload/side/holders.h"
#include "preload/side/lowest_number.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"
#include "preload/side/unseen_holders.h"
#include "preload/socket/socket.h"

extern "C" {
// What pthread_atfork calls, which is linked into each object. Weak: another libc does not have it,
// and must load us all the same (see init.cc).
int __register_atfork(void (*before)(), void (*in_parent)(), void (*in_child)(), void* object)
    __attribute__((weak));
// NOLINTNEXTLINE(readability-identifier-naming)
extern void* __dso_handle __attribute__((visibility("hidden")));
}

namespace xenloop {
namespace {

constexpr int kLongestDrainMs = 3000;

// The child will hold everything that we hold. Done in the parent, so that a close here cannot be
// the last one.
void ShareSides() {
  EachDescriptor([](int, Side* side) { side->references.fetch_add(1, std::memory_order_acq_rel); });
  EachSide([](int, Side* side) {
    // Under a lock that the agent holds while it attaches a side: what is not attached yet stays on
    // TCP, or the child would wait for it in the kernel for ever.
    LockScope scope(side->send.lock, CurrentTid());
    side->holders.fetch_add(1, std::memory_order_acq_rel);
  });
}

// A socket that the parent has closed while a thread of it slept in a call: the child has no such
// thread, and its program never knew the number.
void DropOrphans() {
  EachDescriptor([](int fd, Side* side) {
    if (side->orphaned.load(std::memory_order_acquire) == 0) return;
    BeforeClose(fd);
    sys::Close(fd);
  });
}

void BeforeFork() {
  UnseenMayHandOn();
  process_state.forks = true;
  DatagramsToKernel(Reason::kShared, KernelFor::kGood);
  EndAllPairs();
  EpollBeforeFork();
  AgentBeforeFork();
  ShareSides();
  HoldLowNumbers();  // last: nothing waits for the agent from here on
}

void AfterFork() {
  ReleaseLowNumbers();
  AgentAfterFork();
}

void BecomeChild(uint32_t tid) {
  const int32_t parent = process_state.pid;
  ForgetLowNumbers();
  cached_tid = tid;  // 0: libc knows it
  process_state.pid = static_cast<int32_t>(CurrentTid());
  process_state.lends = false;
  process_state.forked_from = parent;
  NoteForkedHolder();
  // A parent in another namespace of processes has no number here. Not asked before there was an
  // agent, when no call is ours to make.
  process_state.same_numbers = process_state.same_numbers && process_state.ready &&
                               agent.sides != nullptr && sys::Call(SYS_getppid) != 0;
  AgentForkedChild(parent);
  ForgetDatagramSides();
  ForgetParked();
  EpollForkedChild();
  PollForkedChild();
  ForgetStats();
  DropOrphans();
  if (!GetConfig().test_points) return;
  EachDescriptor([](int, Side* side) { side->next_attempt.store(0, std::memory_order_relaxed); });
}

void InChild() { BecomeChild(0); }

// The next program finds what is registered in them.
void SurvivingSetsAreInherited() {
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    EpollSet* const set = FdTable::FindEpollSet(fd);
    if (set != nullptr && SurvivesExec(fd)) EpollSetIsInherited(set);
  }
}

}  // namespace

void InstallForkHandlers() { __register_atfork(BeforeFork, AfterFork, InChild, &__dso_handle); }

void BeforeRawFork() {
  UnseenMayHandOn();
  if (!process_state.ready || InBorrowedMemory()) return;
  AgentSettle();
  process_state.forks = true;
  DatagramsToKernel(Reason::kShared, KernelFor::kGood);
  EndAllPairs();
  process_state.lends = true;  // for AfterRawFork, which must tell parent from child
  EpollBeforeFork();
  AgentBeforeFork();
  HoldLowNumbers();
}

void AfterRawFork(pid_t child) {
  if (child != 0 && process_state.ready && !InBorrowedMemory()) AfterFork();
  if (child != 0 || !process_state.ready || !InBorrowedMemory()) return;
  cached_tid = 0;  // first: locks are shared with the parent
  ShareSides();
  BecomeChild(static_cast<uint32_t>(sys::GetTid()));  // its libc believes in the parent's number
}

void BeforeSpawn() {
  UnseenMayHandOn();
  if (!process_state.ready || InBorrowedMemory()) return;
  SurvivingSetsAreInherited();
  EachDatagramSide([](DatagramSide* side) {
    const int fd = side->fd.load(std::memory_order_acquire);
    if (FindDatagram(fd) == side && SurvivesExec(fd))
      DatagramToKernel(fd, Reason::kSpawned, KernelFor::kGood);
  });
  bool waits = true;
  EachDescriptor([&waits](int fd, Side* side) {
    if (!side->Connected() || !SurvivesExec(fd)) return;
    side->kept.store(1, std::memory_order_relaxed);
    if (side->pinned.load(std::memory_order_relaxed) == kPinned) return;
    FallBackToTcp(fd, Reason::kSpawned, TcpFor::kGood,
                  waits ? NextWriter::kPerhapsUnseen : NextWriter::kOurs);
    // One whose reader stands still is waited for; others like it need not be, after that.
    waits = waits && !SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
  });
}

void BeforeLending() {
  ChildIsMade();
  BeforeSpawn();
  process_state.lends = true;
}

void BeforeExec(const FileId& program) {
  UnseenMayHandOn();
  if (!process_state.ready || InBorrowedMemory()) return;
  SurvivingSetsAreInherited();
  EndAllPairs();
  bool waits = true;
  EachDescriptor([&waits](int fd, Side* side) {
    const bool survives = SurvivesExec(fd);
    if (survives) side->kept.store(1, std::memory_order_relaxed);
    if (side->attached.load(std::memory_order_acquire) == 0 || (!survives && !IsOurs(side))) return;
    // What the next program does not have it does not write to; and a child's is mostly its
    // parent's, which goes on with it, by its FIFOs if that program has none of it.
    const NextWriter writer = !survives || !waits ? NextWriter::kOurs
                              : IsOurs(side)      ? NextWriter::kUnseen
                                                  : NextWriter::kPerhapsUnseen;
    FallBackToTcp(fd, Reason::kExec, TcpFor::kNow, writer);
    if (!IsOurs(side))
      waits = waits && !SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
  });
  DatagramsToKernel(Reason::kExec, KernelFor::kNow);
  LeaveForNextProgram(program);
  AgentDrain(kLongestDrainMs);
}

void AfterFailedExec() {
  if (!process_state.ready || InBorrowedMemory()) return;
  TakeBackFromNextProgram();
}

void BeforeExit() {
  if (InBorrowedMemory()) return;
  WriteStats();
  if (!process_state.ready) return;
  AgentDrain(kLongestDrainMs);
  // A child's share in what it inherited ends with it.
  EachSide([](int, Side* side) {
    if (side->holders.load(std::memory_order_relaxed) > 1) EndShare(side);
  });
}

}  // namespace xenloop
