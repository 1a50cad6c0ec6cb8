// A close while the agent makes a system call on the same descriptor.
#include "preload/side/agent_asks.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(AgentAsksTest, NothingIsAskedAboutWhatIsClosed) {
  constexpr int kNumber = 77;
  FdTable::SetPrivate(kNumber);
  {
    const AgentAsks asks(kNumber);
    EXPECT_TRUE(asks.May());
  }
  FdTable::Clear(kNumber);
  const AgentAsks asks(kNumber);
  EXPECT_FALSE(asks.May());
}

TEST(AgentAsksTest, ACloseWaitsForTheAnswer) {
  constexpr int kNumber = 77;
  std::atomic<bool> answered{false};
  std::atomic<bool> asked{false};
  std::thread agent([&] {
    const AgentAsks outer(kNumber);
    { const AgentAsks inner(kNumber + 1); }
    asked = true;
    for (int i = 0; i < 20; ++i) std::this_thread::yield();
    answered = true;
  });
  while (!asked) std::this_thread::yield();
  AwaitAgent(kNumber + 1);  // nobody asks about that any more
  AwaitAgent(kNumber);
  EXPECT_TRUE(answered);
  agent.join();
}

TEST(AgentAsksTest, ButNotForEver) {
  constexpr int kNumber = 77;
  const AgentAsks asks(kNumber);
  std::thread([] { AwaitAgent(kNumber); }).join();
  EXPECT_EQ(agent_shared.asks_about.load(), 0);  // and the next close not at all
}

sockaddr_in NameOf(int fd) {
  sockaddr_in name = {};
  socklen_t length = sizeof name;
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length), 0);
  return name;
}

TEST(AgentAsksTest, TheNameOfAClosedSocketIsFreeAtOnce) {
  const FollowedSocket until_the_end;  // the tables are there
  std::atomic<int> number{-1};
  std::atomic<bool> ends{false};
  std::thread agent([&] {
    tcp_info info;
    while (!ends) {
      AskTcpInfo(number, &info);
      for (int i = 0; i < 50; ++i) sys::Pause();
    }
  });
  int taken = 0;
  for (int i = 0; i < 200; ++i) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    SocketCreated(listener, AF_INET, SOCK_STREAM, 0);
    EXPECT_NE(FindSide(listener), nullptr);
    ASSERT_EQ(listen(listener, 1), 0);
    const sockaddr_in name = NameOf(listener);
    number = listener;
    std::this_thread::yield();
    BeforeClose(listener);
    close(listener);
    const int next = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(next, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) ++taken;
    close(next);
  }
  ends = true;
  agent.join();
  EXPECT_EQ(taken, 0);
}

}  // namespace
}  // namespace xenloop
