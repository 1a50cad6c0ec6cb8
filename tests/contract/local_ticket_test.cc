// Hostile tickets of the local transport: whatever a peer sends, the answer is an error, and no
// descriptor is left open.
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <iterator>

#include "channel/local/local_transport.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

constexpr size_t kPage = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

int Memfd(size_t bytes, int seals, bool valid_header = true) {
  const int fd = memfd_create("hostile", MFD_ALLOW_SEALING);
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes)), 0);
  if (valid_header && bytes >= kFifoDataOffset) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    Fifo::Initialise(memory, 4096);
    munmap(memory, bytes);
  }
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
  return fd;
}

class LocalTicketTest : public testing::Test {
 protected:
  LocalTicketTest() : open_before_(OpenDescriptors()) {}
  ~LocalTicketTest() override { EXPECT_EQ(OpenDescriptors(), open_before_); }

  static long OpenDescriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  }
  static int MapFifo(int fd, int second = -1) {
    Ticket ticket;
    ticket.fds[0] = fd;
    ticket.fds[1] = second;
    FifoMapping mapping;
    const int error = LocalTransport().map_fifo(&ticket, &mapping);
    EXPECT_EQ(ticket.fds[0], -1);
    EXPECT_EQ(ticket.fds[1], -1);
    EXPECT_EQ(error == 0, static_cast<bool>(mapping.fifo));
    LocalTransport().release_fifo(&mapping);
    return error;
  }
  static int MapDoorbell(int bell, int page) {
    Ticket ticket;
    ticket.fds[0] = bell;
    ticket.fds[1] = page;
    Doorbell doorbell;
    const int error = LocalTransport().map_doorbell(&ticket, &doorbell);
    EXPECT_EQ(error == 0, doorbell.page != nullptr);
    LocalTransport().release_doorbell(&doorbell);
    return error;
  }

 private:
  const long open_before_;
};

TEST_F(LocalTicketTest, SoundOneIsMapped) { EXPECT_EQ(MapFifo(Memfd(2 * kPage, kSeals)), 0); }

TEST_F(LocalTicketTest, MemoryThatCanShrinkIsRefused) {
  EXPECT_EQ(MapFifo(Memfd(2 * kPage, 0)), -EPERM);
  EXPECT_EQ(MapFifo(Memfd(2 * kPage, F_SEAL_GROW)), -EPERM);
}
// Its owner takes a page out of it and uses up the pool: our next touch of that page is a SIGBUS.
TEST_F(LocalTicketTest, MemoryOfThePoolOfHugePagesIsRefused) {
  constexpr off_t kHugePage = 2 << 20;
  const auto huge = [] {
    const int fd = memfd_create("hostile", MFD_ALLOW_SEALING | MFD_HUGETLB | 21u << MFD_HUGE_SHIFT);
    if (fd >= 0) {
      EXPECT_EQ(ftruncate(fd, kHugePage), 0);
      EXPECT_EQ(fcntl(fd, F_ADD_SEALS, kSeals), 0);
    }
    return fd;
  };
  const int fifo = huge();
  if (fifo < 0) GTEST_SKIP() << "this kernel has no huge pages";
  EXPECT_EQ(MapFifo(fifo), -EPERM);
  int bell[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, bell), 0);
  close(bell[1]);
  EXPECT_EQ(MapDoorbell(bell[0], huge()), -EPERM);
}
TEST_F(LocalTicketTest, WrongSizesAreRefused) {
  EXPECT_LT(MapFifo(Memfd(0, kSeals)), 0);
  EXPECT_EQ(MapFifo(Memfd(1, kSeals)), -EPROTO);
  EXPECT_EQ(MapFifo(Memfd(kPage, kSeals)), -EPROTO);  // the header promises more
  EXPECT_EQ(MapFifo(Memfd(kMaxFifoBytes + 2 * kPage, kSeals)), -EPROTO);
}
TEST_F(LocalTicketTest, EmptyHeaderIsRefused) {
  EXPECT_EQ(MapFifo(Memfd(2 * kPage, kSeals, false)), -EPROTO);
}
TEST_F(LocalTicketTest, MemoryThatCannotBeWrittenIsRefused) {
  EXPECT_LT(MapFifo(Memfd(2 * kPage, kSeals | F_SEAL_WRITE)), 0);
}
TEST_F(LocalTicketTest, OtherKindsOfDescriptorAreRefused) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  EXPECT_EQ(MapFifo(pipes[0], pipes[1]), -EPERM);
  EXPECT_EQ(MapFifo(eventfd(0, 0)), -EPERM);
  EXPECT_EQ(MapFifo(open("/dev/zero", O_RDWR)), -EPERM);
  FILE* file = tmpfile();  // a file can be truncated
  EXPECT_EQ(MapFifo(dup(fileno(file))), -EPERM);
  fclose(file);
  EXPECT_EQ(MapFifo(-1), -EPERM);
  EXPECT_EQ(MapFifo(1 << 20), -EPERM);
}

constexpr size_t kLines = kMostBells * kLineBytes;

int Socket(int domain = AF_UNIX, int type = SOCK_STREAM) { return socket(domain, type, 0); }

TEST_F(LocalTicketTest, DoorbellPageMustHoldAllLinesAndStay) {
  EXPECT_EQ(MapDoorbell(Socket(), Memfd(kLines, kSeals)), 0);
  EXPECT_EQ(MapDoorbell(Socket(), Memfd(kLines, 0)), -EPERM);
  EXPECT_EQ(MapDoorbell(Socket(), Memfd(kPage, kSeals)), -EPROTO);
  EXPECT_EQ(MapDoorbell(Socket(), Memfd(2 * kLines, kSeals)), -EPROTO);
  EXPECT_EQ(MapDoorbell(Socket(), Memfd(0, kSeals)), -EPROTO);
  EXPECT_EQ(MapDoorbell(Socket(), eventfd(0, 0)), -EPERM);
  EXPECT_EQ(MapDoorbell(-1, -1), -EPERM);
}

// A doorbell that blocks, or that is something else, must not stop or harm whoever rings it.
TEST_F(LocalTicketTest, DoorbellThatIsNoUnixStreamSocketIsRefused) {
  EXPECT_LT(MapDoorbell(eventfd(0, EFD_NONBLOCK), Memfd(kLines, kSeals)), 0);
  EXPECT_LT(MapDoorbell(Socket(AF_INET), Memfd(kLines, kSeals)), 0);
  EXPECT_LT(MapDoorbell(Socket(AF_UNIX, SOCK_DGRAM), Memfd(kLines, kSeals)), 0);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  EXPECT_LT(MapDoorbell(pipes[1], Memfd(kLines, kSeals)), 0);
  close(pipes[0]);
  EXPECT_LT(MapDoorbell(-1, Memfd(kLines, kSeals)), 0);
  EXPECT_LT(MapDoorbell(Memfd(kPage, 0), Memfd(kLines, kSeals)), 0);
}

// The same for a bell.
TEST_F(LocalTicketTest, BellThatIsNoUnixStreamSocketIsRefused) {
  const auto map = [](int fd) {
    Ticket ticket;
    ticket.fds[0] = fd;
    ticket.fds[1] = Memfd(kPage, kSeals);  // is closed in any case
    const int bell = LocalTransport().map_bell(&ticket);
    EXPECT_EQ(ticket.fds[0], -1);
    EXPECT_EQ(ticket.fds[1], -1);
    if (bell < 0) return bell;
    close(bell);
    return 0;
  };
  EXPECT_EQ(map(LocalTransport().create_bell()), 0);
  EXPECT_EQ(map(Socket()), 0);
  for (const int fd : {-1, 1 << 20, eventfd(0, EFD_NONBLOCK), Memfd(kPage, kSeals), Socket(AF_INET),
                       Socket(AF_UNIX, SOCK_DGRAM)}) {
    EXPECT_EQ(map(fd), -EPERM) << fd;
  }
}

// Every peer of a process holds its doorbell. One of them does all it can with it: for the others
// it rings as before, and ringing never blocks.
TEST_F(LocalTicketTest, NoHolderOfADoorbellCanSilenceIt) {
  Doorbell doorbell;
  Ticket ticket;
  ASSERT_EQ(LocalTransport().create_doorbell(&doorbell, &ticket), 0);
  doorbell.page->Count(1);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN | EPOLLET, {}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, doorbell.fd, &event), 0);
  epoll_wait(epoll, &event, 1, 0);  // the edge that a registration begins with

  const int hostile = dup(ticket.fds[0]);
  const auto attacks = std::initializer_list<std::function<void()>>{
      [&] { fcntl(hostile, F_SETFL, 0); },  // blocking from here on
      [&] {
        const uint64_t most = ~0ull - 1;
        send(hostile, &most, sizeof most, MSG_NOSIGNAL | MSG_DONTWAIT);
      },
      [&] {
        char bytes[64];
        recv(hostile, bytes, sizeof bytes, MSG_DONTWAIT);
      },
      [&] { shutdown(hostile, SHUT_WR); },
      [&] { shutdown(hostile, SHUT_RDWR); },
      [&] { listen(hostile, 0); },
      [&] {
        sockaddr_un own = {};
        own.sun_family = AF_UNIX;
        (void)bind(hostile, reinterpret_cast<sockaddr*>(&own), sizeof own.sun_family);
        listen(hostile, 0);
        (void)connect(hostile, reinterpret_cast<sockaddr*>(&own), sizeof own.sun_family);
      },
      [&] {
        sockaddr nowhere = {};
        nowhere.sa_family = AF_UNSPEC;
        (void)connect(hostile, &nowhere, sizeof nowhere);
      },
      [&] {
        const int small = 0;
        for (const int option : {SO_RCVBUF, SO_SNDBUF, SO_RCVLOWAT, SO_PASSCRED})
          setsockopt(hostile, SOL_SOCKET, option, &small, sizeof small);
      },
      [&] {
        fcntl(hostile, F_SETOWN, getpid());
        fcntl(hostile, F_SETFL, O_ASYNC);
      },
      [&] { close(hostile); },
  };
  for (const auto& attack : attacks) {
    attack();
    while (epoll_wait(epoll, &event, 1, 0) > 0) {
    }
    Doorbell theirs = doorbell;
    theirs.fd = ticket.fds[0];
    RingDoorbell(theirs);
    EXPECT_EQ(epoll_wait(epoll, &event, 1, 1000), 1) << "attack " << &attack - attacks.begin();
    EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  }
  close(epoll);
  close(ticket.fds[1]);
  LocalTransport().release_doorbell(&doorbell);
}

TEST_F(LocalTicketTest, PeerCannotWriteTheDoorbellPage) {
  Doorbell doorbell;
  Ticket ticket;
  ASSERT_EQ(LocalTransport().create_doorbell(&doorbell, &ticket), 0);
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, ticket.fds[1], 0), MAP_FAILED);
  EXPECT_EQ(pwrite(ticket.fds[1], "x", 1, 0), -1);
  EXPECT_EQ(ftruncate(ticket.fds[1], 0), -1);
  EXPECT_EQ(fcntl(ticket.fds[1], F_ADD_SEALS, F_SEAL_WRITE), -1);
  close(ticket.fds[1]);
  LocalTransport().release_doorbell(&doorbell);
}

TEST_F(LocalTicketTest, PeerCannotResizeTheFifo) {
  FifoMapping mapping;
  Ticket ticket;
  ASSERT_EQ(LocalTransport().create_fifo(4096, &mapping, &ticket), 0);
  EXPECT_EQ(ftruncate(ticket.fds[0], 0), -1);
  EXPECT_EQ(ftruncate(ticket.fds[0], 1 << 20), -1);
  close(ticket.fds[0]);
  LocalTransport().release_fifo(&mapping);
}

}  // namespace
}  // namespace xenloop
