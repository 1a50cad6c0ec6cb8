// An agent that has given up since its program was another user is made anew by a fork: by one, of
// several threads.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "preload/agent/agent.h"
#include "preload/agent/agent_state.h"
#include "preload/side/agent_shared.h"
#include "preload/side/self.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

// Rounds in which `threads` threads start over at once, and each starts the next agent if it finds
// none. In how many there were more or fewer than one.
int RoundsNotOfOne(int rounds, int threads) {
  int wrong = 0;
  for (int round = 0; round < rounds; ++round) {
    std::atomic<uint32_t> tid{0};
    std::atomic<bool> over{false};
    std::atomic<int> here{0}, begun{0};
    std::thread old_agent([&] {
      tid.store(CurrentTid());
      while (!over.load()) std::this_thread::yield();
    });
    while (tid.load() == 0) std::this_thread::yield();
    agent.uid = geteuid();
    agent_shared.tid.store(tid.load());
    agent_shared.start_failure.store(Reason::kUserChanged);
    agent_shared.started.store(kAgentFailed);
    std::vector<std::thread> forking;
    for (int i = 0; i < threads; ++i) {
      forking.emplace_back([&] {
        here.fetch_add(1);
        StartOverAsTheSameUser();
        int none = 0;
        if (agent_shared.started.compare_exchange_strong(none, 2)) begun.fetch_add(1);
      });
    }
    while (here.load() < threads) std::this_thread::yield();
    usleep(1000);
    over.store(true);
    old_agent.join();
    for (std::thread& thread : forking) thread.join();
    wrong += begun.load() == 1 ? 0 : 1;
  }
  return wrong;
}

TEST(StartOverTest, OneOfSeveralThreadsThatForkDoesIt) {
  EXPECT_EQ(InForkedChild([] {
              FreeSide(AllocateSide());
              return RoundsNotOfOne(60, 4);
            }),
            0);
}

// While one of them does, what it looks at is changed already: the others wait all the same, or
// their children get what is half cleared.
TEST(StartOverTest, TheOthersWaitForIt) {
  EXPECT_EQ(InForkedChild([] {
              FreeSide(AllocateSide());
              constexpr uint32_t kAnotherThread = 0x7fffffff;
              agent_shared.starting_over.store(kAnotherThread);
              agent.uid = geteuid() + 1;
              agent_shared.start_failure.store(Reason::kUserChanged);
              agent_shared.started.store(kAgentFailed);
              std::atomic<bool> here{false}, over{false};
              bool waited = false;
              std::thread forks([&] {
                here.store(true);
                StartOverAsTheSameUser();
                waited = over.load();
              });
              while (!here.load()) std::this_thread::yield();
              usleep(20000);
              over.store(true);
              agent_shared.start_failure.store(Reason::kNone);
              agent_shared.started.store(0);
              agent_shared.starting_over.store(0);
              forks.join();
              return waited ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace xenloop
