// The last close of a side, when there is more than one number to close.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "preload/side/fd_table.h"
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

}  // namespace
}  // namespace xenloop
