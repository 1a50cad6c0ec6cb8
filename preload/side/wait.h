// How a thread waits for a FIFO: spin a little while that pays, then ask to be woken, look once
// more, and sleep in the kernel. The one place in this library where a data call blocks; nothing
// that needs releasing is held across it.
#pragma once

#include <cstdint>

#include "channel/base/abandon.h"
#include "channel/base/time.h"
#include "preload/libc/threads.h"
#include "preload/side/interruption.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/side.h"

namespace xenloop {

enum class Wanted : uint8_t { kData, kRoom };

// When a time-out of so many microseconds ends; 0 means never.
TimeLimit LimitAfter(int64_t timeout_us);

// Spins until there is data (or room), the route has changed, or spinning has not paid. True: try
// again now.
bool SpinFor(Side* side, Wanted wanted, Self self);

// What a yield of a wait has cost: for some waits after one that took long nobody spins or yields.
void YieldHasTaken(uint64_t ns);

// A request to be woken: sleep on the word while it holds `armed`. word null: the route has
// changed, try again.
struct WakeRequest {
  const volatile void* word;
  uint32_t armed;
  bool of_this_process;  // the kernel can only tell our own sleepers there (Fifo::foreign)
};
WakeRequest RequestWake(int fd, Side* side, Wanted wanted, Self self);

// Counts this thread as one that sleeps with FIFOs in view: our doorbell is rung for it, and these
// bells (bells.h).
class SleeperCount : public Abandonable {
 public:
  explicit SleeperCount(uint32_t bell, uint32_t second = kAnyBell);
  ~SleeperCount();

 private:
  static void GiveBack(Abandonable* scope);
  SleeperPages counted_;
};

// This thread counts in a direction as one that is inside the kernel.
template <typename Direction>
class KernelVisit : public Abandonable {
 public:
  explicit KernelVisit(Direction* direction) : direction_(direction) { Enter(&GiveBack); }
  ~KernelVisit() { Leave(); }

 private:
  static void GiveBack(Abandonable* scope) {
    static_cast<KernelVisit*>(scope)->direction_->kernel_users.Leave();
  }
  Direction* const direction_;
};

template <typename Direction, class Call>
inline auto InKernel(Direction* direction, Call call) -> decltype(call()) {
  const KernelVisit<Direction> visit(direction);
  return call();
}

// Makes a call that is a cancellation point. What the scopes of this thread hold is given back if
// the thread ends there.
template <class Call>
auto Cancellable(Call call) -> decltype(call()) {
  return threads::CleaningUp(call, &Abandonable::AbandonAll);
}

// How a call of the program waits: when its time is over, and what a handler does to it. One with
// SA_RESTART does not end an untimed sleep, as with recv(2); it does end a timed one, as with
// SO_RCVTIMEO, and one of a call that has moved some bytes already (`partial`).
struct Patience {
  TimeLimit* limit;
  bool partial;
  const Interruption* interruption;  // null: no call of the program, handlers are no matter

  bool Restarts() const { return limit->IsForEver() && !partial; }
  bool Interrupted() const { return interruption != nullptr && interruption->Ends(Restarts()); }
};
inline Patience OwnPatience(TimeLimit* limit) { return {limit, false, nullptr}; }

// Sleeps. 0: try again; -EINTR; -EAGAIN: the deadline has passed. A cancellation point.
int Sleep(const WakeRequest& request, const Patience& patience);

// Sleeps until the shadow socket takes bytes again (a residue is being flushed) or, while it is
// being asked where the residue begins, for a moment; or until it has bytes (its low-water mark
// counts). Same results.
int SleepUntilSettled(int fd, const Side* side, const Patience& patience);
int SleepUntilReadable(int fd, const Patience& patience);

// A SleepingCall that is a cancellation point. (-errno, or kHandlerBegan.)
long CancellableSleep(uint64_t begun, long number, long a, long b, long c, long d, long e = 0,
                      long f = 0);

// A handler has run in a call that is about to go to the kernel, or to go there again, and waits
// there for that: it ends now, unless what it waits for is there.
bool InterruptedBefore(const Interruption& interruption, bool restarts, int fd, short events);

// For a peer that runs on our own processor, and cannot answer while we spin: offers it the
// processor, which is a short way to be woken. False: others want the processor.
inline constexpr uint32_t kYieldsOnOneCpu = 2;
bool IsCrowded();
bool YieldBriefly();
template <class Look>
bool YieldUntil(Look look) {
  if (IsCrowded()) return false;
  for (uint32_t i = 0; i < kYieldsOnOneCpu; ++i) {
    const bool brief = YieldBriefly();
    if (look()) return true;
    if (!brief) break;
  }
  return false;
}

// Spin bookkeeping for waits on several descriptors (poll, epoll): how long to spin, and whether it
// paid.
uint32_t SharedSpinBudgetUs();
void SharedSpinEnded(bool paid);
bool SharedSpinYields();
// One turn of a spin loop that began at `*start_ns` (0 at first: filled in when it matters). False:
// time is up. `yields`: offers the processor to others, who may be the peer, and ends when they
// take it for long. A peer in another guest is never waiting for it; there the short spin is all we
// take.
bool SpinTurn(uint64_t* start_ns, uint32_t budget_us, uint32_t* turns, bool yields);

}  // namespace xenloop
