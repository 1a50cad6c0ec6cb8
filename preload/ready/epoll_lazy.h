// What a program takes out of a set it often puts back before anybody waits there: redis-benchmark
// and libevent do so several times a request. Of a connection on FIFOs the kernel has nothing to
// tell meanwhile, so it is told nothing: the registration is only marked as taken out, and keeps
// its tag in the kernel's set. It counts as gone for everybody but these:
//  - an EPOLL_CTL_ADD of the same number to the same set takes the mark away;
//  - whoever is about to sleep in the set, and whoever takes `registrations_lock` for anything
//    else, first takes what is marked out of the kernel's set and of our lists (*settles* it). So
//    nothing is marked while somebody sleeps, forks, closes, hands on, or falls back.
// Nor in a set that a child has: the kernel tells the child of what is there, and the child may
// take it out itself.
// A side has nothing but the one marked registration then. Level-triggered ones only: for the
// others each call is an event of its own.
#pragma once

#include "preload/ready/epoll_registrations.h"

namespace xenloop {

// In place of EPOLL_CTL_DEL. False: the kernel is to be told.
bool TakeOutLazily(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// In place of EPOLL_CTL_ADD of one that is marked. As that call.
int PutBack(EpollSet* set, Registration* registration, const epoll_event& event)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// One of the side's is marked, and it is not this one that is put back.
bool MustSettle(const EpollSet* set, int operation, int fd, const Side* side,
                const epoll_event* event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
void SettleAll(uint32_t tid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);
// The kernel has told of one that is marked: it is to tell no more of it. False: it goes on.
bool SilenceTakenOut(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock);
// In a handler that has interrupted who holds the locks, or the set's: so that the kernel answers
// the handler's own call. Our lists stay as they are.
void SilenceInHandler(EpollSet* set, int fd) ABSL_NO_THREAD_SAFETY_ANALYSIS;
// One that is marked leaves our lists for good.
void ForgetTakenOut(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock);
// After lists have been made anew: nothing is marked any more. In the kernel's sets it may be.
void TakeOutForGood() ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock);

// What the kernel has been told of a level-triggered registration covers what it wants: what is
// told beyond that is dropped, and the kernel told exactly then (epoll_wait.cc).
bool IsCovered(const Registration& registration);
// The kernel has told that much of a converted one, or could. Where that is more than is wanted, it
// is told exactly. True: it tells less from now on.
bool Narrow(EpollSet* set, Registration* registration, uint32_t told)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(set->lock);

// `registrations_lock` for a scope that finds nothing marked.
class ABSL_SCOPED_LOCKABLE RegistrationsScope : public LockScope {
 public:
  explicit RegistrationsScope(uint32_t tid)
      ABSL_EXCLUSIVE_LOCK_FUNCTION(registrations_lock) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : LockScope(registrations_lock, tid) {
    if (result() != LockResult::kReentered) SettleAll(tid);
  }
  ~RegistrationsScope() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {}
};

// Behind our count as a sleeper in the set.
inline void SettleBeforeSleep(const EpollSet* set, uint32_t tid) {
  // seq_cst: pairs with TakeOutLazily, which marks and then looks for sleepers.
  if (set->taken_out.load(std::memory_order_seq_cst) != 0) const RegistrationsScope settled(tid);
}

}  // namespace xenloop
