// Sets that survive exec, while a program that we have started (posix_spawn, system, vfork and
// exec) may have them. What is registered in them goes by TCP meanwhile, since that program may
// wait there. Most do not even know that they have the set, and end soon: when the agent has found
// that nobody else has it any more (agent/agent_inherited.cc), all is as before.
#include <time.h>

#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kNsATick = 10 * kNsPerMs;  // in /proc: USER_HZ is 100
constexpr uint64_t kFirstPauseNs = 250 * kNsPerMs;
constexpr uint64_t kLongestPauseNs = 64 * kNsPerSecond;
constexpr uint32_t kMostDoublings = 8;

std::atomic<int32_t> starts{0};  // of programs, that are under way
thread_local std::atomic<bool> makes_child{false};
std::atomic<bool> ever_inherited{false};

// A started program may have it by another set that it has, in which this one is registered.
bool IsWatchedByInherited(const EpollSet* set) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  for (uint32_t link = set->first_watch; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    if (RegistrationAt(link - 1)->set->inherited) return true;
  }
  return false;
}

}  // namespace

ProgramStarts::ProgramStarts() {
  // seq_cst: before the looks at which sets are inherited already; pairs with EndInheritance.
  starts.fetch_add(1, std::memory_order_seq_cst);
  Enter([](Abandonable*) { starts.fetch_sub(1, std::memory_order_seq_cst); });
}
ProgramStarts::~ProgramStarts() {
  Leave();
  starts.fetch_sub(1, std::memory_order_seq_cst);
}

// A child of vfork has the thread's variables, too. One that has become a program without a word is
// known to be there when this thread comes to the next.
void ChildIsMade() {
  if (!makes_child.exchange(true, std::memory_order_relaxed))
    starts.fetch_add(1, std::memory_order_seq_cst);
}
void ChildIsSeen() {
  if (makes_child.exchange(false, std::memory_order_relaxed))
    starts.fetch_sub(1, std::memory_order_seq_cst);
}

void InheritanceForkedChild() {
  makes_child.store(false, std::memory_order_relaxed);
  starts.store(0, std::memory_order_relaxed);
}

void BeginInheritance(EpollSet* set) {
  ++set->inheritance.programs;
  if (set->inherited) return;  // by one that was started before
  timespec now{};
  sys::Call(SYS_clock_gettime, CLOCK_BOOTTIME, sys::Word(&now));
  Inheritance& inheritance = set->inheritance;
  inheritance.since = ToNs(now) / kNsATick;
  inheritance.look_at_ns = 0;
  // A program that starts others all the time is better left on TCP than led there and back.
  const uint32_t doublings =
      inheritance.times < kMostDoublings ? inheritance.times : kMostDoublings;
  inheritance.pause_ns = kFirstPauseNs << doublings;
  ++inheritance.times;
  ever_inherited.store(true, std::memory_order_relaxed);
  set->inherited = true;
}

bool IsOnlyInherited(const EpollSet* set) { return set->inherited && !set->blind; }

bool IsInInheritedSet(const Side* side) {
  if (!ever_inherited.load(std::memory_order_relaxed)) return false;
  const RegistrationsScope scope(CurrentTid());
  for (uint32_t link = Of(side).first; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    const Registration& registration = *RegistrationAt(link - 1);
    if (registration.set->owner_pid == process_state.pid && IsOnlyInherited(registration.set))
      return true;
  }
  return false;
}

size_t InheritedSetsDue(uint64_t now, InheritedSet* due, size_t most, uint64_t* next) {
  const RegistrationsScope scope(CurrentTid());
  size_t count = 0;
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    if (!set->in_use || !IsOnlyInherited(set) || set->owner_pid != process_state.pid) continue;
    Inheritance& inheritance = set->inheritance;
    const bool asked = inheritance.look_at_ns != 0;
    if (asked && inheritance.look_at_ns <= now && count < most)
      due[count++] = InheritedSet{set, set->epfd, inheritance.programs, inheritance.since};
    if (!asked || inheritance.look_at_ns <= now) {
      inheritance.look_at_ns = now + inheritance.pause_ns;
      if (asked && inheritance.pause_ns < kLongestPauseNs) inheritance.pause_ns *= 2;
    }
    if (inheritance.look_at_ns < *next) *next = inheritance.look_at_ns;
  }
  return count;
}

bool EndInheritance(const InheritedSet& ended, void (*visit)(Side* side)) {
  EpollSet* const set = ended.set;
  const RegistrationsScope scope(CurrentTid());
  // seq_cst: pairs with ProgramStarts. Whoever starts a program later finds a set that is ours.
  if (!set->in_use || set->epfd != ended.epfd || set->inheritance.programs != ended.programs ||
      IsWatchedByInherited(set) || starts.load(std::memory_order_seq_cst) != 0)
    return false;
  set->inherited = false;
  EachRegisteredIn(set, visit);
  return true;
}

}  // namespace xenloop
