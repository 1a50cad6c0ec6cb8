// The numbers of the program's descriptors while ours come and go.
#include "preload/side/lowest_number.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

namespace xenloop {
namespace {

int OpenNull(int flags = 0) { return open("/dev/null", O_RDWR | flags); }

// Makes the program's call while a descriptor of ours has the smallest number, which it leaves when
// the kernel has answered. `smallest`: that number.
int MadeBesideOurs(int* smallest, const std::function<int()>& call, int least = 0) {
  std::atomic<bool> made{false};
  int result = -1;
  std::thread program;
  {
    const sys::LowNumber low;
    int ours = OpenNull();
    if (ours < least) {
      const int low_one = ours;
      ours = fcntl(low_one, F_DUPFD, least);
      close(low_one);
    }
    *smallest = ours;
    program = std::thread([&] {
      result = Numbered(
          [&] {
            const int fd = call();
            made = true;
            return fd;
          },
          least);
    });
    while (!made) std::this_thread::yield();
    EXPECT_GE(sys::MoveUp(ours, sys::DescriptorBase()), sys::DescriptorBase());
  }
  program.join();
  return result;
}

TEST(LowestNumberTest, ThePrograms) {
  for (const int flag : {0, O_CLOEXEC}) {
    int smallest;
    const int fd = MadeBesideOurs(&smallest, [&] { return OpenNull(flag); });
    EXPECT_EQ(fd, smallest);
    EXPECT_EQ(fcntl(fd, F_GETFD), flag == 0 ? 0 : FD_CLOEXEC);
    const int next = OpenNull();
    EXPECT_EQ(next, fd + 1);  // the number that it had before is free again
    close(next);
    close(fd);
  }
}

TEST(LowestNumberTest, ButNotBelowTheLeastThatWasAskedFor) {
  const int file = OpenNull();
  int smallest;
  const int fd = MadeBesideOurs(
      &smallest, [&] { return fcntl(file, F_DUPFD, 50); }, 50);
  EXPECT_EQ(smallest, 50);
  EXPECT_EQ(fd, 50);
  close(fd);
  close(file);
}

TEST(LowestNumberTest, AFailureIsTheCallsOwn) {
  int smallest;
  EXPECT_EQ(MadeBesideOurs(&smallest, [] { return open("/no/such/file", O_RDONLY); }), -1);
}

struct flock WholeFile() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// A lock of an open file description's own meets those of processes, also of its own process.
bool IsLocked(int probe) {
  struct flock lock = WholeFile();
  if (fcntl(probe, F_OFD_SETLK, &lock) != 0) return true;
  lock.l_type = F_UNLCK;
  EXPECT_EQ(fcntl(probe, F_OFD_SETLK, &lock), 0);
  return false;
}

TEST(LowestNumberTest, AFileThatTheProcessHasLockedStaysLocked) {
  char path[] = "/tmp/xenloop-lowest-number-XXXXXX";
  const int locked = mkstemp(path);
  ASSERT_GE(locked, 0);
  const int probe = open(path, O_RDWR);
  struct flock lock = WholeFile();
  ASSERT_EQ(fcntl(locked, F_SETLK, &lock), 0);
  int smallest;
  const int fd = MadeBesideOurs(&smallest, [&] { return open(path, O_RDWR); });
  EXPECT_TRUE(IsLocked(probe));
  close(fd);
  EXPECT_FALSE(IsLocked(probe));  // the kernel's rule, seen with a close of the program's own
  close(probe);
  close(locked);
  unlink(path);
}

TEST(LowestNumberTest, BothOfAPipe) {
  int smallest;
  int fds[2];
  std::atomic<bool> made{false};
  std::thread program;
  {
    const sys::LowNumber low;
    const int ours = OpenNull();
    smallest = ours;
    program = std::thread([&] {
      EXPECT_EQ(BothNumbered(fds,
                             [&] {
                               const int result = pipe(fds);
                               made = true;
                               return result;
                             }),
                0);
    });
    while (!made) std::this_thread::yield();
    sys::MoveUp(ours, sys::DescriptorBase());
  }
  program.join();
  EXPECT_EQ(fds[0], smallest);
  EXPECT_EQ(fds[1], smallest + 1);
  EXPECT_EQ(write(fds[1], "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(fds[0], &byte, 1), 1);
  close(fds[0]);
  close(fds[1]);
}

// dup2 onto a number that ours has for a moment: ours is out of the way first, and none comes.
TEST(LowestNumberTest, NoneOfOursIsWhereTheProgramPlacesItsOwn) {
  std::atomic<bool> ends{false};
  std::thread agent([&] {
    while (!ends) {
      const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word("/dev/zero"), O_RDONLY);
      sys::Close(static_cast<int>(fd));
      for (int i = 0; i < 50; ++i) sys::Pause();
    }
  });
  const int file = OpenNull();
  const int free_number = OpenNull();
  for (int i = 0; i < 400; ++i) {
    close(free_number);
    {
      const Placing placing;
      EXPECT_EQ(dup2(file, free_number), free_number);
    }
    std::this_thread::yield();
    if (fcntl(free_number, F_GETFD) < 0) {
      ADD_FAILURE() << "closed by somebody else, in round " << i;
      break;
    }
  }
  ends = true;
  agent.join();
  close(file);
  close(free_number);
}

// As in a child that was forked without us while the agent made one.
TEST(LowestNumberTest, NobodyWaitsTwiceForOneThatNeverGoesAway) {
  const sys::LowNumber for_ever;
  EXPECT_TRUE(sys::low_numbers.AnyNow());
  AwaitNoLowNumber();
  EXPECT_FALSE(sys::low_numbers.AnyNow());
  const int fd = Numbered([] { return OpenNull(); });
  EXPECT_GE(fd, 0);
  close(fd);
  ForgetLowNumbers();
  sys::low_numbers.taken.fetch_add(1);  // which `for_ever` takes back
}

}  // namespace
}  // namespace xenloop
