// Threads asleep on connections of their own, each in poll, select or epoll: what comes for one
// connection wakes who waits for it and nobody else; the end of all wakes all.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

using Waits = bool (*)(int fd);

bool InPoll(int fd) { return Revents(fd, POLLIN, kSoonMs) == POLLIN; }
bool InSelect(int fd) {
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(fd, &readable);
  timeval limit{kSoonMs / 1000, 0};
  return select(fd + 1, &readable, nullptr, nullptr, &limit) == 1;
}

bool InEpoll(int fd, uint32_t events) {
  EpollSet set;
  return set.Add(fd, events) == Done(0) && set.Next(kSoonMs) == EPOLLIN;
}
bool InEpollByLevel(int fd) { return InEpoll(fd, EPOLLIN); }
bool InEpollByEdge(int fd) { return InEpoll(fd, EPOLLIN | EPOLLET); }
bool InEpollOnce(int fd) { return InEpoll(fd, EPOLLIN | EPOLLONESHOT); }

// How often the thread has gone to sleep so far.
long SleepsOf(pid_t tid) {
  std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
  for (std::string word; status >> word;) {
    long count = -1;
    if (word == "voluntary_ctxt_switches:" && status >> count) return count;
  }
  return -1;
}

class SleepersTest : public PairTest {
 protected:
  struct Sleeper {
    std::unique_ptr<ConnectedPair> pair;
    std::shared_ptr<std::atomic<pid_t>> tid = std::make_shared<std::atomic<pid_t>>(0);
    std::unique_ptr<BackgroundCall<bool>> call;
  };

  void FallAsleep(Sleeper* sleeper, Waits waits) {
    sleeper->call = std::make_unique<BackgroundCall<bool>>(
        [waits, fd = sleeper->pair->fd(), tid = sleeper->tid] {
          tid->store(gettid());
          return waits(fd);
        });
    while (sleeper->tid->load() == 0) poll(nullptr, 0, 1);
    WaitUntilAsleep(sleeper->tid->load());
    EXPECT_FALSE(sleeper->call->Returned(kBlockedMs));
  }

  // One thread after the other gets its bytes; how often those who wait on were woken by them.
  long WokenByOthers(Waits waits) {
    constexpr int kSleepers = 4;
    std::vector<Sleeper> sleepers(kSleepers);
    for (Sleeper& sleeper : sleepers) {
      sleeper.pair = AnotherPair();
      if (sleeper.pair == nullptr) {
        ADD_FAILURE() << "no connection";
        return -1;
      }
      FallAsleep(&sleeper, waits);
    }
    long others = 0;
    for (int woken = 0; woken < kSleepers; ++woken) {
      long before[kSleepers];
      for (int i = woken + 1; i < kSleepers; ++i) before[i] = SleepsOf(*sleepers[i].tid);
      sleepers[woken].pair->peer().Send(10);
      EXPECT_TRUE(sleepers[woken].call->get());
      for (int i = woken + 1; i < kSleepers; ++i) others += SleepsOf(*sleepers[i].tid) - before[i];
      sleepers[woken].pair->Receive(10);
    }
    return others;
  }

  // A thread that waits for a processor may have to go to sleep once more; and with sets of their
  // own, what is to tell the other end of a new set may come there behind the first bytes. So this
  // is tried again; where all are woken by all, it fails each time.
  void EachIsWokenAlone(Waits waits) {
    constexpr int kRounds = 20;
    long others = -1;
    for (int round = 0; round < kRounds && others != 0; ++round) others = WokenByOthers(waits);
    EXPECT_EQ(others, 0) << "woken by another's bytes";
  }
};
INSTANTIATE_TEST_SUITE_P(, SleepersTest, OneOfEachPlace(), VariantName);

TEST_P(SleepersTest, InPollEachIsWokenAlone) { EachIsWokenAlone(InPoll); }
TEST_P(SleepersTest, InSelectEachIsWokenAlone) { EachIsWokenAlone(InSelect); }
// Each in a set of its own.
TEST_P(SleepersTest, InEpollEachIsWokenAlone) { EachIsWokenAlone(InEpollByLevel); }
TEST_P(SleepersTest, InEpollByEdgeEachIsWokenAlone) { EachIsWokenAlone(InEpollByEdge); }
TEST_P(SleepersTest, InEpollOnceEachIsWokenAlone) { EachIsWokenAlone(InEpollOnce); }

}  // namespace
}  // namespace conformance
