// select and pselect: the three sets, the count, the time-out that select (not pselect) rewrites,
// descriptors with large numbers, errors.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

fd_set SetOf(int fd) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  return set;
}

class SelectTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, SelectTest, AllVariants(), VariantName);

TEST_P(SelectTest, IdleIsWritableOnly) {
  fd_set readable = SetOf(fd()), writable = SetOf(fd()), urgent = SetOf(fd());
  timeval limit{0, 0};
  EXPECT_EQ(select(fd() + 1, &readable, &writable, &urgent, &limit), 1);
  EXPECT_FALSE(FD_ISSET(fd(), &readable));
  EXPECT_TRUE(FD_ISSET(fd(), &writable));
  EXPECT_FALSE(FD_ISSET(fd(), &urgent));
}

TEST_P(SelectTest, DataIsReportedInEverySetAskedFor) {
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  fd_set readable = SetOf(fd()), writable = SetOf(fd());
  EXPECT_EQ(select(fd() + 1, &readable, &writable, nullptr, nullptr), 2);
  EXPECT_TRUE(FD_ISSET(fd(), &readable));
  EXPECT_TRUE(FD_ISSET(fd(), &writable));
  Mark();
  pair().Receive(10);
  timeval limit{0, kNothingMs * 1000};
  readable = SetOf(fd());
  EXPECT_EQ(select(fd() + 1, &readable, nullptr, nullptr, &limit), 0);
  EXPECT_FALSE(FD_ISSET(fd(), &readable));
}

TEST_P(SelectTest, BlockedUntilDataComes) {
  for (const bool with_limit : {false, true}) {
    auto call = InThread([this, with_limit] {
      fd_set readable = SetOf(fd());
      timeval limit{kSoonMs / 1000, 0};
      return select(fd() + 1, &readable, nullptr, nullptr, with_limit ? &limit : nullptr) +
             10 * FD_ISSET(fd(), &readable);
    });
    EXPECT_TRUE(StillBlocked(call));
    Mark();
    EXPECT_TRUE(StillBlocked(call));
    MarkAtPeer();
    peer().Send(10);
    EXPECT_EQ(call.get(), 11);
    pair().Receive(10);
  }
}

TEST_P(SelectTest, PselectBlockedUntilDataComes) {
  auto call = InThread([this] {
    fd_set readable = SetOf(fd());
    return pselect(fd() + 1, &readable, nullptr, nullptr, nullptr, nullptr) +
           10 * FD_ISSET(fd(), &readable);
  });
  EXPECT_TRUE(StillBlocked(call));
  MarkAtPeer();
  peer().Send(10);
  EXPECT_EQ(call.get(), 11);
  pair().Receive(10);
}

TEST_P(SelectTest, TheTimeLeftIsWrittenBack) {
  fd_set readable = SetOf(fd());
  timeval limit{0, 30 * 1000};
  const Stopwatch stopwatch;
  EXPECT_EQ(select(fd() + 1, &readable, nullptr, nullptr, &limit), 0);
  EXPECT_GE(stopwatch.ElapsedMs(), 29);
  EXPECT_EQ(limit.tv_sec, 0);
  EXPECT_EQ(limit.tv_usec, 0);
  auto call = InThread([this] {
    fd_set set = SetOf(fd());
    timeval left{100, 0};
    return select(fd() + 1, &set, nullptr, nullptr, &left) == 1 ? left.tv_sec : -1;
  });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  const auto left_s = call.get();
  EXPECT_GE(left_s, 50);
  EXPECT_LE(left_s, 99);
  pair().Receive(10);
}

TEST_P(SelectTest, PselectLeavesItsTimeOut) {
  fd_set readable = SetOf(fd());
  timespec limit{0, 30 * 1000 * 1000};
  const Stopwatch stopwatch;
  EXPECT_EQ(pselect(fd() + 1, &readable, nullptr, nullptr, &limit, nullptr), 0);
  EXPECT_GE(stopwatch.ElapsedMs(), 29);
  EXPECT_EQ(limit.tv_nsec, 30 * 1000 * 1000);
}

TEST_P(SelectTest, LargeNumbersAndAPipe) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const FileDescriptor pipe_out(ends[0]), pipe_in(ends[1]);
  const FileDescriptor high(fcntl(fd(), F_DUPFD, 700));
  ASSERT_GE(high.get(), 700);
  fd_set readable = SetOf(high.get());
  FD_SET(pipe_out.get(), &readable);
  timeval limit{0, 0};
  EXPECT_EQ(select(high.get() + 1, &readable, nullptr, nullptr, &limit), 0);
  peer().Send(10);
  ASSERT_TRUE(BecomesReadable(fd()));
  ASSERT_EQ(write(pipe_in.get(), "x", 1), 1);
  readable = SetOf(high.get());
  FD_SET(pipe_out.get(), &readable);
  EXPECT_EQ(select(high.get() + 1, &readable, nullptr, nullptr, nullptr), 2);
  EXPECT_TRUE(FD_ISSET(high.get(), &readable));
  EXPECT_TRUE(FD_ISSET(pipe_out.get(), &readable));
  // A count that ends before the socket leaves it out.
  readable = SetOf(high.get());
  FD_SET(pipe_out.get(), &readable);
  EXPECT_EQ(select(high.get(), &readable, nullptr, nullptr, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(pipe_out.get(), &readable));
  pair().Receive(10);
}

TEST_P(SelectTest, EndOfStreamIsReadable) {
  peer().Shutdown(SHUT_WR);
  fd_set readable = SetOf(fd()), urgent = SetOf(fd());
  EXPECT_EQ(select(fd() + 1, &readable, nullptr, &urgent, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(fd(), &readable));
  pair().ReceiveEndOfStream();
}

TEST_P(SelectTest, ResetIsReadableAndWritable) {
  peer().Reset();
  ASSERT_NE(Revents(fd(), 0, kSoonMs), 0);
  fd_set readable = SetOf(fd()), writable = SetOf(fd()), urgent = SetOf(fd());
  EXPECT_EQ(select(fd() + 1, &readable, &writable, &urgent, nullptr), 2);
  EXPECT_FALSE(FD_ISSET(fd(), &urgent));
}

TEST_P(SelectTest, FullIsNotWritable) {
  const size_t filled = FillUp(fd(), &pair().sent);
  fd_set writable = SetOf(fd());
  timeval limit{0, 0};
  EXPECT_EQ(select(fd() + 1, nullptr, &writable, nullptr, &limit), 0);
  EXPECT_FALSE(FD_ISSET(fd(), &writable));
  Mark();
  peer().Receive(filled);
  writable = SetOf(fd());
  EXPECT_EQ(select(fd() + 1, nullptr, &writable, nullptr, nullptr), 1);
}

TEST_P(SelectTest, UrgentDataIsExceptional) {
  peer().SendText("!", MSG_OOB);
  fd_set urgent = SetOf(fd());
  timeval limit{kSoonMs / 1000, 0};
  EXPECT_EQ(select(fd() + 1, nullptr, nullptr, &urgent, &limit), 1);
  char byte = 0;
  EXPECT_EQ(Call(recv(fd(), &byte, 1, MSG_OOB)), Done(1));
}

TEST_P(SelectTest, Errors) {
  const int closed = fcntl(fd(), F_DUPFD, 700);  // not one that others take for a moment (D-5)
  close(closed);
  fd_set readable = SetOf(closed);
  timeval limit{0, 0};
  EXPECT_EQ(Call(select(closed + 1, &readable, nullptr, nullptr, &limit)), Failed(EBADF));
  readable = SetOf(fd());
  EXPECT_EQ(Call(select(-1, &readable, nullptr, nullptr, &limit)), Failed(EINVAL));
  timeval negative{-1, 0};
  EXPECT_EQ(Call(select(fd() + 1, &readable, nullptr, nullptr, &negative)), Failed(EINVAL));
}

}  // namespace
}  // namespace conformance
