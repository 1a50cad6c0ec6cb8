// See wait.h.
#include "preload/side/wait.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "channel/base/time.h"
#include "preload/settings/config.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// Also a wait that never pays spins this long: it is less than a context switch.
constexpr uint32_t kLeastSpinUs = 4;
// So long we spin alone, before the processor is offered to others.
constexpr uint32_t kPureSpinUs = 3;

std::atomic<uint32_t> shared_history{0};  // of waits on several descriptors

// When a yield has cost us a time slice, others want our processor. For so many waits after that we
// neither yield nor spin, but sleep: who has slept gets the processor back sooner. Where the next
// try has cost one again, for twice as many, and so on: a slice is as long as a hundred waits.
constexpr uint32_t kCrowdedWaits = 200;
constexpr uint32_t kMostDoublings = 7;
// So many yields without one undo one doubling.
constexpr uint32_t kBriefYields = 64;
constexpr uint64_t kLongYieldNs = 25000;
// Less than this is no slice, but somebody's short work (a thread that helps to collect garbage):
// about as many waits go to sleep as would have been made meanwhile.
constexpr uint64_t kSliceNs = 500 * kNsPerUs;
constexpr uint64_t kWaitNs = 5 * kNsPerUs;

// In one word: of several threads that change it at once, one is believed.
struct Crowd {
  uint16_t waits_left;
  uint8_t doublings;
  uint8_t brief_yields;
};
static_assert((kCrowdedWaits << kMostDoublings) <= UINT16_MAX &&
              std::atomic<Crowd>::is_always_lock_free);
std::atomic<Crowd> crowded_waits{Crowd{}};

// A yield that has taken no time at all is one under a clock that stands still (libfaketime), or
// that counts milliseconds: what it has cost is not known, and may have been a slice.
bool IsBrief(uint64_t ns) { return ns != 0 && ns < kLongYieldNs; }
}  // namespace

bool IsCrowded() {
  Crowd crowd = crowded_waits.load(std::memory_order_relaxed);
  if (crowd.waits_left == 0) return false;
  --crowd.waits_left;
  crowded_waits.store(crowd, std::memory_order_relaxed);
  return true;
}

void YieldHasTaken(uint64_t ns) {
  Crowd crowd = crowded_waits.load(std::memory_order_relaxed);
  if (ns >= kLongYieldNs && ns < kSliceNs) {
    crowd.waits_left = static_cast<uint16_t>(ns / kWaitNs);
  } else if (!IsBrief(ns)) {
    crowd.waits_left = static_cast<uint16_t>(kCrowdedWaits << crowd.doublings);
    if (crowd.doublings < kMostDoublings) ++crowd.doublings;
    crowd.brief_yields = 0;
  } else if (crowd.doublings > 0) {
    if (++crowd.brief_yields == kBriefYields) {
      crowd.brief_yields = 0;
      --crowd.doublings;
    }
  } else {
    return;
  }
  crowded_waits.store(crowd, std::memory_order_relaxed);
}

// False: the processor is wanted by others.
bool YieldBriefly() {
  const uint64_t before = sys::MonotonicNs();
  sys::Yield();
  const uint64_t taken = sys::MonotonicNs() - before;
  YieldHasTaken(taken);
  return IsBrief(taken);
}

namespace {

// How long to spin is learnt from what became of the last waits. The history is one word: its low
// half is the budget in microseconds, its high half counts the waits since spinning last paid.
constexpr uint32_t kBudgetBits = 16;
constexpr uint32_t kFirstProbe = 16;
constexpr uint32_t kMostMisses = 4096;

// The longest spin. To wake somebody in another guest costs several times what a futex costs (two
// hypercalls, an interrupt, our agent), so a spin for it may be that much longer.
constexpr uint32_t kGuestSpins = 4;
uint32_t MostUs(bool guest) {
  constexpr uint32_t kLargest = (1u << kBudgetBits) - 1;
  const uint32_t most = GetConfig().spin_us;
  if (most >= kLargest / kGuestSpins) return most < kLargest ? most : kLargest;
  return guest ? most * kGuestSpins : most;
}

// Two ends that both sleep answer late because they sleep. So now and then, ever more seldom, a
// wait spins for as long as it may: when both spin, answers come in time.
bool IsProbe(uint32_t misses) { return misses >= kFirstProbe && (misses & (misses - 1)) == 0; }

uint32_t BudgetUs(uint32_t history, uint32_t most) {
  const uint32_t budget = history & ((1u << kBudgetBits) - 1);
  if (budget == 0 || budget > most || IsProbe(history >> kBudgetBits)) return most;
  return budget;
}

uint32_t Learnt(uint32_t history, uint32_t most, bool paid) {
  const uint32_t misses = history >> kBudgetBits;
  const uint32_t budget = BudgetUs(history, most);
  if (paid) return IsProbe(misses) || budget * 2 > most ? most : budget * 2;
  const uint32_t spent = IsProbe(misses) ? kLeastSpinUs : budget - budget / 4;
  const uint32_t less = spent > kLeastSpinUs ? spent : kLeastSpinUs;
  return (less < most ? less : most) | (misses < kMostMisses ? misses + 1 : kFirstProbe + 1)
                                           << kBudgetBits;
}

// One look under the lock: is there anything to try again for?
bool WorthATry(Side* side, Wanted wanted, Self self) {
  if (wanted == Wanted::kData) {
    LockScope scope(side->receive.lock, self.tid);
    switch (side->receive.route.load(std::memory_order_relaxed)) {
      case ReceiveRoute::kTcp:
      case ReceiveRoute::kResidue:
        return true;
      case ReceiveRoute::kAware:
        return side->receive.fifo.header->up.load(std::memory_order_acquire) != 0 ||
               side->receive.fifo.Sealed();
      case ReceiveRoute::kDraining:
        return false;  // what we wait for comes by TCP: the agent wakes us
      case ReceiveRoute::kFifo:
        break;
    }
    return side->receive.fifo.AvailableBytes() > 0 || side->receive.lives.OtherHasFinished() ||
           IsSealed(side->receive.fifo.header->consumer.load(std::memory_order_relaxed));
  }
  LockScope scope(side->send.lock, self.tid);
  if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo) return true;
  return side->send.fifo.HasRoom();
}

// Whether the other end can answer while we spin: not on our processor, where it was last seen, nor
// on the only one. Another guest has processors of its own; their numbers mean nothing here.
bool RunsBesideUs(Side* side, Self self, bool* guest) {
  LockScope scope(side->receive.lock, self.tid);
  const bool by_fifo = side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kFifo;
  *guest = by_fifo && side->receive.fifo.foreign;
  if (*guest) return true;
  if (process_state.processors < 2) return false;
  const uint32_t cpu =
      by_fifo ? side->receive.fifo.header->producer_cpu.load(std::memory_order_relaxed) : 0;
  return cpu == 0 || cpu != self.cpu;
}

class AsynchronousCancellation : public Abandonable {
 public:
  AsynchronousCancellation() {
    Enter(&GiveBack);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before_);
  }
  ~AsynchronousCancellation() {
    pthread_setcanceltype(before_, nullptr);
    Leave();
  }

 private:
  static void GiveBack(Abandonable* scope) {
    pthread_setcanceltype(static_cast<AsynchronousCancellation*>(scope)->before_, nullptr);
  }
  int before_ = PTHREAD_CANCEL_DEFERRED;
};

// Time left. False: none.
bool Left(TimeLimit* limit, timespec* left) {
  const uint64_t rest = limit->LeftNs();
  *left = ToTimespec(rest);
  return rest > 0;
}

}  // namespace

SleeperCount::SleeperCount(uint32_t bell, uint32_t second) {
  counted_ = AddSleeper(bell, second);
  Enter(&GiveBack);
}
SleeperCount::~SleeperCount() {
  Leave();
  RemoveSleeper(counted_);
}
void SleeperCount::GiveBack(Abandonable* scope) {
  RemoveSleeper(static_cast<SleeperCount*>(scope)->counted_);
}

TimeLimit LimitAfter(int64_t timeout_us) {
  return timeout_us == 0 ? TimeLimit()
                         : TimeLimit::After(static_cast<uint64_t>(timeout_us) * kNsPerUs);
}

uint32_t SharedSpinBudgetUs() {
  if ((process_state.processors < 2 && !MeetsGuests()) || IsCrowded()) return 0;
  return BudgetUs(shared_history.load(std::memory_order_relaxed), MostUs(MeetsGuests()));
}
void SharedSpinEnded(bool paid) {
  if (GetConfig().spin_us == 0) return;
  shared_history.store(
      Learnt(shared_history.load(std::memory_order_relaxed), MostUs(MeetsGuests()), paid),
      std::memory_order_relaxed);
}

bool SharedSpinYields() { return process_state.processors >= 2 || !MeetsGuests(); }

bool SpinTurn(uint64_t* start_ns, uint32_t budget_us, uint32_t* turns, bool yields) {
  sys::Pause();
  if ((++*turns & 15) != 0) return true;
  const uint64_t now_ns = sys::MonotonicNs();
  // The clock stands still: when others want the processor would not be noticed either.
  if (*turns > 16 && now_ns == *start_ns) return false;
  if (*start_ns == 0)
    *start_ns = now_ns;  // not before: a wait that ends at once need not read the clock
  const uint64_t spent_ns = now_ns - *start_ns;
  // The clock may be the program's plaything, and go slowly; no turn is shorter than this.
  constexpr uint32_t kTurnsPerUs = 100;
  if (spent_ns > budget_us * 1000u || *turns / kTurnsPerUs > budget_us) return false;
  return !yields || spent_ns <= kPureSpinUs * 1000u || YieldBriefly();
}

bool SpinFor(Side* side, Wanted wanted, Self self) {
  if (GetConfig().spin_us == 0) return false;
  if (WorthATry(side, wanted, self)) return true;
  bool guest = false;
  if (!RunsBesideUs(side, self, &guest))
    return YieldUntil([&] { return WorthATry(side, wanted, self); });
  if (IsCrowded()) return false;
  const uint32_t history = side->spin_history.load(std::memory_order_relaxed);
  const uint32_t most = MostUs(guest);
  const uint32_t budget = BudgetUs(history, most);
  uint64_t start = 0;
  uint32_t turns = 0;
  bool paid = false;
  do {
    paid = WorthATry(side, wanted, self);
  } while (!paid && SpinTurn(&start, budget, &turns, /*yields=*/!guest));
  if (!paid || turns >= 16)
    side->spin_history.store(Learnt(history, most, paid), std::memory_order_relaxed);
  return paid;
}

WakeRequest RequestWake(int fd, Side* side, Wanted wanted, Self self) {
  if (wanted == Wanted::kData) {
    LockScope scope(side->receive.lock, self.tid);
    if (side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kTcp ||
        FindSide(fd) != side) {
      return {nullptr, 0, false};
    }
    std::atomic<uint32_t>& word = side->receive.fifo.header->consumer_waiting;
    return {&word, ArmFutex(word), side->receive.fifo.foreign};
  }
  LockScope scope(side->send.lock, self.tid);
  if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo ||
      FindSide(fd) != side) {
    return {nullptr, 0, false};
  }
  std::atomic<uint32_t>& word = side->send.fifo.header->producer_waiting;
  return {&word, ArmFutex(word), side->send.fifo.foreign};
}

long CancellableSleep(uint64_t begun, long number, long a, long b, long c, long d, long e, long f) {
  return Cancellable([=] {
    AsynchronousCancellation cancellable;
    return SleepingCall(begun, number, a, b, c, d, e, f);
  });
}

int Sleep(const WakeRequest& request, const Patience& patience) {
  long result;
  do {
    BeforeLastLook();
    const uint64_t begun = HandlersBegun();
    if (patience.Interrupted()) return -EINTR;
    timespec left{1000000, 0};
    if (!patience.limit->IsForEver() && !Left(patience.limit, &left)) return -EAGAIN;
    result = CancellableSleep(begun, SYS_futex, sys::Word(request.word),
                              request.of_this_process ? FUTEX_WAIT_PRIVATE : FUTEX_WAIT,
                              static_cast<long>(request.armed),
                              patience.Restarts() ? 0 : sys::Word(&left));
  } while (result == kHandlerBegan);
  // -EAGAIN here: the word changed before we slept; -EFAULT: the FIFO is gone. Both mean: look
  // again.
  return result == -EINTR ? -EINTR : result == -ETIMEDOUT ? -EAGAIN : 0;
}

namespace {
int SleepUntil(int fd, short events, TimeLimit* limit, const Patience& patience) {
  BeforeLastLook();
  const uint64_t begun = HandlersBegun();
  if (patience.Interrupted()) return -EINTR;
  timespec left;
  if (!limit->IsForEver() && !Left(limit, &left)) return -EAGAIN;
  pollfd entry{fd, events, 0};
  const long result = CancellableSleep(begun, SYS_ppoll, sys::Word(&entry), 1,
                                       limit->IsForEver() ? 0 : sys::Word(&left), 0, 8);
  if (result != -EINTR) return result == 0 ? -EAGAIN : 0;
  // The kernel never restarts a ppoll: the call that we make of it may be one that goes on.
  const bool counted = patience.interruption != nullptr && HandlersBegun() != begun;
  return counted && !patience.Interrupted() ? 0 : -EINTR;
}
}  // namespace

int SleepUntilSettled(int fd, const Side* side, const Patience& patience) {
  constexpr uint64_t kMomentNs = 5000000;
  if (side->send.route.load(std::memory_order_acquire) != SendRoute::kAsking)
    return SleepUntil(fd, POLLOUT, patience.limit, patience);
  const uint64_t left = patience.limit->IsForEver() ? UINT64_MAX : patience.limit->LeftNs();
  if (left == 0) return -EAGAIN;
  const bool last = left <= kMomentNs;
  TimeLimit moment = TimeLimit::After(last ? left : kMomentNs);
  const int result = SleepUntil(fd, 0, &moment, patience);
  return result == -EAGAIN && !last ? 0 : result;
}
int SleepUntilReadable(int fd, const Patience& patience) {
  return SleepUntil(fd, POLLIN, patience.limit, patience);
}

bool InterruptedBefore(const Interruption& interruption, bool restarts, int fd, short events) {
  if (__builtin_expect(!interruption.Ends(restarts), 1)) return false;
  pollfd entry{fd, events, 0};
  const timespec now{0, 0};
  return sys::Call(SYS_ppoll, sys::Word(&entry), 1, sys::Word(&now), 0, 8) == 0;
}

}  // namespace xenloop
