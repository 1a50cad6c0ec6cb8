// A connection that a parent and its child use at the same time, as rsync does: one half only reads
// it, the other only writes. It stays on FIFOs (mode local); and whichever of the two is killed or
// ends, at whatever moment, the other goes on with the right byte.

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

enum class Wait { kRecv, kSelect, kPoll };
constexpr const char* kNames[] = {"Recv", "Select", "Poll"};

bool IsReadable(int fd, Wait wait) {
  if (wait == Wait::kRecv) return true;  // the receive waits
  if (wait == Wait::kPoll) {
    pollfd asked[2] = {{fd, POLLIN, 0}, {-1, 0, 0}};
    return poll(asked, 2, 10000) == 1;
  }
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(fd, &readable);
  timeval limit{10, 0};
  return select(fd + 1, &readable, nullptr, nullptr, &limit) == 1 && FD_ISSET(fd, &readable);
}

// Receives `total` bytes, waiting for each piece that way; what is there at an end, kToEnd.
bool ReceiveAfter(int fd, ByteStream* stream, size_t total, Wait wait) {
  std::vector<char> buffer(40000);
  while (total > 0) {
    CHILD_CHECK(IsReadable(fd, wait));
    const ssize_t got = recv(fd, buffer.data(), std::min(buffer.size(), total),
                             wait == Wait::kRecv ? 0 : MSG_DONTWAIT);
    if (got == 0) return total >= kToEnd / 2;
    if (got < 0 && errno == EAGAIN) continue;
    CHILD_CHECK(got > 0);
    CHILD_CHECK(stream->Take(buffer.data(), static_cast<size_t>(got)));
    total -= static_cast<size_t>(got);
  }
  return true;
}

class LentTest : public PairTest {
 protected:
  // The child receives what the peer sends, while we send to it: in turns, so that nobody's FIFO is
  // full for long on a busy machine.
  void OneHalfEach(Wait wait) {
    constexpr int kTurns = 100;
    constexpr size_t kPiece = 5000;
    peer().Start(Op::kEcho, kTurns * kPiece);
    int turns[2];
    ASSERT_EQ(pipe(turns), 0);
    const FileDescriptor told(turns[0]), tells(turns[1]);
    ChildProcess child([&] {
      for (int i = 0; i < kTurns; ++i) {
        CHILD_CHECK(ReceiveAfter(fd(), &pair().received, kPiece, wait));
        CHILD_CHECK(write(tells.get(), "t", 1) == 1);
      }
      return true;
    });
    for (int i = 0; i < kTurns; ++i) {
      char token;
      pair().Send(kPiece);
      ASSERT_EQ(read(told.get(), &token, 1), 1);
      if (i % 30 == 29) Mark();
    }
    EXPECT_TRUE(child.Succeeded());
    pair().received.Advance(kTurns * kPiece);
    peer().ExpectMoved(kTurns * kPiece);
    pair().ExpectOnFifos();
    pair().ExpectBothWaysWork();
  }
};
INSTANTIATE_TEST_SUITE_P(, LentTest, ProcessVariants(), VariantName);

TEST_P(LentTest, ChildReceivesByRecv) { OneHalfEach(Wait::kRecv); }
TEST_P(LentTest, ChildReceivesAfterSelect) { OneHalfEach(Wait::kSelect); }
TEST_P(LentTest, ChildReceivesAfterPoll) { OneHalfEach(Wait::kPoll); }

TEST_P(LentTest, ChildSendsWhileTheParentReceives) {
  constexpr size_t kBytes = 500000;
  peer().Start(Op::kEcho, kBytes, 20000);
  ChildProcess child([this] { return SendBytes(fd(), &pair().sent, kBytes).bytes == kBytes; });
  pair().Receive(kBytes);
  EXPECT_TRUE(child.Succeeded());
  pair().sent.Advance(kBytes);
  peer().ExpectMoved(kBytes);
  pair().ExpectOnFifos();
  pair().ExpectBothWaysWork();
}

// The room comes while it sleeps in poll, by the reader's ring.
TEST_P(LentTest, ChildWaitsForRoom) {
  constexpr size_t kBytes = 12000000;  // more than FIFO and TCP hold together
  ChildProcess child([this] {
    pollfd asked[2] = {{fd(), POLLOUT, 0}, {-1, 0, 0}};
    std::vector<char> piece(30000);
    for (size_t left = kBytes; left > 0;) {
      CHILD_CHECK(poll(asked, 2, 20000) == 1);
      const size_t most = std::min(left, piece.size());
      pair().sent.Fill(piece.data(), most);
      const ssize_t sent = send(fd(), piece.data(), most, MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) continue;
      CHILD_CHECK(sent > 0);
      pair().sent.Advance(static_cast<size_t>(sent));
      left -= static_cast<size_t>(sent);
    }
    return true;
  });
  WaitUntilAsleep(child.pid());
  peer().Receive(kBytes);
  EXPECT_TRUE(child.Succeeded());
  pair().sent.Advance(kBytes);
  pair().ExpectBothWaysWork();
}

// Somebody who was killed in his sleep must not keep the connection open.
TEST_P(LentTest, ChildKilledInItsSleepKeepsNothing) {
  for (const Wait wait : {Wait::kRecv, Wait::kSelect, Wait::kPoll}) {
    ChildProcess child([this, wait] { return ReceiveAfter(fd(), &pair().received, 10, wait); });
    WaitUntilAsleep(child.pid());
    child.Kill();
    EXPECT_FALSE(child.Succeeded());
    pair().ExpectBothWaysWork();
  }
  EXPECT_EQ(pair().Close(), 0);
  peer().ReceiveEndOfStream();
}

TEST_P(LentTest, PeerEndsWhileTheChildSleeps) {
  for (const Wait wait : {Wait::kRecv, Wait::kSelect, Wait::kPoll}) {
    const auto another = AnotherPair();
    ASSERT_NE(another, nullptr);
    ChildProcess child(
        [&] { return ReceiveAfter(another->fd(), &another->received, kToEnd, wait); });
    WaitUntilAsleep(child.pid());
    another->peer().Send(100);
    EXPECT_EQ(another->peer().Do(Op::kClose).result, 0);
    EXPECT_TRUE(child.Succeeded());
  }
}

// We are the peer of a connection that a child has made and forked with: the child sends, the
// grandchild receives, and goes on alone when the child is no more.
class OrphanTest : public testing::TestWithParam<Wait> {
 protected:
  static constexpr size_t kLastWords = 3000;
  enum class End { kKilled, kExits };

  void SetUp() override {
    listener_ = ListenOn(Loopback(AF_INET));
    ASSERT_EQ(pipe(verdict_), 0);
  }
  void TearDown() override {
    close(verdict_[0]);
    close(verdict_[1]);
  }

  // In the grandchild: all that the peer sends, then some bytes of its own.
  bool Survive(int fd) const {
    CHILD_CHECK(ReceiveAfter(fd, received_, kDown, GetParam()));
    ByteStream last(kSeedFromPeer + 1);
    CHILD_CHECK(SendBytes(fd, &last, kLastWords).bytes == kLastWords);
    return true;
  }
  // In the child, which has made the connection.
  bool Begin(End end, size_t up) {
    const Address there = LocalName(listener_.get());
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHILD_CHECK(connect(fd, there.get(), there.length) == 0);
    CHILD_CHECK(UpgradeIfWanted(fd));
    if (fork() == 0) {
      CHILD_CHECK(write(verdict_[1], "f", 1) == 1);
      const char good = Survive(fd) ? 1 : 0;
      _exit(write(verdict_[1], &good, 1) == 1 ? 0 : 1);
    }
    ByteStream sent(kSeedToPeer);
    SendBytes(fd, &sent, up, {3000, 0});
    if (end == End::kExits) return true;
    for (;;) SendBytes(fd, &sent, 2000, {700, 0});
  }

  // What came is what the child sent, up to its end, and behind it the grandchild's own.
  void CheckReceived(const std::vector<char>& all, End end, size_t up) {
    ASSERT_GE(all.size(), kLastWords);
    const size_t childs = all.size() - kLastWords;
    if (end == End::kExits) {
      EXPECT_EQ(childs, up);
    }
    ByteStream of_child(kSeedToPeer);
    ByteStream of_grandchild(kSeedFromPeer + 1);
    EXPECT_TRUE(of_child.Take(all.data(), childs));
    EXPECT_TRUE(of_grandchild.Take(all.data() + childs, kLastWords));
  }

  void Run(End end, size_t up, size_t kill_at) {
    ByteStream received(kSeedFromPeer);
    received_ = &received;
    ChildProcess child([this, end, up] { return Begin(end, up); });
    const FileDescriptor fd(accept(listener_.get(), nullptr, nullptr));
    ASSERT_GE(fd.get(), 0);
    UpgradeIfWanted(fd.get());
    char good = 0;
    ASSERT_EQ(read(verdict_[0], &good, 1), 1);  // it has forked
    ByteStream sent(kSeedFromPeer);
    size_t left = kDown;
    bool killed = false;
    std::vector<char> all;
    std::vector<char> buffer(20000);
    for (bool ended = false; !ended;) {
      // The last byte, after which the grandchild writes, comes behind all that the child has sent.
      const bool over = end == End::kKilled ? killed : all.size() >= up;
      const size_t may_send = over ? left : left - 1;
      pollfd asked{fd.get(), static_cast<short>(POLLIN | (may_send > 0 ? POLLOUT : 0)), 0};
      ASSERT_GT(poll(&asked, 1, 20000), 0) << all.size() << " received, " << left << " to be sent";
      if ((asked.revents & POLLOUT) != 0) {
        const size_t piece = std::min<size_t>(may_send, 3001);
        sent.Fill(buffer.data(), piece);
        const ssize_t n = send(fd.get(), buffer.data(), piece, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) sent.Advance(static_cast<size_t>(n));
        if (n > 0) left -= static_cast<size_t>(n);
      }
      if (end == End::kKilled && !killed && kDown - left >= kill_at) {
        child.Kill();
        siginfo_t how;
        ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child.pid()), &how, WEXITED | WNOWAIT), 0);
        killed = true;
      }
      if ((asked.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      const ssize_t n = recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) continue;
      ASSERT_GE(n, 0) << strerror(errno);
      ended = n == 0;
      all.insert(all.end(), buffer.data(), buffer.data() + n);
    }
    ASSERT_EQ(read(verdict_[0], &good, 1), 1);
    EXPECT_EQ(good, 1);
    CheckReceived(all, end, up);
  }

  static constexpr size_t kDown = 400000;
  FileDescriptor listener_;
  int verdict_[2];
  ByteStream* received_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(, OrphanTest, testing::Values(Wait::kRecv, Wait::kSelect, Wait::kPoll),
                         [](const auto& wait) { return kNames[static_cast<int>(wait.param)]; });

TEST_P(OrphanTest, ParentKilled) {
  std::mt19937 random(Seed());
  for (int round = 0; round < 6; ++round) Run(End::kKilled, 1000, random() % (kDown - 1));
}
TEST_P(OrphanTest, ParentExits) {
  for (const size_t up : {0u, 1000u, 300000u}) Run(End::kExits, up, 0);
}

}  // namespace
}  // namespace conformance
