// Waiting on an epoll set: what the kernel reports, plus what FIFOs hold, in the program's own
// terms.
#include <errno.h>
#include <poll.h>

#include "channel/base/time.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/threads.h"
#include "preload/ready/datagram_ready.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/ready/kernel_wait.h"
#include "preload/ready/lent_bell.h"
#include "preload/ready/set_sleepers.h"
#include "preload/settings/config.h"
#include "preload/side/bells.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"

namespace xenloop {
namespace {

std::atomic<uint64_t> next_token{1};  // tells one look at a set from another

uint32_t Evaluate(uint32_t index, uint32_t from_kernel, Self self) {
  return EvaluateOn(RegistrationAt(index), index, from_kernel, self);
}

void Fired(EpollSet* set, uint32_t index, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock) {
  if ((registration->events & EPOLLONESHOT) == 0) return;
  registration->disabled = true;
  registration->fired_plain = false;
  UpdateKernel(set, index, registration);
}

// Takes out the events of one-shots that were converted while the kernel's answer was on its way
// here, and that another thread has been told of since; those of the others have fired now. Returns
// how many are left. Under the set's lock.
int FireConvertedMeanwhile(EpollSet* set, epoll_event* events, int count)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    bool ours = true;
    for (uint32_t link = set->first_converted; link != 0;) {
      Registration* registration = RegistrationAt(link - 1);
      if ((registration->events & EPOLLONESHOT) != 0 && registration->data == events[i].data.u64) {
        ours = !registration->disabled || registration->fired_plain;
        if (!registration->disabled) Fired(set, link - 1, registration);
        break;
      }
      link = registration->next_in_set;
    }
    if (ours) events[kept++] = events[i];
  }
  return kept;
}

// Adds the ready converted registrations to events[count...]; returns the new count. `again`: also
// looks at those anew of which this look has found nothing to tell. Under the set's lock.
int Collect(EpollSet* set, epoll_event* events, int count, int max_events, uint64_t token,
            Self self, bool again = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock) {
  if (set->converted.load(std::memory_order_relaxed) == 0 || count >= max_events) return count;
  // Begins where the last look found no more room, and comes round.
  const uint32_t start = set->next_look != 0 ? set->next_look : set->first_converted;
  uint32_t link = start;
  bool all = link == 0;
  bool stays = false;  // a level: it is so for whoever else sleeps in the set
  while (!all && count < max_events) {
    Registration* registration = RegistrationAt(link - 1);
    // What the kernel reported in this call was evaluated with its FIFO already.
    const bool done = (registration->token == token && (!again || registration->told_at >= 0)) ||
                      IsQuiet(registration);
    const uint32_t found = done ? 0 : Evaluate(link - 1, 0, self);
    if (!done) {
      registration->token = token;
      registration->told_at = found != 0 ? count : -1;
    }
    if (found != 0) {
      events[count].events = found;
      events[count].data.u64 = registration->data;
      ++count;
      stays = stays || (registration->events & (EPOLLET | EPOLLONESHOT)) == 0;
      Fired(set, link - 1, registration);
    }
    link = registration->next_in_set != 0 ? registration->next_in_set : set->first_converted;
    all = link == start;
  }
  set->next_look = all ? 0 : link;
  // More may be ready than fits, or what is ready stays so: another sleeper is to have it, as the
  // kernel does it.
  if (!all || stays) RingSleepersOf(set);
  return count;
}

// Turns what the kernel returned at events[first, first + count) into what the program registered,
// in place; returns how many events there are now. What this look has reported already is merged:
// one descriptor, one event. Under the set's lock.
struct Heard {
  bool rung = false;  // the doorbell was among them
  bool less = false;  // and something of which the kernel tells no more
};
int Translate(EpollSet* set, epoll_event* events, int first, int count, uint64_t token, Self self,
              Heard* heard) ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock) {
  int kept = first;
  for (int i = first; i < first + count; ++i) {
    uint32_t index;
    if (!IsTag(events[i].data.u64, &index)) {
      events[kept++] = events[i];
      continue;
    }
    if (index == kDoorbellIndex) {
      heard->rung = true;
      continue;
    }
    Registration* registration = RegistrationAt(index);
    if (registration == nullptr || !registration->in_use || registration->set != set) continue;
    if (registration->token == token && registration->told_at >= 0) {
      epoll_event& told = events[registration->told_at];
      told.events |= events[i].events & ((registration->events & ~kWrite) | kAlways);
      if ((told.events & kWrite) == 0 && (events[i].events & kWrite) != 0)
        registration->out_reported = false;  // the next look tells it
      continue;
    }
    heard->less = Narrow(set, registration, events[i].events) || heard->less;
    if (registration->taken_out) continue;
    if (registration->disabled && (events[i].events & ~kAlways) != 0)
      UpdateKernel(set, index, registration);  // the look that disabled it was cut short
    const uint32_t found = Evaluate(index, events[i].events, self);
    registration->token = token;
    registration->told_at = found != 0 ? kept : -1;
    if (found == 0) continue;
    events[kept].events = found;
    events[kept].data.u64 = registration->data;
    ++kept;
    Fired(set, index, registration);
  }
  return kept;
}

// Who went to sleep before the set had its first converted registration is in nobody's count of
// those to ring for, and the kernel wakes one sleeper an edge. So whoever comes out, or takes such
// an edge, rings for the next of them, until all have come out.
void TellTheNextUnaware(EpollSet* set) {
  if (set->converted.load(std::memory_order_seq_cst) != 0 && set->sleepers.AnyUnaware())
    RingOwnBellAnyway(set->bell.load(std::memory_order_relaxed));
}

bool Remaining(TimeLimit* limit, timespec* left) {
  if (limit->IsForEver()) return true;
  const uint64_t rest = limit->LeftNs();
  *left = ToTimespec(rest);
  return rest > 0;
}

// One look at everything, without waiting: what the kernel has ready and what FIFOs hold, in one
// answer, as the kernel would give it; each goes first in turn so that neither starves the other
// when the program takes few at a time. Under the set's lock from beginning to end, so that no
// registration is converted or given back in between and told twice.
int Look(EpollSet* set, int epfd, epoll_event* events, int max_events, bool ask_kernel,
         EpollCall call, Self self) {
  constexpr int kMostQuestions = 3;
  const LockScope scope(set->lock, self.tid);
  const bool alone = scope.result() != LockResult::kReentered;  // else in a signal handler
  const uint64_t token = next_token.fetch_add(1, std::memory_order_relaxed);
  const bool kernel_first = ask_kernel && (++set->turn & 1) != 0;
  int count = 0;
  Heard heard;
  if (!kernel_first && alone) count = Collect(set, events, 0, max_events, token, self);
  for (int i = 0; ask_kernel && i < kMostQuestions && count < max_events; i += heard.less ? 0 : 1) {
    const int more = KernelLook(epfd, events + count, max_events - count, call);
    if (more < 0 && count == 0) return more;
    if (more <= 0) break;
    const int before = count;
    heard.less = false;
    count = Translate(set, events, count, more, token, self, &heard);
    if (count > before || more < max_events - before)
      break;  // else our doorbell took the last place: ask again
  }
  // The ring that we have taken out of the set may have been for one who sleeps there, and does not
  // wake now: what it tells of must be seen by us, or told to him.
  if (heard.rung) TellTheNextUnaware(set);
  const bool others = heard.rung && TookDoorbell(set->bell.load(std::memory_order_relaxed));
  if ((kernel_first || others) && alone)
    count = Collect(set, events, count, max_events, token, self, /*again=*/others);
  if (others && (!alone || count == max_events)) RingSleepersOf(set);
  return count;
}

// What a sleep in the kernel has brought, and what FIFOs hold.
// `slept`: and was rung for, or not.
int Digest(EpollSet* set, epoll_event* events, int woken, int max_events, uint32_t conversions,
           Looks slept, Self self) {
  const LockScope scope(set->lock, self.tid);
  const uint64_t token = next_token.fetch_add(1, std::memory_order_relaxed);
  // A registration that was converted meanwhile may be among them under its own data.
  const bool stable = set->conversions == conversions;
  if (!stable) woken = FireConvertedMeanwhile(set, events, woken);
  Heard heard;
  int count = Translate(set, events, 0, woken, token, self, &heard);
  if (heard.rung || slept == Looks::kNot) TellTheNextUnaware(set);
  // As in Look: the ring may have been for one who goes on sleeping.
  const bool others =
      heard.rung && slept == Looks::kNot && TookDoorbell(set->bell.load(std::memory_order_relaxed));
  const bool looks = scope.result() != LockResult::kReentered && (count == 0 || stable);
  if (looks) count = Collect(set, events, count, max_events, token, self);
  if (others && (!looks || count == max_events)) RingSleepersOf(set);
  return count;
}

int Spin(EpollSet* set, int epfd, epoll_event* events, int max_events, EpollCall call, Self self) {
  const uint32_t budget = SharedSpinBudgetUs();
  uint64_t start = 0;
  uint32_t turns = 0;
  int count = 0;
  while (count == 0 && budget != 0 && SpinTurn(&start, budget, &turns, SharedSpinYields()))
    count = Look(set, epfd, events, max_events, /*ask_kernel=*/(turns & 31) == 0, call, self);
  SharedSpinEnded(count > 0);
  return count;
}

// Who waits in a watched set sleeps beside it.
bool SleepsBeside(const EpollSet* set) {
  // (A blind one has no FIFOs to look at.)
  return set->watched.load(std::memory_order_seq_cst) &&
         !set->blind.load(std::memory_order_relaxed) && OwnDoorbellFd() >= 0;
}

// Sleeps so. How many events there are, -errno, 0 if the time is over, or kLookAgain.
constexpr int kLookAgain = -100001;
int SleepBeside(EpollSet* set, int epfd, epoll_event* events, int max_events, const timespec* left,
                const sigset_t* mask, EpollCall call, const Interruption& interruption, Self self) {
  {
    const RegistrationsScope scope(self.tid);
    TakeDoorbellAway(set);  // where those who slept there when it became watched have left it
  }
  const LentBell bell;
  if (bell.fd() < 0) {
    EpollSetIsWatchedBlindly(set);
    return kLookAgain;
  }
  int answer = 0;
  {
    const SleeperCount sleeper(kCommonBell);
    const int count = Look(set, epfd, events, max_events, /*ask_kernel=*/false, call, self);
    if (count != 0) return count;
    pollfd both[2] = {{epfd, POLLIN, 0}, {bell.fd(), POLLIN, 0}};
    answer = SleepInPoll(both, 2, left, mask, PollCall::kPpoll, interruption);
  }
  bell.Swallow();
  if (answer == kHandlerBegan) return kLookAgain;
  if (answer != 0) return answer < 0 ? answer : kLookAgain;
  return Look(set, epfd, events, max_events, /*ask_kernel=*/true, call, self);
}

bool Waits(const timespec* timeout) {
  return timeout == nullptr || timeout->tv_sec != 0 || timeout->tv_nsec != 0;
}

// None for a wait without end, and none for a look. (The first look takes no time to speak of.)
TimeLimit LimitOf(const timespec* timeout) {
  const bool timed = timeout != nullptr && Waits(timeout);
  return timed ? TimeLimit::After(ToNs(*timeout)) : TimeLimit();
}

bool IsGone(const EpollSet* set, uint32_t serial) {
  return set->serial.load(std::memory_order_relaxed) != serial;
}

// The set was closed while we slept in it, or were about to. The kernel lets who sleeps there sleep
// on, and tells him of what is open elsewhere; we go on without that.
int SleepInNothing(epoll_event* events, int woken, const timespec* left, const sigset_t* mask,
                   const Interruption& interruption) {
  int kept = 0;
  for (int i = 0; i < woken; ++i) {
    uint32_t index;
    if (!IsTag(events[i].data.u64, &index)) events[kept++] = events[i];
  }
  if (kept > 0) return kept;
  const int answer = SleepInPoll(nullptr, 0, left, mask, PollCall::kPpoll, interruption);
  return answer == kHandlerBegan ? -EINTR : answer;
}

// In a set without anything on a FIFO: the program's own call. A conversion meanwhile puts bells
// into the set and rings: we come round and look at FIFOs (kLookAgain).
int WaitPlainly(EpollSet* set, uint32_t serial, int epfd, epoll_event* events, int max_events,
                const timespec* timeout, const sigset_t* mask, EpollCall call,
                const Interruption& interruption, Self self) {
  constexpr timespec kNow{0, 0};
  const uint32_t conversions = set->conversions.load(std::memory_order_relaxed);
  const bool ended = Waits(timeout) && interruption.EndsWait(mask);
  int woken = 0;
  {
    const SetSleeper sleeper(&set->sleepers, serial, Looks::kNot);
    if (!sleeper.IsThere() || set->converted.load(std::memory_order_seq_cst) != 0 ||
        SleepsBeside(set))
      return kLookAgain;
    woken = KernelWait(epfd, events, max_events, ended ? &kNow : timeout, mask, call);
  }
  if (woken <= 0) return woken == 0 && ended ? -EINTR : woken;
  if (IsAsTheProgramMade(set, events, woken, conversions)) return woken;
  if (IsGone(set, serial)) return SleepInNothing(events, woken, timeout, mask, interruption);
  const int count = Digest(set, events, woken, max_events, conversions, Looks::kNot, self);
  // However often a peer rings.
  return count > 0 || !Waits(timeout) ? count : kLookAgain;
}

// While a filter may stand: the program's own call and nothing else, not even a look at a clock.
// kDoubtOver: there is none, or none any more; begin anew, with all of the time.
constexpr int kDoubtOver = -100000;
int WaitInDoubt(EpollSet* set, int epfd, epoll_event* events, int max_events,
                const timespec* timeout, const sigset_t* mask, EpollCall call) {
  if (!process_state.in_doubt) return kDoubtOver;
  const uint32_t conversions = set->conversions.load(std::memory_order_relaxed);
  int woken = 0;
  {
    const uint32_t serial = set->serial.load(std::memory_order_relaxed);
    const SetSleeper sleeper(&set->sleepers, serial, Looks::kNot);
    if (set->converted.load(std::memory_order_seq_cst) != 0) return kDoubtOver;
    woken = KernelWait(epfd, events, max_events, timeout, mask, call);
  }
  if (woken <= 0 || process_state.in_doubt) return woken;
  const int count = Digest(set, events, woken, max_events, conversions, Looks::kNot, CurrentSelf());
  return count != 0 ? count : kDoubtOver;
}

}  // namespace

int EpollWait(int epfd, EpollSet* set, epoll_event* events, int max_events, const timespec* timeout,
              const sigset_t* mask, EpollCall call) {
  const Interruption interruption;
  const bool datagrams = set->datagrams.load(std::memory_order_seq_cst) != 0 && max_events > 0 &&
                         MayWrite(events, sizeof *events);
  return datagrams ? WaitInSetWithDatagrams(epfd, set, events, max_events, timeout, mask, call,
                                            interruption)
                   : WaitInSet(epfd, set, events, max_events, timeout, mask, call, interruption);
}

int WaitInSet(int epfd, EpollSet* set, epoll_event* events, int max_events, const timespec* timeout,
              const sigset_t* mask, EpollCall call, const Interruption& interruption) {
  if (max_events <= 0) return KernelWait(epfd, events, max_events, timeout, mask, call);
  const int doubted = WaitInDoubt(set, epfd, events, max_events, timeout, mask, call);
  if (doubted != kDoubtOver) return doubted;
  if (set->owner_pid != process_state.pid || set->waited_elsewhere != nullptr) BeforeWaitIn(set);
  const Self self = CurrentSelf();
  TimeLimit limit = LimitOf(timeout);
  bool may_spin = GetConfig().spin_us != 0;
  const uint32_t serial = set->serial.load(std::memory_order_relaxed);
  for (bool again = false;; again = true) {
    timespec left = timeout != nullptr ? *timeout : timespec{0, 0};
    const bool can_wait = again && !limit.IsForEver() ? Remaining(&limit, &left) : Waits(timeout);
    const timespec* const wait = timeout == nullptr ? nullptr : &left;
    if (IsGone(set, serial)) return SleepInNothing(events, 0, wait, mask, interruption);
    const uint32_t conversions = set->conversions.load(std::memory_order_relaxed);
    const bool beside = SleepsBeside(set);
    int count = 0;
    if (set->converted.load(std::memory_order_acquire) == 0 && !beside) {
      count =
          WaitPlainly(set, serial, epfd, events, max_events, wait, mask, call, interruption, self);
      if (count == kLookAgain) continue;
      return count;
    }
    threads::TestCancel();  // these calls are cancellation points even when they need not wait
    // The kernel would say so only when there is something to tell.
    if (!MayWrite(events, sizeof *events)) return -EFAULT;
    count = Look(set, epfd, events, max_events, /*ask_kernel=*/true, call, self);
    if (count == 0 && can_wait && may_spin) {
      may_spin = false;
      count = Spin(set, epfd, events, max_events, call, self);
    }
    if (count != 0) return count;
    if (can_wait && interruption.EndsWait(mask)) return -EINTR;
    int woken = 0;
    if (beside) {
      if (can_wait)
        count = SleepBeside(set, epfd, events, max_events, wait, mask, call, interruption, self);
      if (count == kLookAgain) continue;
      return count;
    }
    {
      const SetSleeper here(&set->sleepers, serial, Looks::kAtFifos);
      if (!here.IsThere() || SleepsBeside(set)) continue;
      SettleBeforeSleep(set, self.tid);
      const SleeperCount sleeper(set->bell.load(std::memory_order_relaxed));
      count = Look(set, epfd, events, max_events, /*ask_kernel=*/false, call, self);
      if (count != 0) return count;
      woken = can_wait ? SleepInEpoll(epfd, events, max_events, wait, mask, call, interruption)
                       : KernelWait(epfd, events, max_events, wait, mask, call);
    }
    if (woken == kHandlerBegan) continue;
    if (woken < 0) return woken;
    if (IsGone(set, serial)) return SleepInNothing(events, woken, wait, mask, interruption);
    count = Digest(set, events, woken, max_events, conversions, Looks::kAtFifos, self);
    if (count > 0) return count;
    if (timeout != nullptr && (woken == 0 || !can_wait)) return 0;
  }
}

}  // namespace xenloop
