// What the agent does by the clock, where no event tells: one list of timers, the agent waits for
// the earliest. Each runs once when it is due and says when again; with none set the agent sleeps
// until something happens. Knows neither a clock nor the work: both come with the call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "channel/base/time.h"

namespace xenloop {

inline constexpr uint64_t kNotAgain = ~0ull;  // a pause that does not end

// `Name`: an enum of the timers, which ends with kCount.
template <typename Name>
class TimerList {
 public:
  // Due after the pause, or before that if it was due before already.
  void StartWithin(Name name, uint64_t now_ns, uint64_t pause_ns) {
    Timer& timer = At(name);
    if (pause_ns == kNotAgain || now_ns + pause_ns >= timer.due_ns) return;
    timer = {now_ns + pause_ns, pause_ns};
  }
  void Stop(Name name) { At(name) = Timer{}; }

  // Calls `work` for each timer that is due: with its name, the time, and the pause that is over;
  // the result is its next pause, or kNotAgain. A timer that starts itself anew, or pauses for
  // nothing, waits for the next run: one run ends.
  template <typename Work>
  void Run(uint64_t now_ns, Work work) {
    for (size_t i = 0; i < kTimers; ++i) {
      const auto name = static_cast<Name>(i);
      if (At(name).due_ns > now_ns) continue;
      const uint64_t pause_ns = At(name).pause_ns;
      Stop(name);
      StartWithin(name, now_ns, work(name, now_ns, pause_ns));
    }
  }

  // For epoll_wait: until the earliest is due, never too short; -1 if none is set.
  int WaitMs(uint64_t now_ns) const {
    uint64_t first = kNotAgain;
    for (const Timer& timer : timers_) first = timer.due_ns < first ? timer.due_ns : first;
    if (first == kNotAgain) return -1;
    if (first <= now_ns) return 0;
    const uint64_t milliseconds = (first - now_ns + kNsPerMs - 1) / kNsPerMs;
    return static_cast<int>(milliseconds < kLongestWaitMs ? milliseconds : kLongestWaitMs);
  }

 private:
  static constexpr size_t kTimers = static_cast<size_t>(Name::kCount);
  static constexpr uint64_t kLongestWaitMs = 1000000000;  // what fits epoll_wait; it looks again

  struct Timer {
    uint64_t due_ns = kNotAgain;
    uint64_t pause_ns = 0;
  };
  Timer& At(Name name) { return timers_[static_cast<size_t>(name)]; }

  Timer timers_[kTimers];
};

}  // namespace xenloop
