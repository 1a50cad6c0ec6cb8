// The lock of a stream's direction: exclusion, re-entry by a signal handler, and death of its
// owner.
#include "channel/base/lock.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

uint32_t Tid() { return static_cast<uint32_t>(sys::GetTid()); }

TEST(RecoverableLock, ExcludesOtherThreads) {
  RecoverableLock lock;
  uint64_t unprotected = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        const LockScope scope(lock, Tid());
        ASSERT_EQ(scope.result(), LockResult::kAcquired);
        unprotected = unprotected + 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(unprotected, 20000u);
}

TEST(RecoverableLock, SameThreadIsToldThatItHoldsTheLockAlready) {
  RecoverableLock lock;
  {
    const LockScope outer(lock, Tid());
    {
      const LockScope inner(lock, Tid());
      EXPECT_EQ(inner.result(), LockResult::kReentered);
    }
    EXPECT_TRUE(lock.HeldBy(Tid()));  // the inner scope has not released it
  }
  EXPECT_EQ(lock.Acquire(Tid()), LockResult::kAcquired);
}

TEST(RecoverableLock, SignalHandlerFindsTheLockOfTheThreadItInterrupted) {
  static RecoverableLock lock;
  static LockResult seen;
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = [](int) { seen = LockScope(lock, Tid()).result(); };
  sigaction(SIGUSR1, &action, &before);
  {
    const LockScope scope(lock, Tid());
    raise(SIGUSR1);
  }
  EXPECT_EQ(seen, LockResult::kReentered);
  raise(SIGUSR1);
  EXPECT_EQ(seen, LockResult::kAcquired);
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(RecoverableLock, IsTakenOverFromAProcessThatDiedWithIt) {
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* lock = new (memory) RecoverableLock;
  const pid_t child = fork();
  if (child == 0) {
    lock->Acquire(Tid());
    kill(getpid(), SIGKILL);
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  {
    const LockScope scope(*lock, Tid());
    EXPECT_EQ(scope.result(), LockResult::kTakenOver);
    EXPECT_TRUE(lock->HeldBy(Tid()));
  }
  EXPECT_EQ(lock->Acquire(Tid()), LockResult::kAcquired);
  munmap(memory, 4096);
}

TEST(RecoverableLock, IsNotTakenFromALivingOwnerHoweverLongItTakes) {
  RecoverableLock lock;
  lock.Acquire(Tid());
  std::atomic<bool> acquired{false};
  LockResult how = LockResult::kReentered;
  std::thread contender([&] {
    const LockScope scope(lock, Tid());
    how = scope.result();
    acquired = true;
  });
  // Long enough for the contender to have asked more than once whether we are alive.
  const timespec while_asking{0, 60000000};
  nanosleep(&while_asking, nullptr);
  EXPECT_FALSE(acquired);
  lock.Release();
  contender.join();
  EXPECT_EQ(how, LockResult::kAcquired);
}

}  // namespace
}  // namespace xenloop
