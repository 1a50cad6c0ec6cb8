// What is known about descriptor numbers.
#include "preload/side/fd_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "preload/ready/epoll.h"
#include "preload/side/each_side.h"
#include "preload/side/private_fd.h"
#include "preload/side/side.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

constexpr int kFd = 1000;  // open nowhere in this test

TEST(FdTableTest, NumberIsOneThingAtATime) {
  Side* const side = AllocateSide();
  alignas(64) EpollSet set;
  FdTable::SetSide(kFd, side);
  EXPECT_EQ(FindSide(kFd), side);
  EXPECT_EQ(FindEpollSet(kFd), nullptr);
  FdTable::SetEpollSet(kFd, &set);
  EXPECT_EQ(FindSide(kFd), nullptr);
  EXPECT_EQ(FindEpollSet(kFd), &set);
  FdTable::SetPrivate(kFd);
  EXPECT_EQ(FindEpollSet(kFd), nullptr);
  EXPECT_TRUE(FdTable::IsPrivate(kFd));
  FdTable::Clear(kFd);
  EXPECT_TRUE(FdTable::IsEmpty(kFd));
  FreeSide(side);
}

TEST(FdTableTest, EveryNumberOfTheKernelsHasAPlace) {
  Side* const side = AllocateSide();
  for (const int fd : {3, 1 << 18, 1 << 29}) {
    EXPECT_EQ(FindSide(fd), nullptr) << fd;
    ASSERT_TRUE(FdTable::InRange(fd)) << fd;
    FdTable::SetSide(fd, side);
    EXPECT_EQ(FindSide(fd), side) << fd;
    FdTable::Clear(fd);
  }
  EXPECT_FALSE(FdTable::InRange(-1));
  FdTable::SetSide(-1, side);
  EXPECT_EQ(FindSide(-1), nullptr);
  FreeSide(side);
}

TEST(FdTableTest, OnlyOneOfTwoTakersGetsIt) {
  Side* const side = AllocateSide();
  Side* const other = AllocateSide();
  FdTable::SetSide(kFd, side);
  EXPECT_FALSE(FdTable::Take(kFd, other));
  EXPECT_TRUE(FdTable::Take(kFd, side));
  EXPECT_FALSE(FdTable::Take(kFd, side));
  FreeSide(side);
  FreeSide(other);
}

TEST(FdTableTest, DuplicatesAreFoundAndSidesAreVisitedOnce) {
  Side* const side = AllocateSide();
  FdTable::SetSide(kFd, side);
  FdTable::SetSide(kFd + 5, side);
  side->fd.store(kFd);
  EXPECT_EQ(OtherDescriptor(side, kFd), kFd + 5);
  EXPECT_EQ(DescriptorOf(side), kFd);
  int descriptors = 0;
  int sides = 0;
  EachDescriptor([&](int, const Side* here) { descriptors += here == side ? 1 : 0; });
  EachSide([&](int fd, const Side* here) { sides += here == side && fd == kFd ? 1 : 0; });
  EXPECT_EQ(descriptors, 2);
  EXPECT_EQ(sides, 1);
  FdTable::Clear(kFd);
  EXPECT_EQ(DescriptorOf(side), kFd + 5) << "the number in the side is another process's";
  FdTable::Clear(kFd + 5);
  EXPECT_EQ(DescriptorOf(side), -1);
  FreeSide(side);
}

// The program has put a descriptor of its own under our number.
TEST(PrivateFdTest, NumberThatTheProgramHasTakenIsNotClosed) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const int ours = MakePrivate(dup(pipe_fds[0]));
  ASSERT_GE(ours, 0);
  FdTable::Clear(ours);
  ClosePrivate(ours);
  EXPECT_EQ(close(ours), 0) << "it is still open";
  const int still_ours = MakePrivate(dup(pipe_fds[0]));
  ClosePrivate(still_ours);
  EXPECT_EQ(close(still_ours), -1);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace xenloop
