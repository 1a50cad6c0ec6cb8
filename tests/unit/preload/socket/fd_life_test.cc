// The last close of a side, when there is more than one number to close.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(FdLifeTest, TwoThreadsThatCloseBothNumbersAtOnceFreeTheSide) {
  constexpr int kRounds = 400;
  std::atomic<int> round{0};
  std::atomic<int> done{0};
  std::atomic<int> copy{-1};
  std::thread other([&] {
    for (int mine = 1; mine <= kRounds; ++mine) {
      while (round.load() < mine) {
      }
      BeforeClose(copy.load());
      done.store(mine);
    }
  });
  int left = 0;
  for (int i = 1; i <= kRounds; ++i) {
    FollowedSocket socket;
    Side* const side = socket.side();
    const int number = dup(socket.fd());
    Duplicated(socket.fd(), number);
    copy.store(number);
    round.store(i);
    // From before the other's close to behind it.
    for (volatile int pause = (i % 64) * 8; pause > 0;) pause = pause - 1;
    BeforeClose(socket.fd());
    while (done.load() < i) std::this_thread::yield();
    if (side->in_use.load() != 0) ++left;
    close(number);
    close(socket.fd());
  }
  other.join();
  EXPECT_EQ(left, 0);
}

enum class SealedBefore { kNothing, kOurs, kTheirs };

// What the last close finds, and whether it wakes the agent.
struct LastClose {
  explicit LastClose(SealedBefore sealed) {
    FollowedSocket socket;
    EXPECT_TRUE(socket.Attach());
    Side* const side = socket.side();
    if (sealed == SealedBefore::kOurs) side->send.fifo.Seal();
    if (sealed == SealedBefore::kTheirs) side->receive.fifo.Seal();
    side->owner_pid.store(process_state.pid);
    const int poke = eventfd(0, EFD_NONBLOCK);
    const int before = agent_shared.poke_fd.exchange(poke);
    BeforeClose(socket.fd());
    uint64_t pokes = 0;
    woken = read(poke, &pokes, sizeof pokes) == sizeof pokes;
    asked = Arena()->service.Contains(SlotOf(side));
    Arena()->service.Remove(SlotOf(side));
    agent_shared.poke_fd.store(before);
    close(poke);
    side->references.store(1);  // for the agent's part, which the fixture does
    FdTable::SetSide(socket.fd(), side);
  }
  bool asked;
  bool woken;
};

TEST(FdLifeTest, TheFirstToCloseLeavesItToThePeersAgentToWakeOurs) {
  const LastClose first(SealedBefore::kNothing);
  EXPECT_TRUE(first.asked);
  EXPECT_FALSE(first.woken);
}

// Two who close at once may each be the first on one FIFO: nobody would be woken.
TEST(FdLifeTest, WhoFindsEitherFifoEndedWakesTheAgent) {
  for (const SealedBefore sealed : {SealedBefore::kOurs, SealedBefore::kTheirs}) {
    const LastClose second(sealed);
    EXPECT_TRUE(second.asked);
    EXPECT_TRUE(second.woken);
  }
}

}  // namespace
}  // namespace xenloop
