// See sandbox.h.
#include "preload/process/sandbox.h"

#include <sched.h>

#include "preload/agent/agent.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/epoll.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bulletin.h"
#include "preload/side/confinement.h"
#include "preload/side/datagram_side.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/holders.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"
#include "preload/side/unseen_holders.h"

namespace xenloop {
namespace {

// A parent's stream, which a child that is about to exec has inherited with everything else.
bool IsAnothers(const Side* side) {
  return side->attached.load(std::memory_order_acquire) != 0 && !IsOurs(side);
}

// The descriptors are ordinary ones from now on. Who else has the socket finds it shared, and does
// not upgrade it.
void ForgetSides(TcpFor how_long) {
  EachDescriptor([how_long](int fd, Side* side) {
    if (how_long == TcpFor::kNow && IsAnothers(side)) return;
    if (!FdTable::Take(fd, side)) return;
    if (side->holders.load(std::memory_order_acquire) > 1) return LeaveUnseen(side);
    if (side->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    side->holders.store(0, std::memory_order_release);
    if (side->attached.load(std::memory_order_acquire) == 0) FreeSide(side);
  });
}

void Withdraw(Reason reason, TcpFor how_long) {
  bulletin.program.store(reason, std::memory_order_relaxed);
  EachSide([=](int fd, Side* side) {
    if (how_long == TcpFor::kNow && IsAnothers(side)) return;
    // Others may go on without us when we are no more.
    const bool alone = side->holders.load(std::memory_order_acquire) == 1;
    FallBackToTcp(fd, reason, alone ? how_long : TcpFor::kNow);
  });
  DatagramsToKernel(reason, KernelFor::kGood);
  EndAgent(reason);
  WriteStats();
  ForgetSides(how_long);
  if (how_long == TcpFor::kNow) {
    EpollForgetsSides();
  } else {
    EpollForgetsAll();
  }
  ForgetDatagramSides();
  process_state.ready = false;
  BelieveProgramMemory(true);
}

}  // namespace

void BeforeSandbox() {
  if (InBorrowedMemory()) return;
  if (process_state.ready || process_state.in_doubt) Withdraw(Reason::kSandbox, TcpFor::kGood);
  if (process_state.in_doubt) DropLooks();
  if (process_state.pid != 0 && bulletin.program.load() == Reason::kNone)
    bulletin.program.store(Reason::kSandbox);
  process_state.in_doubt = false;
  process_state.sandboxed = true;
}

void BeforeNoNewPrivileges() {
  if (!process_state.ready || InBorrowedMemory()) return;
  Withdraw(Reason::kPrivilegesGivenUp, TcpFor::kNow);
  PrepareLooks();
  EpollBeforeDoubt();
  process_state.in_doubt = true;
}

void BeforeThreadChange(bool of_descriptors) {
  if (!process_state.ready || InBorrowedMemory()) return;
  if (agent_shared.started.load(std::memory_order_acquire) == 0) return;
  const Reason reason =
      of_descriptors && !ProgramHasOneThread() ? Reason::kOwnDescriptors : Reason::kThreadChanged;
  EachSide([reason](int fd, Side* side) {
    if (IsOurs(side)) FallBackToTcp(fd, reason, TcpFor::kNow, NextWriter::kPerhapsUnseen);
  });
  DatagramsToKernel(reason, KernelFor::kNow);
  EndAgent(reason);
}

void BeforeOtherDescriptors() {
  if (process_state.ready && !InBorrowedMemory()) Withdraw(Reason::kOwnDescriptors, TcpFor::kGood);
}

bool BeforeOwnDescriptors() {
  if (!process_state.ready || InBorrowedMemory()) return true;
  // Allowed to a single thread, for which it changes nothing.
  if (sys::Call(SYS_unshare, CLONE_THREAD) == 0) return false;
  BeforeOtherDescriptors();
  return true;
}

void AfterThreadChange() {
  if (process_state.ready && !InBorrowedMemory()) MayStartAgent();
}

}  // namespace xenloop
