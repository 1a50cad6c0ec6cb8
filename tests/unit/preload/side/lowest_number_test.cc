// The numbers of the program's descriptors while ours come and go.
#include "preload/side/lowest_number.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

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

// Would another process get a lock on it?
bool IsLocked(const char* path) {
  const pid_t child = fork();
  if (child == 0) {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    const int fd = open(path, O_RDWR);
    _exit(fcntl(fd, F_SETLK, &lock) == 0 ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WEXITSTATUS(status) == 1;
}

void StaysLocked(const char* path) {
  const int locked = open(path, O_RDWR);
  ASSERT_GE(locked, 0);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(locked, F_SETLK, &lock), 0);
  int smallest;
  const int fd = MadeBesideOurs(&smallest, [&] { return open(path, O_RDWR); });
  EXPECT_TRUE(IsLocked(path));
  close(fd);
  EXPECT_FALSE(IsLocked(path));  // the kernel's rule, seen with a close of the program's own
  close(locked);
}

TEST(LowestNumberTest, AFileThatTheProcessHasLockedStaysLocked) {
  char path[] = "/tmp/xenloop-lowest-number-XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  close(file);
  StaysLocked(path);
  unlink(path);
}

// As one locks a terminal or a disk.
TEST(LowestNumberTest, SoDoesWhatIsNoRegularFile) {
  const std::string path = "/tmp/xenloop-lowest-number-" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  StaysLocked(path.c_str());
  unlink(path.c_str());
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
  for (int i = 0; i < 200; ++i) {
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

// As daemons do: it must not end ours, whose number the program's next file would have.
TEST(LowestNumberTest, NoneOfOursIsInARangeThatTheProgramCloses) {
  const FollowedSocket until_the_end;  // the tables are there
  std::thread program;
  {
    const sys::LowNumber low;
    const int ours = OpenNull();
    program = std::thread([ours] {
      const auto number = static_cast<unsigned>(ours);
      EXPECT_EQ(CloseRange(number, number, 0), 0);
    });
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    EXPECT_GE(sys::MoveUp(ours, sys::DescriptorBase()), sys::DescriptorBase());
  }
  program.join();
}

// The kernel's answer is the one that the program would have without us.
TEST(LowestNumberTest, NoneOfOursIsMetByACallOnAClosedNumber) {
  const FollowedSocket until_the_end;
  std::thread program;
  ssize_t result = 0;
  int error = 0;
  {
    const sys::LowNumber low;
    const int ours = OpenNull();
    program = std::thread([&result, &error, ours] {
      BeforeCallOn(ours);
      char byte;
      result = read(ours, &byte, 1);
      error = errno;
    });
    usleep(5000);
    EXPECT_GE(sys::MoveUp(ours, sys::DescriptorBase()), sys::DescriptorBase());
  }
  program.join();
  EXPECT_EQ(result, -1);
  EXPECT_EQ(error, EBADF);
}

TEST(LowestNumberTest, CallsOnWhatIsFollowedDoNotWaitForOurs) {
  const FollowedSocket socket;
  const sys::LowNumber low;
  const uint32_t given_up = sys::low_numbers.given_up.load();
  BeforeCallOn(socket.fd());
  EXPECT_EQ(sys::low_numbers.given_up.load(), given_up);
}

// Its maker hangs in the kernel, or is no thread of this process: who waits has done so once.
TEST(LowestNumberTest, OneThatStaysIsNotWaitedForEachTime) {
  const sys::LowNumber low;
  for (int i = 0; i < 1000; ++i) AwaitNoLowNumber();
}

sigjmp_buf before_the_handler;
std::atomic<int> handled{0};

// What it calls may wait for ours, and a jump would leave it counted for ever.
TEST(LowestNumberTest, NoHandlerOfItsThreadRunsMeanwhile) {
  struct sigaction action = {};
  action.sa_handler = [](int) {
    ++handled;
    siglongjmp(before_the_handler, 1);
  };
  struct sigaction former;
  sigaction(SIGUSR1, &action, &former);
  if (sigsetjmp(before_the_handler, 1) == 0) {
    const sys::LowNumber low;
    raise(SIGUSR1);
    EXPECT_EQ(handled, 0);
  }
  EXPECT_EQ(handled, 1);
  EXPECT_FALSE(sys::low_numbers.AnyNow());
  sigaction(SIGUSR1, &former, nullptr);
}

TEST(LowestNumberTest, WhoJumpsOutOfACallThatPlacesHoldsNothing) {
  if (sigsetjmp(before_the_handler, 1) == 0) {
    const Placing placing;
    EXPECT_EQ(sys::low_numbers.placing, 1u);
    Abandonable::AbandonAll();  // as our longjmp does
    siglongjmp(before_the_handler, 1);
  }
  EXPECT_EQ(sys::low_numbers.placing, 0u);
}

// The number of the first one open below ours that is not in `known`, or 0.
int StrayBelowOurs(const std::string& known) {
  const auto base = static_cast<int>(sys::DescriptorBase());
  for (int fd = 3; fd < base; ++fd) {
    if (known[static_cast<size_t>(fd)] == 0 && fcntl(fd, F_GETFD) >= 0) return fd;
  }
  return 0;
}

TEST(LowestNumberTest, AForkedChildHasNoneOfOursThere) {
  const FollowedSocket until_the_end;
  std::string known(static_cast<size_t>(sys::DescriptorBase()), 0);
  for (size_t fd = 0; fd < known.size(); ++fd)
    known[fd] = fcntl(static_cast<int>(fd), F_GETFD) >= 0 ? 1 : 0;
  std::atomic<bool> ends{false};
  std::thread agent([&] {
    while (!ends) {
      const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word("/dev/zero"), O_RDONLY);
      sys::Close(static_cast<int>(fd));
    }
  });
  for (int i = 0; i < 15; ++i) {
    const int stray = InForkedChild([&] { return StrayBelowOurs(known); });
    EXPECT_EQ(stray, 0) << "in round " << i;
    if (stray != 0) break;
  }
  ends = true;
  agent.join();
}

}  // namespace
}  // namespace xenloop
