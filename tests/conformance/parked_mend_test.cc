// What was once wrong with parked connections, one mend a test (git log, "Parked connections:").
// The kernel is the oracle: each says the same without the library.

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/parked_server.h"

namespace conformance {
namespace {

sockaddr_in NameAt(int port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(static_cast<uint16_t>(port));
  return name;
}
Outcome Connects(int fd, const sockaddr_in& name) {
  return Call(connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name));
}
uint8_t StateOf(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_state : 0;
}

class ParkedMendTest : public testing::Test {
 protected:
  void Begin(const ServerPlan& plan = {}) {
    server_ = std::make_unique<ParkedServer>(plan);
    ASSERT_TRUE(WarmUp(port()));
  }
  ParkedServer& server() { return *server_; }
  int port() const { return server_->port(); }

  std::unique_ptr<ParkedServer> server_;
};

TEST_F(ParkedMendTest, ConnectAgainIsTold) {
  Begin();
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in name = NameAt(port());
  EXPECT_EQ(Connects(fd.get(), name), Done(0));
  EXPECT_EQ(Connects(fd.get(), name), Failed(EISCONN));
  fd.Close();
  ASSERT_TRUE(WarmUp(port()));
  const FileDescriptor other(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(Connects(other.get(), name), Failed(EINPROGRESS));
  EXPECT_EQ(Connects(other.get(), name), Done(0));
  EXPECT_EQ(Connects(other.get(), name), Failed(EISCONN));
}
TEST_F(ParkedMendTest, ConnectAgainIsToldWhenItHasGoneBackToTcp) {
  Begin();
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  const sockaddr_in name = NameAt(port());
  EXPECT_EQ(Connects(fd.get(), name), Failed(EINPROGRESS));
  int on = 1;
  ASSERT_EQ(ioctl(fd.get(), FIOASYNC, &on), 0);
  EXPECT_EQ(Connects(fd.get(), name), Done(0));
  EXPECT_EQ(Connects(fd.get(), name), Failed(EISCONN));
  fd.Close();
  // And when it has been reset since.
  ASSERT_TRUE(WarmUp(port()));
  ASSERT_EQ(server().Tell(Order::kPause), 0);
  const FileDescriptor reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(Connects(reset.get(), name), Failed(EINPROGRESS));
  ASSERT_EQ(server().Tell(Order::kReopen), 0);
  EXPECT_EQ(Revents(reset.get(), 0, kSoonMs) & POLLERR, POLLERR);
  EXPECT_EQ(Connects(reset.get(), name), Failed(ECONNRESET));
  ASSERT_EQ(server().Tell(Order::kGoOn), 0);
  EXPECT_EQ(Connects(reset.get(), name), Failed(EINPROGRESS));
  ASSERT_EQ(fcntl(reset.get(), F_SETFL, 0), 0);
  EXPECT_TRUE(Ask(reset.get(), 'r', 'e') && Answered(reset.get(), 'r', 'e'));
}
TEST_F(ParkedMendTest, AnotherFamilyIsTold) {
  Begin();
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(static_cast<uint16_t>(port()));
  mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
  mapped.sin6_addr.s6_addr[12] = 127;
  mapped.sin6_addr.s6_addr[15] = 1;
  const sockaddr_in name = NameAt(port());
  for (int i = 0; i < 20; ++i) {
    const FileDescriptor v6(socket(AF_INET6, SOCK_STREAM, 0));
    EXPECT_EQ(Connects(v6.get(), name), Failed(EINVAL));
    const FileDescriptor v4(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(Call(connect(v4.get(), reinterpret_cast<const sockaddr*>(&mapped), sizeof mapped)),
              Failed(EAFNOSUPPORT));
    const FileDescriptor dual(socket(AF_INET6, SOCK_STREAM, 0));
    EXPECT_EQ(Call(connect(dual.get(), reinterpret_cast<const sockaddr*>(&mapped), sizeof mapped)),
              Done(0));
    sockaddr_in6 own{};
    socklen_t length = sizeof own;
    EXPECT_EQ(getsockname(dual.get(), reinterpret_cast<sockaddr*>(&own), &length), 0);
    EXPECT_EQ(own.sin6_family, AF_INET6);
  }
}
TEST_F(ParkedMendTest, ConnectElsewhereAfterADissolve) {
  Begin();
  const ParkedServer other{ServerPlan{}};
  ASSERT_TRUE(WarmUp(other.port()));
  ASSERT_TRUE(WarmUp(port()));
  const FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(Connects(fd.get(), NameAt(port())), Failed(EINPROGRESS));
  sockaddr_in none{};
  none.sin_family = AF_UNSPEC;
  EXPECT_EQ(Connects(fd.get(), none), Done(0));
  EXPECT_EQ(Connects(fd.get(), NameAt(other.port())), Failed(EINPROGRESS));
  fcntl(fd.get(), F_SETFL, 0);
  EXPECT_TRUE(Ask(fd.get(), 'o', 'e') && Answered(fd.get(), 'o', 'e'));
  EXPECT_EQ(other.AwaitCame(1).back(), 'o');
}
TEST_F(ParkedMendTest, TheStateSaysThatTheOtherEndHasFinished) {
  Begin();
  const FileDescriptor fd(ConnectTo(port()));
  EXPECT_EQ(StateOf(fd.get()), TCP_ESTABLISHED);
  ASSERT_TRUE(Ask(fd.get(), 'x', 'f') && Answered(fd.get(), 'x', 'f'));
  EXPECT_EQ(StateOf(fd.get()), TCP_CLOSE_WAIT);
}
// Of a life both directions end together, and the other end sends by TCP what was not read.
TEST_F(ParkedMendTest, WhatHasComeOutlivesAShutdownOfBothWays) {
  Begin();
  for (int round = 0; round < 40; ++round) {
    FileDescriptor fd(ConnectTo(port()));
    ASSERT_TRUE(Ask(fd.get(), 'x', 'e'));
    ASSERT_TRUE(BecomesReadable(fd.get()));
    if (round % 2 == 0) shutdown(fd.get(), SHUT_WR);
    shutdown(fd.get(), SHUT_RDWR);
    usleep(3000);
    EXPECT_EQ(Revents(fd.get(), 0, 0) & POLLERR, 0) << round;
    char answer[64];
    EXPECT_GT(recv(fd.get(), answer, sizeof answer, 0), 0) << round;
    EXPECT_EQ(Call(recv(fd.get(), answer, sizeof answer, 0)), Done(0)) << round;
    fd.Close();
    if (round % 4 == 0) {
      ASSERT_TRUE(WarmUp(port()));
    }
  }
}
TEST_F(ParkedMendTest, AnAcceptWithABadNameEnds) {
  Begin();
  ASSERT_EQ(server().Tell(Order::kPause), 0);
  const FileDescriptor fd(ConnectTo(port()));
  EXPECT_EQ(server().Tell(Order::kBadName), -EFAULT);
  char byte;
  EXPECT_LE(recv(fd.get(), &byte, 1, 0), 0);  // as in the kernel, it is lost
  ASSERT_EQ(server().Tell(Order::kGoOn), 0);
  EXPECT_TRUE(OneLife(port()));
}
TEST_F(ParkedMendTest, AnAcceptWithoutAFreeNumberLeavesTheConnection) {
  Begin();
  ASSERT_EQ(server().Tell(Order::kPause), 0);
  const FileDescriptor fd(ConnectTo(port()));
  ASSERT_TRUE(Ask(fd.get(), 'a', 'f'));
  ASSERT_EQ(server().Tell(Order::kLimit, 512), 0);
  ASSERT_GT(server().Tell(Order::kFull, 1), 0);
  EXPECT_EQ(server().Tell(Order::kAccept), -EMFILE);
  EXPECT_EQ(server().Tell(Order::kAccept), -EMFILE);
  ASSERT_EQ(server().Tell(Order::kFull, 0), 0);
  EXPECT_EQ(server().Tell(Order::kAccept), 'a');
  EXPECT_TRUE(Answered(fd.get(), 'a', 'f'));
}
// No TIME_WAIT keeps the port of a server whose clients have closed first.
TEST_F(ParkedMendTest, WhatWasIdleForLongEndsAndBeginsAnew) {
  Begin();
  for (int round = 0; round < 2; ++round) {
    sleep(2);
    ASSERT_TRUE(WarmUp(port()));
  }
  sleep(2);
  ServerPlan plan;
  plan.port = port();
  plan.reuse = false;
  server_.reset();
  const Stopwatch watch;
  while (watch.ElapsedMs() < 1000 && ConnectTo(plan.port) >= 0) usleep(1000);
  server_ = std::make_unique<ParkedServer>(plan);
  EXPECT_EQ(server_->port(), plan.port);
  ASSERT_TRUE(WarmUp(port()));
}
TEST_F(ParkedMendTest, AListenerThatIsClosedAndOpenedAgain) {
  Begin();
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(server().Tell(Order::kReopen), 0);
    ASSERT_TRUE(WarmUp(port()));
  }
}
// What waits when the listener is closed is reset, and nothing of it comes to the next listener.
TEST_F(ParkedMendTest, WhatWaitsAtAListenerThatIsClosedIsReset) {
  Begin();
  ASSERT_EQ(server().Tell(Order::kPause), 0);
  const FileDescriptor fd(ConnectTo(port()));
  ASSERT_TRUE(Ask(fd.get(), 'a', 'e'));
  server().Forget();
  ASSERT_EQ(server().Tell(Order::kReopen), 0);
  char byte;
  EXPECT_EQ(Call(recv(fd.get(), &byte, 1, 0)), Failed(ECONNRESET));
  ASSERT_EQ(server().Tell(Order::kGoOn), 0);
  ASSERT_TRUE(WarmUp(port()));
  EXPECT_EQ(server().Came().find_first_of("-a"), std::string::npos) << server().Came();
}
TEST_F(ParkedMendTest, AListenerThatWasSharedForAWhile) {
  server_ = std::make_unique<ParkedServer>(ServerPlan{});
  ASSERT_EQ(server().Tell(Order::kFork, 200), 0);  // before it had a queue
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(OneLife(port()));
  usleep(400000);
  ASSERT_TRUE(WarmUp(port()));
  ASSERT_EQ(server().Tell(Order::kFork, 200), 0);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(OneLife(port()));
  usleep(400000);
  ASSERT_TRUE(WarmUp(port()));
}
// Who accepts from it may sleep in the kernel from now on.
TEST_F(ParkedMendTest, AListenerThatIsMadeBlockingTakesNoLifeUnseen) {
  Begin();
  ASSERT_EQ(server().Tell(Order::kPause), 0);
  ASSERT_EQ(server().Tell(Order::kBlocking, 1), 0);
  const FileDescriptor fd(ConnectTo(port()));
  EXPECT_FALSE(IsParked(fd.get()));
  ASSERT_TRUE(Ask(fd.get(), 'a', 'f'));
  EXPECT_EQ(server().Tell(Order::kAccept), 'a');
}
TEST_F(ParkedMendTest, AListenerThatIsPolledAndDoesNotBlockAnyMore) {
  ServerPlan plan;
  plan.waits = WaitsIn::kPollBlocking;
  server_ = std::make_unique<ParkedServer>(plan);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(OneLife(port()));
    usleep(1000);
  }
  ASSERT_EQ(server().Tell(Order::kBlocking, 0), 0);
  ASSERT_TRUE(WarmUp(port()));
}
// The program has lowered its limit since: no other descriptor may be put in the place of this one.
TEST_F(ParkedMendTest, ANumberBeyondTheLimitConnectsAsBefore) {
  ParkedServer server({});
  ASSERT_TRUE(WarmUp(server.port()));
  ASSERT_EQ(server.Tell(Order::kPause), 0);
  server.Forget();
  FileDescriptor low(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  FileDescriptor high(fcntl(low.get(), F_DUPFD_CLOEXEC, 700));
  ASSERT_GE(high.get(), 700);
  low.Close();
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit lower{600, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &lower), 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(static_cast<uint16_t>(server.port()));
  EXPECT_EQ(connect(high.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_TRUE(Ask(high.get(), 'h', 'n'));
  ASSERT_EQ(server.Tell(Order::kGoOn), 0);
  EXPECT_TRUE(Answered(high.get(), 'h', 'n'));
  ASSERT_TRUE(OneLife(server.port(), 'z', 'e'));
  EXPECT_EQ(server.AwaitCame(2), "hz");
}
TEST_F(ParkedMendTest, NoMoreThanASixteenthOfTheDescriptors) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{256, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  Begin();
  int most = 0;
  for (int round = 0; round < 30; ++round) {
    ASSERT_EQ(server().Tell(Order::kPause), 0);
    std::vector<FileDescriptor> all;
    int parked = 0;
    for (int i = 0; i < 30; ++i) {
      all.emplace_back(ConnectTo(port()));
      parked += IsParked(all.back().get()) ? 1 : 0;
      EXPECT_TRUE(Ask(all.back().get(), 'x', 'n'));
    }
    most = parked > most ? parked : most;
    ASSERT_EQ(server().Tell(Order::kGoOn), 0);
    for (const FileDescriptor& fd : all) EXPECT_TRUE(Answered(fd.get(), 'x', 'n'));
    usleep(5000);
  }
  EXPECT_LE(most, 16);
  setrlimit(RLIMIT_NOFILE, &before);
}
TEST_F(ParkedMendTest, WhoHasConnectedToManyPlacesOnce) {
  for (int i = 0; i < 400; ++i) {
    sockaddr_in name = NameAt(1);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + static_cast<uint32_t>(i));
    const FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(Connects(fd.get(), name), Failed(ECONNREFUSED));
  }
  Begin();
}
// Each client numbers its own lives, so what waits may look as what waited before.
TEST_F(ParkedMendTest, EdgesOfSeveralClients) {
  ServerPlan plan;
  plan.waits = WaitsIn::kEdges;
  Begin(plan);
  std::vector<std::unique_ptr<ChildProcess>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<ChildProcess>([this, i] {
      for (int n = 0; n < 400; ++n) CHILD_CHECK(OneLife(port(), static_cast<char>('a' + i), 'f'));
      return true;
    }));
  }
  for (auto& client : clients) EXPECT_TRUE(client->Succeeded());
}
// What a client had queued when it was killed is accepted, and nobody behind it waits.
TEST_F(ParkedMendTest, WhatAKilledClientHadQueuedIsAccepted) {
  Begin();
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(server().Tell(Order::kPause), 0);
    server().Forget();
    ChildProcess client([this] {
      // Its first connections are ordinary, and wait in the kernel's queue.
      for (int i = 0; i < 4; ++i) CHILD_CHECK(ConnectTo(port()) >= 0);
      raise(SIGKILL);
      return false;
    });
    EXPECT_FALSE(client.Succeeded());
    const FileDescriptor fd(ConnectTo(port()));
    ASSERT_TRUE(Ask(fd.get(), 'a', 'n'));
    ASSERT_EQ(server().Tell(Order::kGoOn), 0);
    EXPECT_EQ(server().AwaitCame(5), "----a");
    ASSERT_TRUE(WarmUp(port()));
  }
}

}  // namespace
}  // namespace conformance
