// Signal handlers that leave the interrupted call for good, by siglongjmp and by setcontext in
// turn.
#pragma once

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>

namespace conformance {
inline constexpr int kSignal = SIGUSR2;

inline thread_local sigjmp_buf way_out;
inline thread_local ucontext_t context_out;
inline thread_local volatile sig_atomic_t may_jump = 0, by_context = 0, has_jumped = 0;

inline void Jump(int) {
  if (may_jump == 0) return;
  may_jump = 0;
  has_jumped = 1;
  if (by_context != 0) setcontext(&context_out);
  siglongjmp(way_out, 1);
}

class JumpingHandler {
 public:
  JumpingHandler() {
    struct sigaction action {};
    action.sa_handler = Jump;
    sigaction(kSignal, &action, &before_);
  }
  ~JumpingHandler() { sigaction(kSignal, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

// True if the handler jumped out of `call`. No destructors in it: they would not run.
template <typename Call>
__attribute__((noinline)) bool JumpedOutOf(Call& call) {
  static std::atomic<int> turn{0};
  by_context = turn++ % 2;
  has_jumped = 0;
  if (by_context != 0) {
    getcontext(&context_out);
  } else {
    sigsetjmp(way_out, 1);
  }
  if (has_jumped != 0) return true;
  may_jump = 1;
  call();
  may_jump = 0;
  return false;
}

// Sends the signal to this thread again and again while it lives.
class Storm {
 public:
  explicit Storm(long period_ns) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kSignal;
    event._sigev_un._tid = gettid();
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer_), 0);
    const itimerspec interval{{0, period_ns}, {0, period_ns}};
    EXPECT_EQ(timer_settime(timer_, 0, &interval, nullptr), 0);
  }
  ~Storm() { timer_delete(timer_); }

 private:
  timer_t timer_{};
};

}  // namespace conformance
