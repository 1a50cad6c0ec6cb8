// An epoll set that another program gets, by a message or because it survives exec: there it tells
// of the sockets that are registered in it, with the data that the program has given them.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr uint64_t kData = 0xABCDEF;
constexpr size_t kBytes = 30;
constexpr int kSomeLooksMs =
    2500;  // whether a started program still has the set is asked about now and then

// This program once more, without the library, with a connection whose peer echoes and a set.
class Waiter {
 public:
  Waiter(const ConnectedPair& pair, int set)
      : words_{"waiter",
               "--role=waiter",
               "--fd=" + std::to_string(pair.fd()),
               "--from=" + std::to_string(pair.sent.offset()),
               "--set=" + std::to_string(set),
               "--data=" + std::to_string(kData),
               "--seconds=20"} {
    for (std::string& word : words_) arguments_.push_back(word.data());
    arguments_.push_back(nullptr);
  }
  void Become() {
    execve("/proc/self/exe", arguments_.data(), none_);
    _exit(127);
  }
  pid_t Spawn(const posix_spawn_file_actions_t* actions) {
    pid_t pid = -1;
    EXPECT_EQ(posix_spawn(&pid, "/proc/self/exe", actions, nullptr, arguments_.data(), none_), 0);
    return pid;
  }

 private:
  std::vector<std::string> words_;
  std::vector<char*> arguments_;
  char* none_[1] = {nullptr};
};

bool Survives(int fd) { return fcntl(fd, F_SETFD, 0) == 0; }

class EpollLeaveTest : public PairTest {
 protected:
  void ExpectSuccess(pid_t waiter) {
    int status = -1;
    ASSERT_EQ(waitpid(waiter, &status, 0), waiter);
    EXPECT_EQ(status, 0);
    peer().ExpectMoved(kBytes);
    pair().sent.Advance(kBytes);
    pair().received.Advance(kBytes);
  }

  // The set is filled and waited in, and passed to a process that knows nothing of it.
  void ExpectPassedSetTells(uint32_t events) {
    int channel[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
    const FileDescriptor ours(channel[0]), theirs(channel[1]);
    ChildProcess child([&] {
      CHILD_CHECK(close(fd()) == 0);
      const EpollSet received{FileDescriptor(ReceiveDescriptor(theirs.get()))};
      CHILD_CHECK(received.fd() >= 0);
      const std::vector<epoll_event> told = received.Wait(kSoonMs);
      CHILD_CHECK(told.size() == 1);
      CHILD_CHECK(told[0].data.u64 == kData);
      CHILD_CHECK((told[0].events & EPOLLIN) != 0);
      return true;
    });
    EpollSet set;
    ASSERT_EQ(set.Add(fd(), events, kData), Done(0));
    EXPECT_TRUE(set.Quiet());
    ASSERT_TRUE(SendDescriptor(ours.get(), set.fd()));
    EXPECT_LE(Routes(fd()), 0);
    peer().Send(10);
    EXPECT_TRUE(child.Succeeded());
    pair().Receive(10);
    // It is ours, too.
    peer().Send(10);
    const std::vector<epoll_event> told = set.Wait(kSoonMs);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].data.u64, kData);
    pair().Receive(10);
    pair().ExpectBothWaysWork();
  }

  // Another program of the same set, made by `spawn`, while we do not use it.
  template <typename Spawn>
  void ExpectSetTellsAnother(uint32_t events, Spawn spawn) {
    ASSERT_TRUE(Survives(fd()));
    EpollSet set;
    ASSERT_EQ(set.Add(fd(), events, kData), Done(0));
    EXPECT_TRUE(set.Quiet());
    Waiter waiter(pair(), set.fd());
    peer().Start(Op::kEcho, kBytes, 0, 0);
    ExpectSuccess(spawn(set.fd(), &waiter));
    pair().ExpectBothWaysWork();
  }

  // In a process of its own, since it does not come back.
  void ExpectSetSurvivesExec(uint32_t events) {
    ChildProcess child([&] {
      const std::unique_ptr<ConnectedPair> mine = AnotherPair();
      CHILD_CHECK(mine != nullptr);
      CHILD_CHECK(Survives(mine->fd()));
      EpollSet set;
      CHILD_CHECK(Survives(set.fd()));
      CHILD_CHECK(set.Add(mine->fd(), events, kData) == Done(0));
      CHILD_CHECK(set.Quiet());
      mine->peer().Start(Op::kEcho, kBytes, 0, 0);
      Waiter(*mine, set.fd()).Become();
      return false;
    });
    EXPECT_TRUE(child.Succeeded());
  }
};
INSTANTIATE_TEST_SUITE_P(, EpollLeaveTest, ProcessVariants(), VariantName);

TEST_P(EpollLeaveTest, PassedByMessage) { ExpectPassedSetTells(EPOLLIN); }
TEST_P(EpollLeaveTest, PassedByMessageWithAnEdge) { ExpectPassedSetTells(EPOLLIN | EPOLLET); }

TEST_P(EpollLeaveTest, SurvivesExec) { ExpectSetSurvivesExec(EPOLLIN); }
TEST_P(EpollLeaveTest, SurvivesExecWithAnEdge) { ExpectSetSurvivesExec(EPOLLIN | EPOLLET); }

TEST_P(EpollLeaveTest, InheritedBySpawnedProgram) {
  for (const uint32_t edge : {0u, static_cast<uint32_t>(EPOLLET)}) {
    ExpectSetTellsAnother(EPOLLIN | edge, [](int set, Waiter* waiter) {
      EXPECT_TRUE(Survives(set));
      return waiter->Spawn(nullptr);
    });
  }
}

TEST_P(EpollLeaveTest, GivenToSpawnedProgramByAction) {
  ExpectSetTellsAnother(EPOLLIN | EPOLLET, [](int set, Waiter* waiter) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, set, set);  // takes close-on-exec away
    const pid_t pid = waiter->Spawn(&actions);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
  });
}

TEST_P(EpollLeaveTest, KeptByVforkChild) {
  ExpectSetTellsAnother(EPOLLIN | EPOLLET, [](int set, Waiter* waiter) {
    const pid_t pid = vfork();
    if (pid == 0) {
      fcntl(set, F_SETFD, 0);
      waiter->Become();
    }
    return pid;
  });
}

// A program that knows nothing of the set has it, too, and ends; the set is ours alone again.
TEST_P(EpollLeaveTest, IsOursAgainWhenTheStartedProgramHasEnded) {
  for (const uint32_t edge : {0u, static_cast<uint32_t>(EPOLLET)}) {
    EpollSet set;
    ASSERT_TRUE(Survives(set.fd()));
    ASSERT_EQ(set.Add(fd(), EPOLLIN | edge, kData), Done(0));
    const auto expect_told = [&] {
      peer().Send(10);
      const std::vector<epoll_event> told = set.Wait(kSoonMs);
      ASSERT_EQ(told.size(), 1u);
      EXPECT_EQ(told[0].data.u64, kData);
      pair().Receive(10);
    };
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const FileDescriptor input(ends[0]);
    FileDescriptor end(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input.get(), 0);
    char name[] = "cat";
    char* const arguments[] = {name, nullptr};
    pid_t program = -1;
    ASSERT_EQ(posix_spawnp(&program, name, &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_LE(Routes(fd()), 0) << "it may wait there";
    expect_told();
    end.Close();
    ASSERT_EQ(waitpid(program, nullptr, 0), program);
    ASSERT_TRUE(UpgradeIfWanted(fd()));
    const Stopwatch stopwatch;
    do {
      pair().ExpectBothWaysWork();
    } while (CurrentMode() == Mode::kLocal && stopwatch.ElapsedMs() < kSoonMs &&
             Routes(fd()) != (kSendsByFifo | kReceivesFromFifo));
    pair().ExpectOnFifos();
    EXPECT_TRUE(set.Quiet() || edge != 0);  // D-4
    expect_told();
  }
}

// /proc/PID/fd of such a program is empty; nor does ours show anything when our own first thread
// has ended.
TEST_P(EpollLeaveTest, KeptByAProgramWhoseFirstThreadHasEnded) {
  EpollSet set;
  ASSERT_TRUE(Survives(set.fd()));
  ASSERT_EQ(set.Add(fd(), EPOLLIN, kData), Done(0));
  const std::string number = "--set=" + std::to_string(set.fd());
  std::string words[] = {"keeper", "--role=keeper", number, "--seconds=20"};
  char* const arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(),
                             nullptr};
  char* none[] = {nullptr};
  pid_t program = -1;
  ASSERT_EQ(posix_spawn(&program, "/proc/self/exe", nullptr, nullptr, arguments, none), 0);
  for (const Stopwatch stopwatch; stopwatch.ElapsedMs() < kSomeLooksMs;) {
    UpgradeIfWanted(fd());
    poll(nullptr, 0, 10);
  }
  EXPECT_LE(Routes(fd()), 0) << "it waits there";
  peer().Send(10);
  int status = -1;
  ASSERT_EQ(waitpid(program, &status, 0), program);
  EXPECT_EQ(status, 0);
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

// Who has the set cannot be asked then.
TEST_P(EpollLeaveTest, KeptWhileTheLastDescriptorIsInUse) {
  EpollSet set;
  ASSERT_TRUE(Survives(set.fd()));
  ASSERT_EQ(set.Add(fd(), EPOLLIN, kData), Done(0));
  char name[] = "sleep";
  char time[] = "20";
  char* const arguments[] = {name, time, nullptr};
  pid_t program = -1;
  ASSERT_EQ(posix_spawnp(&program, name, nullptr, nullptr, arguments, environ), 0);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{1100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  {
    std::vector<FileDescriptor> others;
    for (int other; (other = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
      others.emplace_back(other);
    if (!others.empty()) others.pop_back();
    UpgradeIfWanted(fd());  // in vain
    poll(nullptr, 0, kSomeLooksMs / 2);
  }
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  UpgradeIfWanted(fd());
  EXPECT_LE(Routes(fd()), 0) << "it may wait there";
  kill(program, SIGKILL);
  EXPECT_EQ(waitpid(program, nullptr, 0), program);
  pair().ExpectBothWaysWork();
}

// A one-shot that has fired says nothing until it is armed again.
TEST_P(EpollLeaveTest, PassedWithAOneShotThatHasFired) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN | EPOLLONESHOT, kData), Done(0));
  peer().Send(10);
  EXPECT_EQ(set.Next(), static_cast<uint32_t>(EPOLLIN));
  ASSERT_TRUE(SendDescriptor(ours.get(), set.fd()));
  const EpollSet received{FileDescriptor(ReceiveDescriptor(theirs.get()))};
  EXPECT_TRUE(received.Quiet());
  ASSERT_EQ(set.Modify(fd(), EPOLLIN | EPOLLONESHOT, kData), Done(0));
  const std::vector<epoll_event> told = received.Wait(kSoonMs);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].data.u64, kData);
  EXPECT_EQ(told[0].events, static_cast<uint32_t>(EPOLLIN));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
