// poll and ppoll: what is ready in each state of a connection, alone and mixed with other kinds of
// descriptors, with every kind of time-out; entries that are not descriptors.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kAll = POLLIN | POLLPRI | POLLOUT | POLLRDHUP;

class PollTest : public PairTest {
 protected:
  // Waits until at least `wanted` is ready, then returns all that is.
  int ReadyWith(int wanted) {
    Revents(fd(), wanted, kSoonMs);
    return Revents(fd(), kAll, 0);
  }
};
INSTANTIATE_TEST_SUITE_P(, PollTest, AllVariants(), VariantName);

TEST_P(PollTest, Idle) {
  EXPECT_EQ(Revents(fd(), kAll, 0), POLLOUT);
  EXPECT_EQ(Revents(fd(), POLLIN, 0), 0);
  EXPECT_EQ(Revents(fd(), 0, 0), 0);
  EXPECT_EQ(Revents(fd(), POLLRDHUP | POLLPRI, 0), 0);
  Mark();
  EXPECT_TRUE(BecomesWritable(fd()));
  EXPECT_EQ(Revents(fd(), POLLIN, kNothingMs), 0);
}

TEST_P(PollTest, DataIsReportedUntilItIsRead) {
  peer().Send(10);
  EXPECT_EQ(ReadyWith(POLLIN), POLLIN | POLLOUT);
  EXPECT_EQ(Revents(fd(), POLLIN, 0), POLLIN);
  EXPECT_EQ(Revents(fd(), POLLOUT, 0), POLLOUT);
  EXPECT_EQ(Revents(fd(), POLLRDNORM, 0), POLLRDNORM);
  EXPECT_EQ(Revents(fd(), POLLWRNORM, 0), POLLWRNORM);
  Mark();
  pair().Receive(9);
  EXPECT_TRUE(BecomesReadable(fd()));
  pair().Receive(1);
  EXPECT_TRUE(StaysUnreadable(fd()));
}

TEST_P(PollTest, BlockedPollIsWokenByData) {
  for (const int timeout_ms : {-1, kSoonMs}) {
    auto call = InThread([this, timeout_ms] { return Revents(fd(), POLLIN, timeout_ms); });
    EXPECT_TRUE(StillBlocked(call));
    Mark();
    EXPECT_TRUE(StillBlocked(call));
    MarkAtPeer();
    peer().Send(10);
    EXPECT_EQ(call.get(), POLLIN);
    pair().Receive(10);
  }
}

// As MariaDB's threads wait for their clients.
TEST_P(PollTest, BlockedPollForUrgentDataAsWellIsWokenByEither) {
  const auto wait = [this] { return Revents(fd(), POLLIN | POLLPRI, -1); };
  auto for_data = InThread(wait);
  EXPECT_TRUE(StillBlocked(for_data));
  Mark();
  MarkAtPeer();
  EXPECT_TRUE(StillBlocked(for_data));
  peer().Send(10);
  EXPECT_EQ(for_data.get(), POLLIN);
  pair().Receive(10);
  auto for_urgent = InThread(wait);
  EXPECT_TRUE(StillBlocked(for_urgent));
  peer().SendText("!", MSG_OOB);
  EXPECT_EQ(for_urgent.get() & POLLPRI, POLLPRI);
  char urgent = 0;
  EXPECT_EQ(Call(recv(fd(), &urgent, 1, MSG_OOB)), Done(1));
}

TEST_P(PollTest, ManyRoundsOfSleepAndWake) {
  for (int round = 0; round < 200; ++round) {
    peer().StartSend(1);
    ASSERT_EQ(Revents(fd(), POLLIN, kSoonMs), POLLIN);
    pair().Receive(1);
    peer().ExpectMoved(1);
    if (round % 37 == 0) Mark();
  }
}

TEST_P(PollTest, TimeOut) {
  const Stopwatch stopwatch;
  EXPECT_EQ(Revents(fd(), POLLIN, 30), 0);
  EXPECT_GE(stopwatch.ElapsedMs(), 29);
  const Stopwatch again;
  pollfd entry{fd(), POLLIN, 0x7F};
  const timespec limit{0, 30 * 1000 * 1000};
  EXPECT_EQ(ppoll(&entry, 1, &limit, nullptr), 0);
  EXPECT_EQ(entry.revents, 0);
  EXPECT_GE(again.ElapsedMs(), 29);
  EXPECT_EQ(limit.tv_nsec, 30 * 1000 * 1000);
}

TEST_P(PollTest, HalfClosedByThePeer) {
  peer().Send(10);
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(ReadyWith(POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
  Mark();
  pair().Receive(10);
  EXPECT_EQ(ReadyWith(POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(Revents(fd(), POLLIN, 0), POLLIN);
}

TEST_P(PollTest, HalfClosedHere) {
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  EXPECT_EQ(Revents(fd(), kAll, 0), POLLOUT);
  peer().Send(10);
  EXPECT_EQ(ReadyWith(POLLIN), POLLIN | POLLOUT);
  pair().Receive(10);
  EXPECT_EQ(Revents(fd(), POLLIN, kNothingMs), 0);
}

TEST_P(PollTest, ReadSideShutHere) {
  ASSERT_EQ(shutdown(fd(), SHUT_RD), 0);
  EXPECT_EQ(Revents(fd(), kAll, 0), POLLIN | POLLOUT | POLLRDHUP);
}

TEST_P(PollTest, ClosedBothWays) {
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  peer().ReceiveEndOfStream();
  Mark();
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(ReadyWith(POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  // HUP is reported without being asked for.
  EXPECT_EQ(Revents(fd(), 0, 0), POLLHUP);
}

TEST_P(PollTest, ClosedByThePeer) {
  peer().Close();
  EXPECT_EQ(ReadyWith(POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
}

TEST_P(PollTest, ResetByThePeer) {
  peer().Reset();
  EXPECT_EQ(ReadyWith(POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR);
  EXPECT_EQ(Revents(fd(), 0, 0), POLLHUP | POLLERR);
  int error = 0;
  socklen_t length = sizeof(error);
  ASSERT_EQ(getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNRESET);
  // Reading the error clears it.
  EXPECT_EQ(Revents(fd(), kAll, 0), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
}

TEST_P(PollTest, BlockedPollIsWokenByTheEndOfStream) {
  auto call = InThread([this] { return Revents(fd(), POLLIN | POLLRDHUP, -1); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(call.get(), POLLIN | POLLRDHUP);
}

TEST_P(PollTest, BlockedPollIsWokenByAReset) {
  auto call = InThread([this] { return Revents(fd(), 0, -1); });
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Reset();
  EXPECT_EQ(call.get(), POLLHUP | POLLERR);
}

TEST_P(PollTest, MixedWithOtherDescriptors) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const FileDescriptor pipe_out(ends[0]), pipe_in(ends[1]);
  const FileDescriptor event(eventfd(0, 0));
  const FileDescriptor listener = ListenOn(Loopback(GetParam().family));
  const auto other = AnotherPair();
  ASSERT_NE(other, nullptr);
  enum { kPipe, kSocket, kEvent, kListener, kOther, kCount };
  pollfd entries[kCount];
  const auto wait = [&](int timeout_ms) {
    entries[kPipe] = {pipe_out.get(), POLLIN, -1};
    entries[kSocket] = {fd(), POLLIN, -1};
    entries[kEvent] = {event.get(), POLLIN, -1};
    entries[kListener] = {listener.get(), POLLIN, -1};
    entries[kOther] = {other->fd(), POLLIN, -1};
    const int ready = poll(entries, kCount, timeout_ms);
    int mask = 0;
    for (int i = 0; i < kCount; ++i) {
      EXPECT_TRUE(entries[i].revents == 0 || entries[i].revents == POLLIN);
      if (entries[i].revents != 0) mask |= 1 << i;
    }
    EXPECT_EQ(ready, __builtin_popcount(mask));
    return mask;
  };
  EXPECT_EQ(wait(0), 0);
  EXPECT_EQ(wait(kNothingMs), 0);
  auto call = InThread([&] { return wait(-1); });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(write(pipe_in.get(), "x", 1), 1);
  EXPECT_EQ(call.get(), 1 << kPipe);
  Mark();
  peer().Send(5);
  ASSERT_TRUE(BecomesReadable(fd()));
  EXPECT_EQ(wait(0), 1 << kPipe | 1 << kSocket);
  ASSERT_EQ(eventfd_write(event.get(), 1), 0);
  const FileDescriptor client(socket(GetParam().family, SOCK_STREAM, 0));
  const Address name = LocalName(listener.get());
  ASSERT_EQ(connect(client.get(), name.get(), name.length), 0);
  other->peer().Send(5);
  ASSERT_TRUE(BecomesReadable(other->fd()));
  EXPECT_EQ(wait(0), (1 << kCount) - 1);
  pair().Receive(5);
  EXPECT_EQ(wait(0), ((1 << kCount) - 1) & ~(1 << kSocket));
  other->Receive(5);
}

TEST_P(PollTest, OthersWakeAWaiterBesideASocket) {
  const FileDescriptor event(eventfd(0, 0));
  auto call = InThread([&] {
    pollfd entries[2] = {{fd(), POLLIN, 0}, {event.get(), POLLIN, 0}};
    const int ready = poll(entries, 2, -1);
    return ready == 1 && entries[1].revents == POLLIN && entries[0].revents == 0;
  });
  EXPECT_TRUE(StillBlocked(call));
  ASSERT_EQ(eventfd_write(event.get(), 1), 0);
  EXPECT_TRUE(call.get());
}

TEST_P(PollTest, OddEntries) {
  // Not the smallest free one, which others take for a moment (D-5).
  const int closed_number = fcntl(fd(), F_DUPFD, 700);
  peer().Send(5);
  ASSERT_TRUE(BecomesReadable(fd()));
  close(closed_number);
  pollfd entries[4] = {
      {-1, POLLIN, 99}, {closed_number, POLLIN, 99}, {fd(), POLLIN, 99}, {fd(), POLLOUT, 99}};
  EXPECT_EQ(poll(entries, 4, -1), 3);
  EXPECT_EQ(entries[0].revents, 0);
  EXPECT_EQ(entries[1].revents, POLLNVAL);
  EXPECT_EQ(entries[2].revents, POLLIN);
  EXPECT_EQ(entries[3].revents, POLLOUT);
  EXPECT_EQ(poll(nullptr, 0, 1), 0);
  pair().Receive(5);
}

}  // namespace
}  // namespace conformance
