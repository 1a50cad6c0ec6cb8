// A forked child that goes out of the library's sight with a connection, into a sandbox as sshd's
// child before the login does. Its parent has the connection alone again when it has ended, and not
// before; nor if somebody else has it from that child.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class UnseenHolderTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, UnseenHolderTest, ProcessVariants(), VariantName);

// sshd's child before the login: a system call that the program itself does not make is its end.
TEST_P(UnseenHolderTest, ChildInASandbox) {
  constexpr int kTurns = 50;
  peer().Start(Op::kEcho, kTurns * 10, 0, 2);
  ChildProcess child([this] {
    constexpr int kAllowed[] = {SYS_read,  SYS_write,  SYS_exit_group,     SYS_exit,
                                SYS_futex, SYS_getpid, SYS_rt_sigprocmask, SYS_clock_gettime,
                                SYS_close, SYS_mmap,   SYS_munmap,         SYS_brk};
    std::vector<sock_filter> filter = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const int number : kAllowed) {
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
      filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    for (int i = 0; i < kTurns; ++i) {
      char piece[10], back[10];
      pair().sent.Fill(piece, sizeof piece);
      pair().sent.Advance(sizeof piece);
      if (write(fd(), piece, sizeof piece) != sizeof piece) return false;
      for (size_t got = 0; got < sizeof back;) {
        const ssize_t n = read(fd(), back + got, sizeof back - got);
        if (n <= 0) return false;
        got += static_cast<size_t>(n);
      }
      if (!pair().received.Take(back, sizeof back)) return false;
    }
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  pair().sent.Advance(kTurns * 10);
  pair().received.Advance(kTurns * 10);
  peer().ExpectMoved(kTurns * 10);
  pair().ExpectBothWaysWork();
  EXPECT_TRUE(UpgradeIfWanted(fd()));  // it is ours alone again
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(UnseenHolderTest, WhatItsOwnChildHasStaysOnTcp) {
  int tells[2], verdict[2];
  ASSERT_EQ(pipe(tells), 0);
  ASSERT_EQ(pipe(verdict), 0);
  const FileDescriptor ends[] = {FileDescriptor(tells[0]), FileDescriptor(tells[1]),
                                 FileDescriptor(verdict[0]), FileDescriptor(verdict[1])};
  ChildProcess child([&] {
    sock_filter everything[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program = {1, everything};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    if (fork() == 0) {
      char bytes[10];
      const bool good = read(tells[0], bytes, 1) == 1 &&
                        recv(fd(), bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes &&
                        pair().received.Take(bytes, sizeof bytes);
      _exit(write(verdict[1], good ? "y" : "n", 1) == 1 ? 0 : 1);
    }
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  const bool upgraded = UpgradeIfWanted(fd());
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_FALSE(upgraded);
  }
  peer().Send(10);
  ASSERT_EQ(write(tells[1], "t", 1), 1);
  EXPECT_TRUE(BecomesReadable(verdict[0]));
  char good = 0;
  ASSERT_EQ(read(verdict[0], &good, 1), 1);
  EXPECT_EQ(good, 'y');
  pair().received.Advance(10);
  pair().ExpectBothWaysWork();
}

// In a namespace of processes below ours somebody else has our number, and asks there for the
// child.
TEST_P(UnseenHolderTest, NamesakeInAnotherNamespaceOfProcesses) {
  int tells[2];
  ASSERT_EQ(pipe(tells), 0);
  const FileDescriptor ends[] = {FileDescriptor(tells[0]), FileDescriptor(tells[1])};
  const FileDescriptor ours(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
  ChildProcess child([&] {
    sock_filter everything[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program = {1, everything};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    char bytes[10];
    CHILD_CHECK(read(tells[0], bytes, 1) == 1);
    CHILD_CHECK(recv(fd(), bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
    return pair().received.Take(bytes, sizeof bytes);
  });
  poll(nullptr, 0, 50);  // mostly it is in its sandbox then
  const pid_t us = getpid();
  const bool may = unshare(CLONE_NEWPID) == 0;
  if (may) {
    ChildProcess first([&] {
      std::ofstream("/proc/sys/kernel/ns_last_pid") << us - 1;
      const pid_t namesake = fork();
      if (namesake == 0) _exit(getpid() == us && close(fd()) == 0 ? 0 : 1);
      int status = 1;
      return waitpid(namesake, &status, 0) == namesake && status == 0;
    });
    EXPECT_EQ(setns(ours.get(), CLONE_NEWPID), 0);
    EXPECT_TRUE(first.Succeeded());
    const bool upgraded = UpgradeIfWanted(fd());
    if (CurrentMode() == Mode::kLocal) {
      EXPECT_FALSE(upgraded);
    }
  }
  peer().Send(10);
  ASSERT_EQ(write(tells[1], "t", 1), 1);
  EXPECT_TRUE(child.Succeeded());
  pair().received.Advance(10);
  pair().ExpectBothWaysWork();
  if (!may) GTEST_SKIP() << "no right to make a namespace of processes";
}

// Its fork asks the kernel nothing that the program does not ask.
TEST_P(UnseenHolderTest, ForkBehindAFilterAfterAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  ChildProcess child([this] {
    constexpr unsigned kForbidden[] = {SYS_geteuid, SYS_kill};
    pair().Send(100);  // with an agent of its own
    CHILD_CHECK(seteuid(65534) == 0);
    poll(nullptr, 0, 50);
    CHILD_CHECK(seteuid(0) == 0);
    std::vector<sock_filter> filter = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const unsigned number : kForbidden) {
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
      filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    const pid_t other = fork();
    if (other == 0) _exit(0);
    int status = 1;
    return waitpid(other, &status, 0) == other && status == 0;
  });
  EXPECT_TRUE(child.Succeeded());
  peer().Receive(100);
  pair().sent.Advance(100);
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
