// Signal handlers: what the program installs is what it finds again, by each of libc's names and by
// the system call, and what runs when the signal comes.
#include <signal.h>
#include <ucontext.h>

#include "tests/abi/calls.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

sighandler_t bsd_signal(int, sighandler_t);
sighandler_t __sysv_signal(int, sighandler_t);

static volatile int ran, informed;
static void* volatile stack_of_handler;

static void Runs(int number) {
  int here;
  stack_of_handler = &here;
  ran += number == SIGUSR1;
}
static void RunsInformed(int number, siginfo_t* info, void* context) {
  const ucontext_t* const interrupted = context;
  ran += number == SIGUSR1;
  informed +=
      info->si_signo == SIGUSR1 && info->si_pid == getpid() && interrupted->uc_stack.ss_flags >= 0;
}

static int Raised(void) {
  ran = 0;
  EXPECT(raise(SIGUSR1), 0);
  return ran;
}

typedef int (*Sigaction)(int, const struct sigaction*, struct sigaction*);

static void TestSigaction(Sigaction call) {
  struct sigaction plain = {.sa_handler = Runs, .sa_flags = SA_NODEFER};
  struct sigaction told = {.sa_sigaction = RunsInformed, .sa_flags = SA_SIGINFO | SA_RESTART};
  struct sigaction found;
  sigaddset(&plain.sa_mask, SIGUSR2);
  EXPECT(call(SIGUSR1, &plain, NULL), 0);
  EXPECT(call(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs && (found.sa_flags & (SA_SIGINFO | SA_RESTART)) == 0);
  EXPECT_TRUE((found.sa_flags & SA_NODEFER) != 0 && sigismember(&found.sa_mask, SIGUSR2) == 1);
  EXPECT(Raised(), 1);
  EXPECT(call(SIGUSR1, &told, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs && (found.sa_flags & SA_SIGINFO) == 0);
  informed = 0;
  EXPECT(Raised(), 1);
  EXPECT(informed, 1);
  struct sigaction both = plain;  // one structure for both
  EXPECT(call(SIGUSR1, &both, &both), 0);
  EXPECT_TRUE(both.sa_sigaction == RunsInformed);
  EXPECT_TRUE((both.sa_flags & (SA_SIGINFO | SA_RESTART)) == (SA_SIGINFO | SA_RESTART));
  // Many changes, and what it was is still found.
  for (int i = 0; i < 40; ++i) {
    EXPECT(call(SIGUSR1, i % 2 == 0 ? &told : &plain, &found), 0);
    EXPECT_TRUE(found.sa_handler == (i % 2 == 0 ? plain : told).sa_handler);
    EXPECT(call(SIGKILL, &plain, NULL), -EINVAL);
  }
  EXPECT(Raised(), 1);
  // Once.
  struct sigaction once = {.sa_handler = Runs, .sa_flags = (int)SA_RESETHAND};
  EXPECT(call(SIGUSR1, &once, NULL), 0);
  EXPECT(Raised(), 1);
  EXPECT(call(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == SIG_DFL);
  EXPECT_TRUE((found.sa_flags & (int)SA_RESETHAND) != 0 && (found.sa_flags & SA_SIGINFO) == 0);
  EXPECT(call(SIGUSR1, &once, NULL), 0);
  EXPECT(Raised(), 1);
  EXPECT(call(SIGUSR1, &told, &found), 0);
  EXPECT_TRUE(found.sa_handler == SIG_DFL && (found.sa_flags & SA_SIGINFO) == 0);
  struct sigaction told_once = {.sa_sigaction = RunsInformed,
                                .sa_flags = (int)SA_RESETHAND | SA_SIGINFO};
  EXPECT(call(SIGUSR1, &told_once, NULL), 0);
  EXPECT(Raised(), 1);
  EXPECT(call(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == SIG_DFL && (found.sa_flags & SA_SIGINFO) != 0);
  // None.
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  EXPECT(call(SIGUSR1, &ignore, NULL), 0);
  EXPECT(Raised(), 0);
  EXPECT(call(SIGUSR1, &plain, &found), 0);
  EXPECT_TRUE(found.sa_handler == SIG_IGN);
  // Refused.
  EXPECT(call(0, &plain, NULL), -EINVAL);
  EXPECT(call(65, &plain, NULL), -EINVAL);
  EXPECT(call(SIGSTOP, &plain, NULL), -EINVAL);
  EXPECT(call(33, &plain, NULL), -EINVAL);
  EXPECT(call(33, NULL, &found), -EINVAL);
  EXPECT(call(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs);
}

static void TestOnItsOwnStack(void) {
  ENTRY(sigaction);
  static char memory[16384];  // not more than SIGSTKSZ was
  stack_t own = {.ss_sp = memory, .ss_size = sizeof memory};
  stack_t before;
  struct sigaction action = {.sa_handler = Runs, .sa_flags = SA_ONSTACK};
  EXPECT(sigaltstack(&own, &before), 0);
  EXPECT(call_sigaction(SIGUSR1, &action, NULL), 0);
  EXPECT(Raised(), 1);
  EXPECT_TRUE((char*)stack_of_handler > memory && (char*)stack_of_handler < memory + sizeof memory);
  EXPECT(sigaltstack(&before, NULL), 0);
}

typedef sighandler_t (*Signal)(int, sighandler_t);

static void TestSignal(Signal call, int flags) {
  struct sigaction found;
  EXPECT_TRUE(call(SIGUSR1, SIG_DFL) != SIG_ERR);
  EXPECT_TRUE(call(SIGUSR1, Runs) == SIG_DFL);
  EXPECT(sigaction(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs);
  EXPECT((unsigned)found.sa_flags & (SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_SIGINFO),
         (unsigned)flags);
  EXPECT(Raised(), 1);
  const int stays = ((unsigned)flags & SA_RESETHAND) == 0;
  EXPECT_TRUE(call(SIGUSR1, SIG_IGN) == (stays ? Runs : SIG_DFL));
  EXPECT_TRUE(call(SIGUSR1, Runs) == SIG_IGN);
  EXPECT_TRUE(call(0, Runs) == SIG_ERR && errno == EINVAL);
  EXPECT_TRUE(call(SIGKILL, Runs) == SIG_ERR && errno == EINVAL);
  EXPECT_TRUE(call(33, Runs) == SIG_ERR && errno == EINVAL);
  EXPECT_TRUE(call(65, Runs) == SIG_ERR && errno == EINVAL);
}

static void TestSigset(void) {
  ENTRY(sigset);
  TestSignal(call_sigset, 0);
  sigset_t blocked;
  EXPECT_TRUE(call_sigset(SIGUSR1, SIG_HOLD) == Runs);
  EXPECT_TRUE(call_sigset(SIGUSR1, SIG_HOLD) == SIG_HOLD);
  EXPECT(sigprocmask(SIG_BLOCK, NULL, &blocked), 0);
  EXPECT(sigismember(&blocked, SIGUSR1), 1);
  EXPECT(Raised(), 0);
  EXPECT_TRUE(call_sigset(SIGUSR1, Runs) == SIG_HOLD);  // and comes
  EXPECT(ran, 1);
  EXPECT_TRUE(call_sigset(SIGUSR1, SIG_DFL) == Runs);
}

static void TestInterrupt(void) {
  ENTRY(siginterrupt);
  ENTRY(signal);
  struct sigaction found;
  EXPECT_TRUE(call_signal(SIGUSR1, Runs) != SIG_ERR);
  for (int interrupt = 1; interrupt >= 0; --interrupt) {
    EXPECT(call_siginterrupt(SIGUSR1, interrupt), 0);
    EXPECT(sigaction(SIGUSR1, NULL, &found), 0);
    EXPECT_TRUE(((found.sa_flags & SA_RESTART) == 0) == interrupt && found.sa_handler == Runs);
    EXPECT(Raised(), 1);
    EXPECT_TRUE(call_signal(SIGUSR1, Runs) == Runs);
    EXPECT(sigaction(SIGUSR1, NULL, &found), 0);
    EXPECT_TRUE(((found.sa_flags & SA_RESTART) == 0) == interrupt);
  }
  EXPECT(call_siginterrupt(0, 1), -EINVAL);
  EXPECT(call_siginterrupt(65, 1), -EINVAL);
}

// As the kernel has it.
struct KernelAction {
  void* handler;
  unsigned long flags;
  void* restorer;
  unsigned long mask;
};

static void TestSystemCall(void) {
  struct sigaction plain = {.sa_handler = Runs};
  struct KernelAction kept, found;
  EXPECT(sigaction(SIGUSR1, &plain, NULL), 0);
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kept, 8L), 0);
  EXPECT_TRUE(kept.handler == (void*)Runs && (kept.flags & SA_SIGINFO) == 0);
  struct KernelAction told = kept;
  told.handler = (void*)RunsInformed;
  told.flags |= SA_SIGINFO;
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, &told, &found, 8L), 0);
  EXPECT_TRUE(found.handler == (void*)Runs);
  informed = 0;
  EXPECT(Raised(), 1);
  EXPECT(informed, 1);
  EXPECT(sigaction(SIGUSR1, NULL, &plain), 0);
  EXPECT_TRUE(plain.sa_sigaction == RunsInformed && (plain.sa_flags & SA_SIGINFO) != 0);
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, &told, &found, 16L), -EINVAL);
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, (void*)8, NULL, 8L), -EFAULT);
  EXPECT(syscall(SYS_rt_sigaction, 65, &told, NULL, 8L), -EINVAL);
  EXPECT(syscall(SYS_rt_sigaction, SIGUSR1, &kept, NULL, 8L), 0);
  EXPECT(Raised(), 1);
}

static void FindsItsParents(void* argument) {
  struct sigaction found;
  EXPECT(sigaction(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs);
  EXPECT(Raised(), 1);
}

// Its actions are its own, in its parent's memory.
static void TestVforkChild(void) {
  struct sigaction other = {.sa_sigaction = RunsInformed, .sa_flags = SA_SIGINFO};
  struct sigaction found;
  for (volatile int i = 0; i < 20; ++i) {
    if (vfork() == 0) {
      signal(SIGUSR1, SIG_DFL);
      sigaction(SIGUSR1, &other, NULL);
      _exit(0);
    }
  }
  EXPECT(sigaction(SIGUSR1, NULL, &found), 0);
  EXPECT_TRUE(found.sa_handler == Runs && (found.sa_flags & SA_SIGINFO) == 0);
  EXPECT(Raised(), 1);
}

void TestSignals(void) {
  ENTRY(sigaction);
  ENTRY_LIKE(__sigaction, sigaction);
  ENTRY(signal);
  ENTRY_LIKE(bsd_signal, signal);
  ENTRY_LIKE(ssignal, signal);
  ENTRY(__sysv_signal);
  ENTRY_LIKE(sysv_signal, signal);
  TestSigaction(call_sigaction);
  TestSigaction(call___sigaction);
  TestOnItsOwnStack();
  TestSignal(call_signal, SA_RESTART);
  TestSignal(call_bsd_signal, SA_RESTART);
  TestSignal(call_ssignal, SA_RESTART);
  TestSignal(call___sysv_signal, (int)(SA_RESETHAND | SA_NODEFER));
  TestSignal(call_sysv_signal, (int)(SA_RESETHAND | SA_NODEFER));
  TestSigset();
  TestInterrupt();
  TestSystemCall();
  EXPECT(InChild(FindsItsParents, NULL), 0);
  TestVforkChild();
  EXPECT_TRUE(signal(SIGUSR1, SIG_DFL) == Runs);
}
