// The program's handlers, entered through us: what it finds again, what a wait learns of them, and
// that the last moment before a sleep is none in which a signal is lost.
#include "preload/process/handlers.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <type_traits>

#include "preload/side/interruption.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"

// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char xenloop_sleeping_begin[];
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char xenloop_sleeping_end[];
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char xenloop_sleeping_back[];

namespace xenloop {
namespace {

constexpr int kSignal = SIGUSR2;
std::atomic<int> ran{0};
uint32_t word;  // slept on
void Runs(int) {
  if (ran.fetch_add(1) == 1) word = 1;
}

class HandlersTest : public testing::Test {
 protected:
  void SetUp() override {
    process_state.ready = true;
    process_state.pid = getpid();
    sigaction(kSignal, nullptr, &before_);
    ran = 0;
    word = 0;
  }
  void TearDown() override {
    sigaction(kSignal, &before_, nullptr);
    process_state.ready = ready_;
    process_state.pid = pid_;
  }
  // As the ABI does it.
  static void Install(int flags, void (*handler)(int) = &Runs) {
    struct sigaction action = {};
    HandlerAction fields{reinterpret_cast<uintptr_t>(handler), static_cast<uint64_t>(flags)};
    const HandlerChange change(kSignal, &fields);
    action.sa_handler = reinterpret_cast<void (*)(int)>(fields.handler);
    action.sa_flags = static_cast<int>(fields.flags);
    ASSERT_EQ(sigaction(kSignal, &action, nullptr), 0);
    change.Succeeded();
  }
  static HandlerAction Installed() {
    struct sigaction action;
    sigaction(kSignal, nullptr, &action);
    return {reinterpret_cast<uintptr_t>(action.sa_handler), static_cast<uint32_t>(action.sa_flags)};
  }

 private:
  struct sigaction before_ = {};
  const bool ready_ = process_state.ready;
  const int32_t pid_ = process_state.pid;
};

TEST_F(HandlersTest, TheProgramFindsItsOwn) {
  Install(SA_NODEFER);
  HandlerAction found = Installed();
  EXPECT_NE(found.handler, reinterpret_cast<uintptr_t>(&Runs));
  EXPECT_NE(found.flags & SA_SIGINFO, 0u);
  AsProgramsOwn(kSignal, &found);
  EXPECT_EQ(found.handler, reinterpret_cast<uintptr_t>(&Runs));
  EXPECT_EQ(found.flags & SA_SIGINFO, 0u);
  EXPECT_NE(found.flags & SA_NODEFER, 0u);
}

// By a call that we did not see: it goes through us once, and not twice.
TEST_F(HandlersTest, WhatIsOursAlreadyIsInstalledAsItIs) {
  Install(0);
  HandlerAction fields = Installed();
  const HandlerAction before = fields;
  const HandlerChange change(kSignal, &fields);
  EXPECT_EQ(fields.handler, before.handler);
}

void RunsInstead(int) { ran = 100; }

// As libc's system() does, or a runtime that makes its system calls itself.
TEST_F(HandlersTest, WhatIsBroughtBackUnseenIsWhatItWas) {
  Install(SA_RESTART);
  struct sigaction kept;
  ASSERT_EQ(sigaction(kSignal, nullptr, &kept), 0);
  for (int i = 0; i < 20; ++i) {
    Install(0, &RunsInstead);
    Install(i % 2 == 0 ? SA_NODEFER : SA_SIGINFO);
  }
  ASSERT_EQ(sigaction(kSignal, &kept, nullptr), 0);
  const Interruption interruption;
  raise(kSignal);
  EXPECT_EQ(ran, 1);
  EXPECT_TRUE(interruption.Ends(false));
  EXPECT_FALSE(interruption.Ends(/*restarts=*/true));
  HandlerAction found = Installed();
  AsProgramsOwn(kSignal, &found);
  EXPECT_EQ(found.flags & (SA_SIGINFO | SA_RESTART), uint64_t{SA_RESTART});
}

TEST_F(HandlersTest, AVforkChildOfADoubtfulProgramTouchesNothing) {
  Install(0);
  const bool lends = process_state.lends;
  process_state.ready = false;
  process_state.in_doubt = true;
  process_state.lends = true;
  HandlerAction fields{reinterpret_cast<uintptr_t>(&RunsInstead), 0};
  const HandlerChange change(kSignal, &fields);
  EXPECT_EQ(fields.handler, reinterpret_cast<uintptr_t>(&RunsInstead));
  process_state.in_doubt = false;
  process_state.lends = lends;
}

TEST_F(HandlersTest, ChangesThatTheKernelRefusesTouchNothing) {
  Install(0);
  for (int i = 0; i < 100; ++i) {
    HandlerAction other{reinterpret_cast<uintptr_t>(&abort), 0};
    const HandlerChange refused(kSignal, &other);
  }
  raise(kSignal);
  EXPECT_EQ(ran, 1);
}

TEST_F(HandlersTest, AWaitLearnsOfThem) {
  Install(SA_RESTART);
  const Interruption interruption;
  EXPECT_FALSE(interruption.Ends(false));
  raise(kSignal);
  EXPECT_EQ(ran, 1);
  EXPECT_TRUE(interruption.Ends(/*restarts=*/false));
  EXPECT_FALSE(interruption.Ends(/*restarts=*/true));
  EXPECT_TRUE(interruption.EndsWait(nullptr));
  sigset_t mask;
  sigfillset(&mask);
  EXPECT_FALSE(interruption.EndsWait(&mask));
  sigdelset(&mask, kSignal);
  EXPECT_TRUE(interruption.EndsWait(&mask));
  const Interruption later;
  EXPECT_FALSE(later.EndsWait(&mask));
  Install(0);
  raise(kSignal);
  EXPECT_TRUE(interruption.Ends(true));
  EXPECT_TRUE(later.Ends(true));
}

TEST_F(HandlersTest, RestartsAreChangedBehindOurBack) {
  Install(SA_RESTART);
  HandlerAction now = Installed();
  now.flags &= ~uint64_t{SA_RESTART};
  RestartsChanged(kSignal, now);
  const Interruption interruption;
  raise(kSignal);
  EXPECT_TRUE(interruption.Ends(true));
}

TEST_F(HandlersTest, ACallIsNotMadeBehindAHandler) {
  Install(0);
  const uint64_t begun = HandlersBegun();
  EXPECT_EQ(SleepingCall(begun, SYS_getpid, 0), getpid());
  raise(kSignal);
  EXPECT_EQ(SleepingCall(begun, SYS_getpid, 0), kHandlerBegan);
}

timer_t TimerOfTheSignal() {
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = kSignal;
  timer_t timer = {};
  EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  return timer;
}

// A timer whose signal comes at random about the moment at which the kernel gets the call. A lost
// one is one of very many, and costs all of the sleep.
TEST_F(HandlersTest, NoMomentBeforeTheSleepIsOneInWhichASignalIsLost) {
  for (const int flags : {0, SA_RESTART}) {
    Install(flags);
    const timer_t timer = TimerOfTheSignal();
    std::minstd_rand random(7);
    int turned_back = 0;
    for (int i = 0; i < 20000; ++i) {
      const itimerspec when{{0, 0}, {0, 1 + static_cast<long>(random() % 6000)}};
      word = 0;
      const timespec long_time{2, 0};
      const uint64_t begun = HandlersBegun();
      timer_settime(timer, 0, &when, nullptr);
      const long result = SleepingCall(begun, SYS_futex, sys::Word(&word), FUTEX_WAIT_PRIVATE, 0,
                                       sys::Word(&long_time));
      ran = 0;
      ASSERT_TRUE(result == -EINTR || result == kHandlerBegan) << result << " in round " << i;
      turned_back += result == kHandlerBegan ? 1 : 0;
    }
    EXPECT_GT(turned_back, 0);
    timer_delete(timer);
  }
}

// Whatever instruction it is that the handler goes back to.
TEST_F(HandlersTest, WhoHasNotComeToTheKernelIsTurnedBack) {
  const auto first = reinterpret_cast<uintptr_t>(xenloop_sleeping_begin);
  const auto end = reinterpret_cast<uintptr_t>(xenloop_sleeping_end);
  ASSERT_LT(first, end);
  for (uintptr_t at = first - 1; at <= end; ++at) {
    ucontext_t context = {};
#if defined(__x86_64__)
    auto& counter = context.uc_mcontext.gregs[REG_RIP];
#else
    auto& counter = context.uc_mcontext.pc;
#endif
    counter = static_cast<std::remove_reference_t<decltype(counter)>>(at);
    HandlerBegins(kSignal, false, &context);
    const bool turned =
        static_cast<uintptr_t>(counter) == reinterpret_cast<uintptr_t>(xenloop_sleeping_back);
    EXPECT_EQ(turned, at >= first && at < end) << at - first;
    EXPECT_TRUE(turned || static_cast<uintptr_t>(counter) == at);
  }
}

// Untimed, the kernel would begin it again.
TEST_F(HandlersTest, ARestartedSleepIsGivenBack) {
  Install(SA_RESTART);
  const timer_t timer = TimerOfTheSignal();
  const itimerspec when{{0, 50000000}, {0, 3000000}};  // the second one changes the word
  const uint64_t begun = HandlersBegun();
  timer_settime(timer, 0, &when, nullptr);
  EXPECT_EQ(SleepingCall(begun, SYS_futex, sys::Word(&word), FUTEX_WAIT_PRIVATE, 0), kHandlerBegan);
  timer_delete(timer);
}

}  // namespace
}  // namespace xenloop
