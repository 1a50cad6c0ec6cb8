// Spans of time in the kernel's forms and in ours, which is nanoseconds; and a short sleep.
#pragma once

#include <sys/time.h>
#include <time.h>

#include <cstdint>

#include "channel/base/sys.h"

namespace xenloop {

inline constexpr uint64_t kNsPerUs = 1000;
inline constexpr uint64_t kNsPerMs = 1000000;
inline constexpr uint64_t kNsPerSecond = 1000000000;

// For a span that is not negative. One that no clock will ever reach is cut short, so that a point
// in time can be added to it.
inline uint64_t ToNs(const timespec& span) {
  constexpr uint64_t kLongestSeconds = (1ull << 62) / kNsPerSecond;
  const auto seconds = static_cast<uint64_t>(span.tv_sec);
  return (seconds < kLongestSeconds ? seconds : kLongestSeconds) * kNsPerSecond +
         static_cast<uint64_t>(span.tv_nsec);
}
inline timespec ToTimespec(uint64_t ns) {
  return {static_cast<time_t>(ns / kNsPerSecond), static_cast<long>(ns % kNsPerSecond)};
}
inline int64_t ToUs(const timeval& span) {
  constexpr int64_t kLongestSeconds = (1ll << 62) / static_cast<int64_t>(kNsPerSecond);
  const int64_t seconds = span.tv_sec;
  return (seconds < kLongestSeconds ? seconds : kLongestSeconds) * 1000000 + span.tv_usec;
}

// From now (CLOCK_MONOTONIC) until then; 0 when that is over.
inline uint64_t NsUntil(uint64_t then_ns) {
  const uint64_t now = sys::MonotonicNs();
  return now < then_ns ? then_ns - now : 0;
}
inline uint64_t InMs(uint64_t milliseconds) { return sys::MonotonicNs() + milliseconds * kNsPerMs; }

// When the time of a wait is up that others may wake before, as often as they like. The first looks
// are by libc's clock, which costs no system call; a wait that has been woken for nothing asks the
// kernel's, so that it ends also where libc's stands still or is slow (libfaketime).
class TimeLimit {
 public:
  TimeLimit() = default;  // none: for ever
  explicit TimeLimit(uint64_t end_ns) : end_ns_(end_ns) {}
  static TimeLimit After(uint64_t ns) {
    uint64_t end;
    if (__builtin_add_overflow(sys::MonotonicNs(), ns, &end)) end = UINT64_MAX;
    return TimeLimit(end != 0 ? end : 1);
  }

  bool IsForEver() const { return end_ns_ == 0; }
  // 0: it is up. Asked before each sleep.
  uint64_t LeftNs() {
    if (by_kernel_) {
      const uint64_t now = sys::KernelsMonotonicNs();
      return now < end_ns_ ? end_ns_ - now : 0;
    }
    const uint64_t left = NsUntil(end_ns_);
    if (left > 0 && ++looks_ > kLooksByLibc) {
      by_kernel_ = true;
      end_ns_ = sys::KernelsMonotonicNs() + left;
    }
    return left;
  }

 private:
  // So many a wait makes that sleeps once.
  static constexpr uint32_t kLooksByLibc = 2;
  uint64_t end_ns_ = 0;
  uint32_t looks_ = 0;
  bool by_kernel_ = false;
};

// Sleeps, for so long or until a signal comes.
inline void Nap(uint64_t ns) {
  const timespec span = ToTimespec(ns);
  sys::Call(SYS_nanosleep, reinterpret_cast<long>(&span), 0);
}

// Waiting for something by looking again and again: for `longest_ns` by the clock, and for no more
// naps than that would be, since the program may run under a clock that stands still or jumps.
class Naps {
 public:
  Naps(uint64_t longest_ns, uint64_t nap_ns)
      : end_ns_(sys::MonotonicNs() + longest_ns), nap_ns_(nap_ns), left_(longest_ns / nap_ns + 1) {}
  // False: the time is up.
  bool Take() {
    if (left_-- == 0 || sys::MonotonicNs() >= end_ns_) return false;
    Nap(nap_ns_);
    return true;
  }

 private:
  const uint64_t end_ns_;
  const uint64_t nap_ns_;
  uint64_t left_;
};

// Waiting for a thread that is about to be done: it may have to be given the processor first, and
// on a busy machine that takes a while.
class PatientLooks {
 public:
  // False: it takes too long, and the wait is to be given up.
  bool Again() {
    if (looks_++ < kYields) {
      sys::Yield();
      return true;
    }
    if (looks_ > kYields + kShortNaps + kLongNaps) return false;
    Nap(looks_ <= kYields + kShortNaps ? kShortNapNs : kLongNapNs);
    return true;
  }

 private:
  static constexpr int kYields = 100;
  static constexpr int kShortNaps = 20;
  static constexpr uint64_t kShortNapNs = 50 * kNsPerUs;
  static constexpr int kLongNaps = 500;
  static constexpr uint64_t kLongNapNs = kNsPerMs;
  int looks_ = 0;
};

}  // namespace xenloop
