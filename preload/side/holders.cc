// See holders.h.
#include "preload/side/holders.h"

#include <sys/socket.h>

#include "discovery/handover.h"
#include "preload/settings/config.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/forked_holders.h"
#include "preload/side/leaving.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/unseen_holders.h"

namespace xenloop {

bool InBorrowedMemory() { return process_state.lends && sys::GetPid() != process_state.pid; }

bool IsStandardStream(const Side* side) {
  for (int fd = 0; fd < 3; ++fd) {
    if (FdTable::FindSide(fd) == side) return true;
  }
  return false;
}

uint64_t CookieOf(int fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, sys::Word(&cookie),
                   sys::Word(&length)) == 0
             ? cookie
             : 0;
}

bool AllHoldersAreKnown(const Side* side) {
  const int32_t handed = side->handed_pid.load(std::memory_order_acquire);
  return side->Connected() && side->inherited.load(std::memory_order_relaxed) == 0 &&
         (handed == 0 || handed == process_state.pid);
}

namespace {

// A thread that is inside a call goes on with the socket when its number is closed.
bool IsInACall(const Side* side) {
  return side->send.kernel_users.Any() || side->receive.kernel_users.Any() ||
         side->blocked_calls.load(std::memory_order_acquire) != 0 ||
         side->blocked_sends.load(std::memory_order_acquire) != 0;
}

// We and ours have closed what we had passed on, and did nothing else with it that lasts.
bool HasLeftItToTheTaker(const Side* side) {
  return side->inherited.load(std::memory_order_relaxed) == 0 &&
         side->pinned.load(std::memory_order_acquire) == kPassedOn && !IsInACall(side) &&
         !SendStream::IsOwing(side->send.route.load(std::memory_order_acquire));
}

// `handed_pid` has it alone now. Who brings the count down to one looks again: another process may
// have been given it in between, and then it is the next to let go who says so. First of all: which
// attempt to hand it on is meant? It may fail while we look, and the next one begin.
void SayWhoHasItAlone(Side* side) {
  const uint64_t left_ns = side->handed_ns.load(std::memory_order_seq_cst);
  const int32_t handed = side->handed_pid.load(std::memory_order_seq_cst);
  if (handed == 0 || handed == process_state.pid || MayComeBack(side) ||
      side->holders.load(std::memory_order_seq_cst) != 1 ||
      (handed < 0 && !HasLeftItToTheTaker(side)))
    return;
  SayNoLongerShared(GetConfig().runtime_dir, side->handed_uid.load(std::memory_order_relaxed),
                    handed, side->cookie.load(std::memory_order_relaxed), left_ns);
}

}  // namespace

void EndShare(Side* side) {
  EachDescriptor([side](int fd, Side* here) {
    if (here == side && FdTable::Take(fd, side))
      side->references.fetch_sub(1, std::memory_order_acq_rel);
  });
  LetGo(side);
}

void LetGo(Side* side) {
  LeftToUnseen(side);  // first: another's close may free it
  ForkedHolderLetsGo(side);
  const uint32_t generation = side->generation.load(std::memory_order_relaxed);
  const int32_t left = side->holders.fetch_sub(1, std::memory_order_seq_cst) - 1;
  if (left > 0) LeftToForked();
  if (left == 1) SayWhoHasItAlone(side);
  if (left <= 0 || left > side->outside.load(std::memory_order_acquire)) return;
  // Nobody who shares the arena has it any longer.
  if (side->generation.load(std::memory_order_acquire) != generation) return;
  if (side->attached.load(std::memory_order_acquire) != 0) {
    AgentRelease(side, -1);
  } else {
    side->references.store(0, std::memory_order_release);
    FreeSide(side);
  }
}

void UpdateInherited(Side* side) {
  if (side->inherited.load(std::memory_order_relaxed) == 0) return;
  if (IsStillShared(GetConfig().runtime_dir, side->handed_uid.load(std::memory_order_relaxed),
                    side->handed_pid.load(std::memory_order_relaxed),
                    side->cookie.load(std::memory_order_relaxed))) {
    return;
  }
  if (side->inherited.exchange(0, std::memory_order_acq_rel) == 0) return;
  side->options_asked.store(0, std::memory_order_relaxed);  // others could change them until now
  const int32_t handed = side->handed_pid.exchange(0, std::memory_order_acq_rel);
  if (handed < 0) {  // nobody shall find it again
    VoidHandovers(GetConfig().runtime_dir, side->handed_uid.load(std::memory_order_relaxed),
                  handed);
  }
  side->holders.fetch_sub(1, std::memory_order_acq_rel);
}

}  // namespace xenloop
