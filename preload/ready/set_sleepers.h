// Who sleeps in an epoll set. A set may be closed, and its place be another's, while somebody does.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/base/abandon.h"
#include "preload/side/self.h"

namespace xenloop {

// The threads asleep in a set, whether they look at FIFOs or not; not those beside it
// (epoll_wait.cc). One word with the serial of the set: who comes or goes when the place is another
// set's already is not counted there.
class SetSleepers {
 public:
  // False: that set is gone. seq_cst: before the last look at what is on FIFOs; pairs with
  // WakeSleepersOf and TellTheNextUnaware.
  bool Add(uint32_t serial, bool unaware) { return Change(serial, unaware ? kBoth : kOne); }
  void Remove(uint32_t serial, bool unaware) { Change(serial, 0 - (unaware ? kBoth : kOne)); }
  void Begin(uint32_t serial) {
    word_.store(uint64_t{serial} << kSerialShift, std::memory_order_relaxed);
  }
  bool Any() const { return (word_.load(std::memory_order_seq_cst) & kCounts) != 0; }
  // Of these: do not look at FIFOs, and are rung for by nobody.
  bool AnyUnaware() const {
    return (word_.load(std::memory_order_seq_cst) & kCounts) >> kUnawareShift != 0;
  }

 private:
  static constexpr uint32_t kUnawareShift = 20;
  static constexpr uint32_t kSerialShift = 40;
  static constexpr uint64_t kCounts = (uint64_t{1} << kSerialShift) - 1;
  static constexpr uint64_t kOne = 1;
  static constexpr uint64_t kBoth = kOne | uint64_t{1} << kUnawareShift;

  bool Change(uint32_t serial, uint64_t by) {
    uint64_t now = word_.load(std::memory_order_relaxed);
    do {
      if ((now ^ uint64_t{serial} << kSerialShift) >> kSerialShift != 0) return false;
    } while (!word_.compare_exchange_weak(now, now + by, std::memory_order_seq_cst));
    return true;
  }
  std::atomic<uint64_t> word_;
};

// Counts this thread as one that sleeps in a set.
enum class Looks : uint32_t { kNot, kAtFifos };
class SetSleeper : public Abandonable {
 public:
  // `serial`: of the set that the call is about.
  SetSleeper(SetSleepers* sleepers, uint32_t serial, Looks looks)
      : sleepers_(sleepers),
        serial_(serial),
        unaware_(looks == Looks::kNot),
        pid_(process_state.pid),
        is_there_(sleepers->Add(serial_, unaware_)) {
    Enter(&GiveBack);
  }
  ~SetSleeper() {
    Leave();
    GiveBack(this);
  }
  // False: the set was closed meanwhile, and its place may be another's.
  bool IsThere() const { return is_there_; }

 private:
  static void GiveBack(Abandonable* scope) {
    const auto* const self = static_cast<SetSleeper*>(scope);
    // (A handler has forked: the child begins at 0.)
    if (self->is_there_ && self->pid_ == process_state.pid)
      self->sleepers_->Remove(self->serial_, self->unaware_);
  }
  SetSleepers* const sleepers_;
  const uint32_t serial_;
  const bool unaware_;
  const int32_t pid_;
  const bool is_there_;
};

}  // namespace xenloop
