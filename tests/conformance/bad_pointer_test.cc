// Pointers that lead nowhere: EFAULT, and the connection goes on as if nobody had asked. Addresses,
// headers, vectors, events, poll's and select's sets and times. Bulk data are D-1's, but for
// addresses that no program can have.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/conformance/pair.h"

// Wrong arguments are the test.
#pragma GCC diagnostic ignored "-Wnonnull"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#endif

namespace conformance {
namespace {

constexpr size_t kPage = 4096;

// Three pages: one that may be read and written, one that may be read, one that may not be touched.
class Pages {
 public:
  Pages()
      : memory_(static_cast<char*>(
            mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    mprotect(memory_ + kPage, kPage, PROT_READ);
    mprotect(memory_ + 2 * kPage, kPage, PROT_NONE);
  }
  ~Pages() { munmap(memory_, 3 * kPage); }

  template <class T>
  T* ReadOnly() {
    return reinterpret_cast<T*>(memory_ + kPage);
  }
  template <class T>
  T* Nowhere() {
    return reinterpret_cast<T*>(memory_ + 2 * kPage);
  }
  // The first bytes are there, the rest is not.
  template <class T>
  T* CutOff() {
    return reinterpret_cast<T*>(memory_ + 2 * kPage - 8);
  }
  template <class T>
  static T* Kernels() {
    return reinterpret_cast<T*>(-8l);
  }

 private:
  char* const memory_;
};

class BadPointerTest : public PairTest {
 protected:
  void TearDown() override {
    Mark();
    pair().ExpectBothWaysWork();
  }
  template <class T>
  std::vector<T*> Unreadable() {
    return {pages_.Nowhere<T>(), pages_.CutOff<T>(), Pages::Kernels<T>(), nullptr};
  }
  Pages pages_;
};
INSTANTIATE_TEST_SUITE_P(, BadPointerTest, OneOfEachPlace(), VariantName);

TEST_P(BadPointerTest, Messages) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  for (auto* const bad : Unreadable<msghdr>()) {
    EXPECT_EQ(Call(sendmsg(fd(), bad, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(recvmsg(fd(), bad, 0)), Failed(EFAULT));
  }
  for (auto* const bad : Unreadable<mmsghdr>()) {
    EXPECT_EQ(Call(sendmmsg(fd(), bad, 1, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(recvmmsg(fd(), bad, 1, MSG_DONTWAIT, nullptr)), Failed(EFAULT));
  }
  pair().Receive(10);
}

TEST_P(BadPointerTest, Vectors) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  for (auto* const bad : Unreadable<iovec>()) {
    msghdr message{};
    message.msg_iov = bad;
    message.msg_iovlen = 1;
    EXPECT_EQ(Call(sendmsg(fd(), &message, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(readv(fd(), bad, 1)), Failed(EFAULT));
    EXPECT_EQ(Call(writev(fd(), bad, 1)), Failed(EFAULT));
    EXPECT_EQ(Call(preadv2(fd(), bad, 1, -1, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(pwritev2(fd(), bad, 1, -1, 0)), Failed(EFAULT));
  }
  pair().Receive(10);
}

TEST_P(BadPointerTest, DataThatNoProgramCanHave) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  char* const bad = Pages::Kernels<char>() - kPage;
  EXPECT_EQ(Call(send(fd(), bad, 10, 0)), Failed(EFAULT));
  EXPECT_EQ(Call(write(fd(), bad, 10)), Failed(EFAULT));
  EXPECT_EQ(Call(recv(fd(), bad, 10, 0)), Failed(EFAULT));
  EXPECT_EQ(Call(read(fd(), bad, 10)), Failed(EFAULT));
  EXPECT_EQ(Call(read(fd(), nullptr, 10)), Failed(EFAULT));
  const iovec pieces[2] = {{bad, 5}, {bad, 5}};
  EXPECT_EQ(Call(readv(fd(), pieces, 2)), Failed(EFAULT));
  EXPECT_EQ(Call(writev(fd(), pieces, 2)), Failed(EFAULT));
  pair().Receive(10);
}

TEST_P(BadPointerTest, AddressesAndOptions) {
  for (auto* const bad : Unreadable<sockaddr>()) {
    EXPECT_EQ(Call(connect(fd(), bad, 16)), Failed(EFAULT));
    EXPECT_EQ(Call(bind(fd(), bad, 16)), Failed(EFAULT));
  }
  socklen_t length = sizeof(sockaddr_storage);
  EXPECT_EQ(Call(getsockname(fd(), pages_.Nowhere<sockaddr>(), &length)), Failed(EFAULT));
  int value = 1;
  EXPECT_EQ(Call(setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, pages_.Nowhere<int>(), sizeof value)),
            Failed(EFAULT));
  EXPECT_EQ(Call(setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, pages_.Nowhere<int>(), sizeof(timeval))),
            Failed(EFAULT));
  EXPECT_EQ(Call(getsockopt(fd(), SOL_SOCKET, SO_ERROR, &value, pages_.Nowhere<socklen_t>())),
            Failed(EFAULT));
  EXPECT_EQ(Call(getsockopt(fd(), IPPROTO_TCP, TCP_INFO, pages_.Nowhere<int>(), &length)),
            Failed(EFAULT));
  for (const auto request : std::initializer_list<unsigned long>{FIONREAD, TIOCOUTQ, FIONBIO})
    EXPECT_EQ(Call(ioctl(fd(), request, pages_.Nowhere<int>())), Failed(EFAULT)) << request;
}

TEST_P(BadPointerTest, SourceAddressOfAReceive) {
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  char byte;
  sockaddr_storage from;
  EXPECT_EQ(Call(recvfrom(fd(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&from),
                          pages_.Nowhere<socklen_t>())),
            Failed(EFAULT));
  EXPECT_TRUE(pair().received.Take(&byte, 1));  // taken all the same
  pair().Receive(9);
}

TEST_P(BadPointerTest, Sendfile) {
  FILE* const file = tmpfile();
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(write(fileno(file), "0123456789", 10), 10);
  for (auto* const bad : {pages_.Nowhere<off_t>(), Pages::Kernels<off_t>()})
    EXPECT_EQ(Call(sendfile(fd(), fileno(file), bad, 10)), Failed(EFAULT));
  fclose(file);
}

TEST_P(BadPointerTest, PollAndSelect) {
  peer().Send(1);
  ASSERT_TRUE(WaitForBytes(fd(), 1));
  for (auto* const bad :
       {pages_.Nowhere<pollfd>(), Pages::Kernels<pollfd>(), static_cast<pollfd*>(nullptr)}) {
    EXPECT_EQ(Call(poll(bad, 1, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(ppoll(bad, 1, nullptr, nullptr)), Failed(EFAULT));
  }
  // The second entry is missing; the first is ours.
  auto* const first = pages_.CutOff<pollfd>();
  mprotect(reinterpret_cast<char*>(first) - (kPage - 8), kPage, PROT_READ | PROT_WRITE);
  *first = {fd(), POLLIN, 0};
  EXPECT_EQ(Call(poll(first, 2, 0)), Failed(EFAULT));
  for (auto* const bad : {pages_.Nowhere<fd_set>(), Pages::Kernels<fd_set>()}) {
    EXPECT_EQ(Call(select(fd() + 1, bad, nullptr, nullptr, nullptr)), Failed(EFAULT));
    EXPECT_EQ(Call(pselect(fd() + 1, nullptr, bad, nullptr, nullptr, nullptr)), Failed(EFAULT));
  }
  pollfd entry{fd(), POLLIN, 0};
  EXPECT_EQ(Call(syscall(SYS_ppoll, &entry, 1, pages_.Nowhere<timespec>(), nullptr, 8)),
            Failed(EFAULT));
  EXPECT_EQ(Call(syscall(SYS_ppoll, &entry, 1, nullptr, pages_.Nowhere<sigset_t>(), 8)),
            Failed(EFAULT));
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd(), &set);
  EXPECT_EQ(Call(syscall(SYS_pselect6, fd() + 1, &set, nullptr, nullptr, nullptr,
                         pages_.Nowhere<char>())),
            Failed(EFAULT));
  pair().Receive(1);
}

TEST_P(BadPointerTest, Epoll) {
  const FileDescriptor set(epoll_create1(EPOLL_CLOEXEC));
  for (auto* const bad : Unreadable<epoll_event>())
    EXPECT_EQ(Call(epoll_ctl(set.get(), EPOLL_CTL_ADD, fd(), bad)), Failed(EFAULT));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(set.get(), EPOLL_CTL_ADD, fd(), &event), 0);
  EXPECT_EQ(Call(epoll_ctl(set.get(), EPOLL_CTL_MOD, fd(), pages_.Nowhere<epoll_event>())),
            Failed(EFAULT));
  peer().Send(1);
  ASSERT_TRUE(WaitForBytes(fd(), 1));
  for (auto* const bad : {pages_.Nowhere<epoll_event>(), pages_.ReadOnly<epoll_event>(),
                          Pages::Kernels<epoll_event>(), static_cast<epoll_event*>(nullptr)}) {
    EXPECT_EQ(Call(epoll_wait(set.get(), bad, 1, 0)), Failed(EFAULT));
    EXPECT_EQ(Call(epoll_pwait(set.get(), bad, 1, -1, nullptr)), Failed(EFAULT));
  }
  EXPECT_EQ(Call(epoll_wait(set.get(), &event, 1, -1)), Done(1));
  pair().Receive(1);
}

// What is not connected, or no socket of TCP, is the kernel's alone.
TEST(BadPointerElsewhereTest, KernelLooks) {
  Pages pages;
  const FileDescriptor fresh(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(Call(connect(fresh.get(), pages.Nowhere<sockaddr>(), 16)), Failed(EFAULT));
  EXPECT_EQ(Call(sendmsg(fresh.get(), pages.Nowhere<msghdr>(), 0)), Failed(EFAULT));
  int local[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, local), 0);
  const FileDescriptor one(local[0]), other(local[1]);
  EXPECT_EQ(Call(sendmsg(one.get(), pages.Nowhere<msghdr>(), 0)), Failed(EFAULT));
  EXPECT_EQ(Call(sendmmsg(one.get(), pages.Nowhere<mmsghdr>(), 1, 0)), Failed(EFAULT));
  EXPECT_EQ(Call(writev(one.get(), pages.Nowhere<iovec>(), 1)), Failed(EFAULT));
  char byte = 'x';
  iovec piece{&byte, 1};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = pages.Nowhere<char>();
  message.msg_controllen = CMSG_SPACE(sizeof(int));
  EXPECT_EQ(Call(sendmsg(one.get(), &message, 0)), Failed(EFAULT));
}

}  // namespace
}  // namespace conformance
