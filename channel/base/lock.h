// The lock of one direction of a stream. It lives in memory that a process shares with its forked
// children, so it must survive the death of its owner; and a signal handler may find it held by its
// own thread. Holders never block in it, so contenders spin, yield and nap instead of using futex
// wake-ups: releasing is one plain store.
#pragma once

#include <errno.h>
#include <sys/uio.h>

#include <atomic>

#include "absl/base/thread_annotations.h"
#include "channel/base/abandon.h"
#include "channel/base/sys.h"
#include "channel/base/time.h"

namespace xenloop {

enum class LockResult : uint8_t {
  kAcquired,
  kReentered,  // this very thread holds it: we are in a signal handler that interrupted the holder
  kTakenOver,  // the holder is dead: what it was doing is half done
  kBusy,       // not acquired in so many rounds: nothing is held
};

class ABSL_LOCKABLE RecoverableLock {
 public:
  // `most_rounds`: of looking for it in vain, before kBusy.
  static constexpr uint32_t kForEver = UINT32_MAX;
  static constexpr uint32_t kSomeMilliseconds = 512;
  LockResult Acquire(uint32_t tid, uint32_t most_rounds = kForEver) ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    uint32_t expected = 0;
    // acquire: pairs with the release in Release.
    if (owner_.compare_exchange_strong(expected, tid, std::memory_order_acquire))
      return LockResult::kAcquired;
    return AcquireContended(tid, most_rounds);
  }
  void Release() ABSL_UNLOCK_FUNCTION() { owner_.store(0, std::memory_order_release); }
  bool Held() const { return owner_.load(std::memory_order_relaxed) != 0; }
  bool HeldBy(uint32_t tid) const { return owner_.load(std::memory_order_relaxed) == tid; }

 private:
  // A thread that is gone answers ESRCH to a signal; a zombie does not, but it has no memory any
  // more. (No permission to read the memory of a living one is another error.)
  static bool IsDead(uint32_t tid) {
    if (sys::Call(SYS_tkill, static_cast<long>(tid), 0) == -ESRCH) return true;
    char byte;
    const iovec here{&byte, 1};
    const iovec there{&byte, 1};
    return sys::Call(SYS_process_vm_readv, static_cast<long>(tid), reinterpret_cast<long>(&here), 1,
                     reinterpret_cast<long>(&there), 1, 0) == -ESRCH;
  }
  LockResult AcquireContended(uint32_t tid, uint32_t most_rounds) {
    uint32_t rounds = 0;
    for (;;) {
      uint32_t owner = owner_.load(std::memory_order_relaxed);
      if (owner == tid) return LockResult::kReentered;
      if (owner == 0) {
        if (owner_.compare_exchange_strong(owner, tid, std::memory_order_acquire))
          return LockResult::kAcquired;
        continue;
      }
      if (++rounds > most_rounds) return LockResult::kBusy;
      if (rounds < 64) {
        sys::Pause();
      } else if (rounds < 256) {
        sys::Yield();
      } else {
        Nap((rounds < 512 ? 20 : 1000) * kNsPerUs);
        if (rounds % 32 == 0 && IsDead(owner) &&
            owner_.compare_exchange_strong(owner, tid, std::memory_order_acquire)) {
          return LockResult::kTakenOver;
        }
      }
    }
  }

  std::atomic<uint32_t> owner_{0};
};

// Takes the lock for a scope; a re-entered lock is left alone at the end. A scope that is abandoned
// (abandon.h) lets go of the lock as it is: whoever holds it publishes by single stores, or has
// signals blocked. To the analysis of Clang (-Wthread-safety) a re-entered lock is held like any
// other; who must not change what the interrupted holder was changing asks result().
class ABSL_SCOPED_LOCKABLE LockScope : public Abandonable {
 public:
  LockScope(RecoverableLock& lock, uint32_t tid, uint32_t most_rounds = RecoverableLock::kForEver)
      ABSL_EXCLUSIVE_LOCK_FUNCTION(lock)
      : lock_(lock), tid_(tid), outermost_(!lock.HeldBy(tid)) {
    Enter(&GiveBack);  // before the lock is taken: there must be no moment between
    result_ = lock.Acquire(tid, most_rounds);
  }
  ~LockScope() ABSL_UNLOCK_FUNCTION() {
    if (result_ != LockResult::kReentered && result_ != LockResult::kBusy) lock_.Release();
    Leave();
  }
  LockResult result() const { return result_; }

  // The lock that this scope would give back now; nullptr if there is none.
  static const RecoverableLock* HeldBy(const Abandonable* scope) {
    return static_cast<const LockScope*>(scope)->Gives(&GiveBack)
               ? static_cast<const LockScope*>(scope)->Held()
               : nullptr;
  }

 private:
  const RecoverableLock* Held() const {
    return outermost_ && lock_.HeldBy(tid_) ? &lock_ : nullptr;
  }
  static void GiveBack(Abandonable* scope) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    auto* const self = static_cast<LockScope*>(scope);
    if (self->Held() != nullptr) self->lock_.Release();
  }

  RecoverableLock& lock_;
  const uint32_t tid_;
  const bool outermost_;
  LockResult result_;
};

}  // namespace xenloop
