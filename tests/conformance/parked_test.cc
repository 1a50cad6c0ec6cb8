// Short connections, one after the other to the same listener: which come in which order, what a
// server may do to its listener meanwhile, who must never come. In the mode `parked` most of them
// are parked; in all modes the server and its clients must see the same.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <new>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/pair.h"
#include "tests/conformance/parked_server.h"

namespace conformance {
namespace {

// A connection by a socket that has a name is never parked.
FileDescriptor OrdinaryTo(int port) {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  name.sin_port = htons(static_cast<uint16_t>(port));
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  EXPECT_FALSE(IsParked(fd.get()));
  return fd;
}

FileDescriptor Connected(int port, bool parked) {
  FileDescriptor fd(ConnectTo(port));
  EXPECT_GE(fd.get(), 0);
  if (parked && CurrentMode() == Mode::kParked) {
    EXPECT_TRUE(IsParked(fd.get()));
  }
  return fd;
}

struct Asked {
  FileDescriptor fd;
  char id;
};
void AskAll(ParkedServer& server, std::vector<Asked>* all) {
  std::string expected;
  for (const Asked& one : *all) expected += one.id;
  for (size_t i = all->size(); i-- > 0;) EXPECT_TRUE(Ask((*all)[i].fd.get(), (*all)[i].id, 'n'));
  server.Forget();
  EXPECT_EQ(server.Tell(Order::kGoOn), 0);
  EXPECT_EQ(server.AwaitCame(all->size()), expected);
  for (const Asked& one : *all) EXPECT_TRUE(Answered(one.fd.get(), one.id, 'n')) << one.id;
  all->clear();
}

// `rounds` times: `connect` makes connections to a server that rests, which accepts them in the
// order in which they were made.
template <typename Connect>
void AcceptedInOrder(int rounds, Connect connect) {
  ParkedServer server({});
  for (int round = 0; round < rounds; ++round) {
    ASSERT_TRUE(WarmUp(server.port()));
    ASSERT_EQ(server.Tell(Order::kPause), 0);
    std::vector<Asked> all;
    connect(server.port(), round, &all);
    AskAll(server, &all);
  }
}

TEST(ParkedTest, AnOrdinaryConnectionThatIsOlderIsAcceptedFirst) {
  AcceptedInOrder(10, [](int port, int, std::vector<Asked>* all) {
    all->push_back({OrdinaryTo(port), 'a'});
    all->push_back({Connected(port, false), 'b'});
    all->push_back({Connected(port, false), 'c'});
  });
}
TEST(ParkedTest, AParkedConnectionThatIsOlderIsAcceptedFirst) {
  AcceptedInOrder(20, [](int port, int, std::vector<Asked>* all) {
    all->push_back({Connected(port, true), 'a'});
    all->push_back({OrdinaryTo(port), 'b'});
    all->push_back({Connected(port, false), 'c'});
  });
}
// Whatever turn it is, of the lives or of the kernel's connections.
TEST(ParkedTest, TheOrderHoldsFromOneAcceptToTheNext) {
  ParkedServer server({});
  ASSERT_TRUE(WarmUp(server.port()));
  ASSERT_EQ(server.Tell(Order::kPause), 0);
  for (int round = 0; round < 30; ++round) {
    const FileDescriptor first = Connected(server.port(), true);
    const FileDescriptor second = OrdinaryTo(server.port());
    ASSERT_TRUE(Ask(second.get(), 'b', 'f') && Ask(first.get(), 'a', 'f'));
    EXPECT_EQ(server.Tell(Order::kAccept), 'a') << round;
    EXPECT_EQ(server.Tell(Order::kAccept), 'b') << round;
    EXPECT_TRUE(Answered(first.get(), 'a', 'f') && Answered(second.get(), 'b', 'f'));
  }
}
TEST(ParkedTest, ManyAreAcceptedInTheOrderOfTheirConnects) {
  AcceptedInOrder(10, [](int port, int round, std::vector<Asked>* all) {
    for (char id = 'a'; id < 'a' + 20; ++id) {
      const bool ordinary = id == 'k' && round % 2 == 0;
      all->push_back({ordinary ? OrdinaryTo(port) : Connected(port, id == 'a'), id});
    }
  });
}
// Reset before it was accepted: the kernel has it in its queue all the same.
TEST(ParkedTest, AResetConnectionThatIsOlderIsAcceptedFirst) {
  ParkedServer server({});
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(WarmUp(server.port()));
    ASSERT_EQ(server.Tell(Order::kPause), 0);
    server.Forget();
    FileDescriptor reset = OrdinaryTo(server.port());
    const linger now{1, 0};
    ASSERT_EQ(setsockopt(reset.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    reset.Close();
    const FileDescriptor next = Connected(server.port(), false);
    ASSERT_TRUE(Ask(next.get(), 'b', 'n'));
    ASSERT_EQ(server.Tell(Order::kGoOn), 0);
    EXPECT_EQ(server.AwaitCame(2), "-b");
    EXPECT_TRUE(Answered(next.get(), 'b', 'n'));
  }
}
// Else what follows a warm-up would find nothing parked.
TEST(ParkedTest, AnOrdinaryConnectionThatIsUpgradedIsNoParkedOne) {
  const std::unique_ptr<ConnectedPair> pair = ConnectedPair::Make(Possible({0, 1}).front());
  ASSERT_NE(pair, nullptr);
  EXPECT_FALSE(IsParked(pair->fd()));
}

TEST(ParkedTest, AThreadThatSleepsInAcceptIsWoken) {
  ServerPlan plan;
  plan.waits = WaitsIn::kAccept;
  ParkedServer server(plan);
  for (int i = 0; i < 300; ++i) {
    const Stopwatch watch;
    ASSERT_TRUE(OneLife(server.port(), 'x', i % 2 == 0 ? 'e' : 'f')) << i;
    ASSERT_LT(watch.ElapsedMs(), 400) << i;  // nobody was woken half a second late
    if (i % 3 == 0) usleep(300);             // it sleeps again
  }
}
// Nobody but a client may end the poll of a server whose accept would sleep then.
// A client of another process, whose connection is an ordinary one, and asks 'o'.
class OrdinaryClient {
 public:
  OrdinaryClient() {
    if (pipe2(pipe_, O_CLOEXEC) != 0) abort();
    void* const at = mmap(nullptr, sizeof *connected_, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) abort();
    connected_ = new (at) std::atomic<bool>(false);
    pid_ = fork();
    if (pid_ != 0) return;
    int port = 0;
    if (read(pipe_[0], &port, sizeof port) != sizeof port) _exit(1);
    const FileDescriptor fd = OrdinaryTo(port);
    const bool asked = Ask(fd.get(), 'o', 'n');
    connected_->store(true);
    _exit(asked && Answered(fd.get(), 'o', 'n') ? 0 : 1);
  }
  ~OrdinaryClient() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(pipe_[0]);
    close(pipe_[1]);
    munmap(connected_, sizeof *connected_);
  }
  bool HasConnected() const { return connected_->load(); }
  void AskAt(int port) { EXPECT_EQ(write(pipe_[1], &port, sizeof port), ssize_t{sizeof port}); }

 private:
  int pipe_[2];
  std::atomic<bool>* connected_ = nullptr;
  pid_t pid_;
};

// A thread that would sleep in accept finds a life each time: it is busy, and clients are many.
TEST(ParkedTest, WhoIsBusyBesideABlockingListenerAcceptsWhatTheKernelHas) {
  OrdinaryClient others[6];  // before there is anything that a fork would end
  ParkedServer server({WaitsIn::kAccept});
  const auto served = [](const FileDescriptor& fd) {
    return Ask(fd.get(), 'x', 'e') && Answered(fd.get(), 'x', 'e');  // it waits for the close now
  };
  FileDescriptor now = Connected(server.port(), false);
  ASSERT_TRUE(served(now));
  std::deque<FileDescriptor> waiting;
  const auto step = [&] {
    now = std::move(waiting.front());  // the former one is closed
    waiting.pop_front();
    EXPECT_TRUE(served(now));
  };
  for (OrdinaryClient& other : others) {
    // While one is served lives begin, as many as there are pairs.
    bool parked = false;
    for (const Stopwatch watch; !parked && watch.ElapsedMs() < 5000;) {
      while (!waiting.empty()) step();
      parked = true;
      while (waiting.size() < 6) {
        waiting.push_back(Connected(server.port(), false));
        parked = parked && (IsParked(waiting.back().get()) || CurrentMode() != Mode::kParked);
      }
    }
    ASSERT_TRUE(parked);
    while (waiting.size() > 2) step();
    server.Forget();
    other.AskAt(server.port());
    const auto came = [&server] { return server.Came().find('o') != std::string::npos; };
    while (!came() && !other.HasConnected()) usleep(1000);
    int steps = 0;
    for (; steps < 16 && !came(); ++steps) {
      waiting.push_back(Connected(server.port(), false));
      step();
    }
    ASSERT_LT(steps, 16);  // the lives of eight accepts, and those that wait then
  }
}
TEST(ParkedTest, AServerThatPollsAListenerThatBlocksIsNotHeldUp) {
  ServerPlan plan;
  plan.waits = WaitsIn::kPollBlocking;
  ParkedServer server(plan);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(OneLife(server.port())) << i;
  for (int i = 0; i < 30; ++i) {
    // More and more at once, so that agents make connections each time.
    std::vector<FileDescriptor> all;
    for (int n = 0; n < 2 + i; ++n) {
      all.emplace_back(ConnectTo(server.port()));
      ASSERT_TRUE(Ask(all.back().get(), 'x', 'n'));
    }
    usleep(3000);
    ASSERT_EQ(server.Tell(Order::kLimit, 0), 0) << i;
  }
}
// It has its descriptors from us, and waits for its listener in a way that nobody sees.
TEST(ParkedTest, WhoeverWaitsUnseenIsTold) {
  ParkedServer server({});
  ASSERT_TRUE(WarmUp(server.port()));
  ASSERT_EQ(server.Tell(Order::kInline), 0);
  for (int i = 0; i < 4; ++i) {
    const Stopwatch watch;
    EXPECT_TRUE(OneLife(server.port())) << i;
    EXPECT_LT(watch.ElapsedMs(), 2000);
  }
  EXPECT_EQ(server.Came().find('-'), std::string::npos) << server.Came();
}
TEST(ParkedTest, WhoeverAlwaysWaitedUnseenIsLeftAlone) {
  ServerPlan plan;
  plan.waits = WaitsIn::kInlinePoll;
  ParkedServer server(plan);
  for (int i = 0; i < 200; ++i) {
    const Stopwatch watch;
    const FileDescriptor fd(ConnectTo(server.port()));
    ASSERT_TRUE(Ask(fd.get(), 'x', 'e') && Answered(fd.get(), 'x', 'e'));
    ASSERT_LT(watch.ElapsedMs(), 400);
  }
}
TEST(ParkedTest, AListenerMadeBlockingGivesWhatWaits) {
  ParkedServer server({});
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(WarmUp(server.port()));
    ASSERT_EQ(server.Tell(Order::kPause), 0);
    const FileDescriptor fd = Connected(server.port(), true);
    ASSERT_TRUE(Ask(fd.get(), 'a', 'f'));
    ASSERT_EQ(server.Tell(Order::kBlocking, 1), 0);
    EXPECT_EQ(server.Tell(Order::kAccept), 'a');
    EXPECT_TRUE(Answered(fd.get(), 'a', 'f'));
    ASSERT_EQ(server.Tell(Order::kBlocking, 0), 0);
    ASSERT_EQ(server.Tell(Order::kGoOn), 0);
  }
}

// As many lives as there is room for in the kernel's queue; none is lost.
TEST(ParkedTest, ABacklogLimitsWhatWaits) {
  ServerPlan plan;
  plan.backlog = 2;
  ParkedServer server(plan);
  ASSERT_TRUE(WarmUp(server.port()));
  ASSERT_EQ(server.Tell(Order::kPause), 0);
  server.Forget();
  std::vector<FileDescriptor> waiting;
  int parked = 0;
  for (int i = 0; i < 3; ++i) {
    waiting.emplace_back(ConnectTo(server.port()));
    ASSERT_GE(waiting.back().get(), 0);
    parked += IsParked(waiting.back().get()) ? 1 : 0;
    ASSERT_TRUE(Ask(waiting.back().get(), static_cast<char>('a' + i), 'n'));
  }
  EXPECT_LE(parked, plan.backlog);
  ASSERT_EQ(server.Tell(Order::kGoOn), 0);
  EXPECT_EQ(server.AwaitCame(3), "abc");
}

// ---- who must not come: a connection that agents have made for lives to come ----

// Lives, with the server stopped again and again while more pairs are wanted.
TEST(ParkedTest, AServerThatDoesNotAcceptForAWhileSeesItsClientsOnly) {
  ParkedServer server({});
  ASSERT_TRUE(WarmUp(server.port()));
  ASSERT_EQ(server.Tell(Order::kPause), 0);
  server.Forget();
  std::vector<FileDescriptor> all;
  for (int i = 0; i < 6; ++i) {
    all.emplace_back(ConnectTo(server.port()));
    ASSERT_TRUE(Ask(all.back().get(), static_cast<char>('a' + i), 'n'));
    usleep(20000);
  }
  sleep(5);  // both agents have given up what they were making
  ASSERT_EQ(server.Tell(Order::kGoOn), 0);
  EXPECT_EQ(server.AwaitCame(6), "abcdef");
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(OneLife(server.port(), 'x'));
  EXPECT_EQ(server.Came().find('-'), std::string::npos) << server.Came();
}
TEST(ParkedTest, AChildThatAcceptsInsteadSeesClientsOnly) {
  ParkedServer server({});
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(WarmUp(server.port()));
    ASSERT_EQ(server.Tell(Order::kPause), 0);
    server.Forget();
    std::vector<FileDescriptor> all;
    for (int i = 0; i < 6; ++i) {
      all.emplace_back(ConnectTo(server.port()));
      ASSERT_TRUE(Ask(all.back().get(), static_cast<char>('a' + i), 'n'));
      usleep(5000);
    }
    // What waits as a life is the parent's to accept.
    EXPECT_LE(server.Tell(Order::kForkAccepts, 150), 6);
    ASSERT_EQ(server.Tell(Order::kGoOn), 0);
    const std::string came = server.AwaitCame(6);
    EXPECT_EQ(came.size(), 6u) << came;
    EXPECT_EQ(came.find('-'), std::string::npos) << came;
  }
}
// The kernel gives connections to the more exact of two listeners, which cannot have a queue.
TEST(ParkedTest, AnExactListenerBesideAWildcardSeesItsClientsOnly) {
  ServerPlan plan;
  plan.address = "0.0.0.0";
  plan.also_exact = true;
  ParkedServer server(plan);
  ASSERT_TRUE(WarmUp(server.port(), "127.0.0.2"));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(OneLife(server.port(), 'x', 'f'));
    if (i % 10 == 0) usleep(10000);
  }
  EXPECT_EQ(server.Came().find('-'), std::string::npos) << server.Came();
}
// Clients are killed while their agents make connections.
TEST(ParkedTest, KilledClientsLeaveNobodyToBeAccepted) {
  ParkedServer server({});
  ASSERT_TRUE(WarmUp(server.port()));
  for (int i = 0; i < 12; ++i) {
    ChildProcess client([&] {
      for (int n = 0; n < 1000000; ++n) CHILD_CHECK(OneLife(server.port(), 'x', 'f'));
      return true;
    });
    usleep(3000 + 3000 * static_cast<useconds_t>(i));
    client.Kill();
  }
  usleep(100000);
  ASSERT_TRUE(WarmUp(server.port()));
  // Each of the killed was in one connection at the most.
  const std::string came = server.Came();
  EXPECT_LE(std::count(came.begin(), came.end(), '-'), 12) << came;
}

}  // namespace
}  // namespace conformance
