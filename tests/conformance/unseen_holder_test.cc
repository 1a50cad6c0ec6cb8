// A forked child that goes out of the library's sight with a connection, into a sandbox as sshd's
// child before the login does. Its parent has the connection alone again when it has ended, and not
// before; nor if somebody else has it from that child.

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
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

}  // namespace
}  // namespace conformance
