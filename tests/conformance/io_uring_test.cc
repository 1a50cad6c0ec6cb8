// io_uring, entered by syscall() as libuv does: epoll_ctl in batches, operations on the socket
// itself, a close, registered files; and rings whose entries the kernel takes without being asked.

#include "tests/conformance/io_uring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "tests/conformance/epoll_set.h"

namespace conformance {
namespace {

constexpr size_t kBytes = 2000;
class IoUringTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    if (!ring_.ok()) GTEST_SKIP() << "this machine does not allow io_uring";
  }
  Ring& ring() { return ring_; }

 private:
  Ring ring_;
};
INSTANTIATE_TEST_SUITE_P(, IoUringTest, AllVariants(), VariantName);

TEST_P(IoUringTest, ControlsAnEpollSet) {
  EpollSet set;
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_ADD, fd(), EPOLLIN, 4711), 0);
  EXPECT_TRUE(set.Quiet());
  for (int round = 0; round < 5; ++round) {
    peer().Send(100);
    const std::vector<epoll_event> events = set.Wait(kSoonMs);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].events, static_cast<uint32_t>(EPOLLIN));
    EXPECT_EQ(events[0].data.u64, 4711u);
    pair().Receive(100);
    EXPECT_TRUE(set.Quiet());
    Mark();
  }
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_MOD, fd(), EPOLLIN | EPOLLOUT, 4712), 0);
  EXPECT_EQ(set.NextWith(EPOLLOUT), static_cast<uint32_t>(EPOLLOUT));
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_DEL, fd(), 0), 0);
  peer().Send(100);
  ASSERT_TRUE(WaitForBytes(fd(), 100));
  EXPECT_TRUE(set.Quiet());
  pair().Receive(100);
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

// Entered with entries to submit, and without waiting for their end.
TEST_P(IoUringTest, ControlsInABatch) {
  EpollSet set;
  const FileDescriptor other(dup(fd()));
  epoll_event in{}, out{};
  in.events = EPOLLIN;
  in.data.u64 = 1;
  out.events = EPOLLOUT | EPOLLET;
  out.data.u64 = 2;
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &in, 10);
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &in, 11);
  ring().PrepareControl(set.fd(), EPOLL_CTL_MOD, other.get(), &out, 12);
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, other.get(), &in, 13);
  ring().PrepareControl(set.fd(), EPOLL_CTL_MOD, other.get(), &out, 14);
  ring().PrepareControl(set.fd(), EPOLL_CTL_DEL, fd(), nullptr, 15);
  ring().PrepareControl(set.fd(), EPOLL_CTL_DEL, fd(), nullptr, 16);
  EXPECT_EQ(ring().Enter(7), Done(7));
  const std::map<uint64_t, int> expected = {{10, 0}, {11, -EEXIST}, {12, -ENOENT}, {13, 0},
                                            {14, 0}, {15, 0},       {16, -ENOENT}};
  EXPECT_EQ(ring().Results(), expected);
  const std::vector<epoll_event> events = set.Wait(kSoonMs);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].events, static_cast<uint32_t>(EPOLLOUT));
  EXPECT_EQ(events[0].data.u64, 2u);
  EXPECT_TRUE(set.Quiet());
  // More entries than are submitted: the others wait for their turn.
  ring().PrepareControl(set.fd(), EPOLL_CTL_DEL, other.get(), nullptr, 20);
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &in, 21);
  EXPECT_EQ(ring().Enter(1), Done(1));
  EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{20, 0}}));
  EXPECT_EQ(set.Modify(fd(), EPOLLIN), Failed(ENOENT));
  EXPECT_EQ(ring().Enter(9), Done(1));
  EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{21, 0}}));
  EXPECT_EQ(set.Modify(fd(), EPOLLIN), Done(0));
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(IoUringTest, ControlsEdges) {
  EpollSet set;
  peer().Send(10);
  ASSERT_TRUE(WaitForBytes(fd(), 10));
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_ADD, fd(), EPOLLIN | EPOLLET), 0);
  EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
  EXPECT_TRUE(set.Quiet());
  peer().Send(10);
  EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
  EXPECT_TRUE(set.Quiet());
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_MOD, fd(), EPOLLIN | EPOLLET), 0);
  EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
  EXPECT_TRUE(set.Quiet());
  pair().Receive(20);
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_MOD, fd(), EPOLLIN | EPOLLONESHOT), 0);
  peer().Send(10);
  EXPECT_EQ(set.Next(), static_cast<uint32_t>(EPOLLIN));
  EXPECT_TRUE(set.Quiet());
  pair().Receive(10);
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(IoUringTest, WrongControls) {
  EpollSet set;
  EXPECT_EQ(ring().Control(-1, EPOLL_CTL_ADD, fd(), EPOLLIN), -EBADF);
  EXPECT_EQ(ring().Control(set.fd(), 17, fd(), EPOLLIN), -EINVAL);
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), nullptr);
  EXPECT_EQ(ring().Result(), -EFAULT);
  EXPECT_EQ(ring().Control(fd(), EPOLL_CTL_ADD, fd(), EPOLLIN), -EINVAL);
  EXPECT_EQ(ring().Control(set.fd(), EPOLL_CTL_DEL, fd(), 0), -ENOENT);
  pair().ExpectBothWaysWork();
}

// In another set than the library knows of, or when its turn has come: by TCP, and not lost.
TEST_P(IoUringTest, ControlsBehindALink) {
  EpollSet set;
  epoll_event event{};
  event.events = EPOLLIN;
  ring().Prepare(IORING_OP_NOP, -1, 1)->flags = IOSQE_IO_LINK;
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &event, 2);
  ring().Prepare(IORING_OP_NOP, -1, 3)->flags = IOSQE_IO_DRAIN;
  EXPECT_EQ(ring().Enter(3, 3), Done(3));
  EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{1, 0}, {2, 0}, {3, 0}}));
  for (int round = 0; round < 3; ++round) {
    peer().Send(100);
    EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
    pair().Receive(100);
    Mark();
  }
  pair().ExpectBothWaysWork();
}

TEST_P(IoUringTest, RingWithoutAnArrayOfIndices) {
  Ring plain(kNoArray);
  if (!plain.ok()) GTEST_SKIP() << "this kernel has no rings without one";
  EpollSet set;
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(plain.Control(set.fd(), EPOLL_CTL_ADD, fd(), EPOLLIN), 0);
    peer().Send(10);
    EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
    pair().Receive(10);
    EXPECT_EQ(plain.Control(set.fd(), EPOLL_CTL_DEL, fd(), 0), 0);
  }
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(IoUringTest, UnderAnotherNumber) {
  EpollSet set;
  const FileDescriptor copy(dup(ring().fd()));
  epoll_event event{};
  event.events = EPOLLIN;
  ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &event);
  EXPECT_EQ(Call(syscall(SYS_io_uring_enter, copy.get(), 1, 0, 0, nullptr, 0)), Done(1));
  peer().Send(10);
  EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(IoUringTest, FilesPass) {
  char name[] = "/tmp/xenloop-io-uring-XXXXXX";
  const FileDescriptor file(mkstemp(name));
  ASSERT_GE(file.get(), 0);
  unlink(name);
  char written[] = "to the file", read[sizeof written] = "";
  EXPECT_EQ(ring().Do(IORING_OP_WRITE, file.get(), written, sizeof written),
            static_cast<int>(sizeof written));
  EXPECT_EQ(ring().Do(IORING_OP_READ, file.get(), read, sizeof read),
            static_cast<int>(sizeof read));
  EXPECT_STREQ(read, written);
  EXPECT_EQ(ring().Do(IORING_OP_FSYNC, file.get(), nullptr, 0), 0);
  pair().ExpectBothWaysWork();
  pair().ExpectOnFifos();
}

TEST_P(IoUringTest, InTurnWithOrdinaryCalls) {
  char buffer[kBytes];
  peer().Send(kBytes);
  EXPECT_EQ(ring().Do(IORING_OP_RECV, fd(), buffer, kBytes, MSG_WAITALL), static_cast<int>(kBytes));
  EXPECT_TRUE(pair().received.Take(buffer, kBytes));
  pair().sent.Fill(buffer, kBytes);
  EXPECT_EQ(ring().Do(IORING_OP_SEND, fd(), buffer, kBytes), static_cast<int>(kBytes));
  pair().sent.Advance(kBytes);
  peer().Receive(kBytes);
  Mark();
  pair().ExpectBothWaysWork(5000);
  pair().Send(100);
  pair().sent.Fill(buffer, 100);
  EXPECT_EQ(ring().Do(IORING_OP_WRITE, fd(), buffer, 100), 100);
  pair().sent.Advance(100);
  peer().Receive(200);
  peer().Send(100);
  EXPECT_EQ(ring().Do(IORING_OP_READ, fd(), buffer, 100), 100);
  EXPECT_TRUE(pair().received.Take(buffer, 100));
  pair().ExpectBothWaysWork(100);
}

// Half of what has come is read by an ordinary call, the rest by the ring.
TEST_P(IoUringTest, ReadsTheRestOfWhatHasCome) {
  char buffer[kBytes];
  peer().Send(kBytes);
  ASSERT_TRUE(WaitForBytes(fd(), kBytes));
  pair().Receive(kBytes / 2);
  EXPECT_EQ(ring().Do(IORING_OP_RECV, fd(), buffer, kBytes / 2, MSG_WAITALL),
            static_cast<int>(kBytes / 2));
  EXPECT_TRUE(pair().received.Take(buffer, kBytes / 2));
  pair().ExpectBothWaysWork();
}

TEST_P(IoUringTest, WaitsForBytes) {
  ring().Prepare(IORING_OP_POLL_ADD, fd(), 7)->poll32_events = POLLIN;
  EXPECT_EQ(ring().Enter(1), Done(1));
  EXPECT_TRUE(ring().Results().empty());
  peer().Send(10);
  EXPECT_EQ(ring().Enter(0, 1), Done(0));
  EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{7, POLLIN}}));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

// The ring waits for the set, in which the socket is.
TEST_P(IoUringTest, WaitsForASet) {
  EpollSet set;
  ASSERT_EQ(set.Add(fd(), EPOLLIN), Done(0));
  ring().Prepare(IORING_OP_POLL_ADD, set.fd(), 7)->poll32_events = POLLIN;
  EXPECT_EQ(ring().Enter(1), Done(1));
  peer().Send(10);
  EXPECT_EQ(ring().Enter(0, 1), Done(0));
  EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{7, POLLIN}}));
  EXPECT_EQ(set.NextWith(EPOLLIN), static_cast<uint32_t>(EPOLLIN));
  pair().Receive(10);
  pair().ExpectBothWaysWork();
}

TEST_P(IoUringTest, RegisteredFile) {
  const int files[] = {fd()};
  ASSERT_EQ(Call(syscall(SYS_io_uring_register, ring().fd(), IORING_REGISTER_FILES, files, 1)),
            Done(0));
  char buffer[kBytes];
  peer().Send(kBytes);
  EXPECT_EQ(ring().Do(IORING_OP_RECV, 0, buffer, kBytes, MSG_WAITALL, IOSQE_FIXED_FILE),
            static_cast<int>(kBytes));
  EXPECT_TRUE(pair().received.Take(buffer, kBytes));
  Mark();
  pair().ExpectBothWaysWork();
}

// The number is free afterwards, and what is written to the file that gets it goes into the file.
TEST_P(IoUringTest, Close) {
  pair().Send(3000);
  const int number = fd();
  EXPECT_EQ(ring().Do(IORING_OP_CLOSE, number, nullptr, 0), 0);
  char name[] = "/tmp/xenloop-io-uring-XXXXXX";
  int file = mkstemp(name);
  ASSERT_GE(file, 0);
  unlink(name);
  if (file != number) file = dup2(file, number);
  const FileDescriptor owner(file);
  EXPECT_EQ(Call(write(number, "text", 4)), Done(4));
  char text[5] = "";
  EXPECT_EQ(Call(pread(number, text, 4, 0)), Done(4));
  EXPECT_STREQ(text, "text");
  peer().Receive(3000);
  peer().ReceiveEndOfStream();
}

// What fails before them in a chain cancels them: the connection goes on, and the set is empty.
TEST_P(IoUringTest, CancelledInAChain) {
  EpollSet set;
  epoll_event event{};
  event.events = EPOLLIN;
  peer().Send(kBytes);
  ASSERT_TRUE(WaitForBytes(fd(), kBytes));
  for (const uint8_t operation : {IORING_OP_EPOLL_CTL, IORING_OP_CLOSE}) {
    ring().Prepare(IORING_OP_FSYNC, -1, 1)->flags = IOSQE_IO_LINK;
    if (operation == IORING_OP_CLOSE) {
      ring().Prepare(IORING_OP_CLOSE, fd(), 2);
    } else {
      ring().PrepareControl(set.fd(), EPOLL_CTL_ADD, fd(), &event, 2);
    }
    EXPECT_EQ(ring().Enter(2, 2), Done(2));
    EXPECT_EQ(ring().Results(), (std::map<uint64_t, int>{{1, -EBADF}, {2, -ECANCELED}}));
  }
  EXPECT_EQ(set.Modify(fd(), EPOLLIN), Failed(ENOENT));
  pair().Receive(kBytes);
  pair().ExpectBothWaysWork();
}

TEST_P(IoUringTest, PassesADescriptor) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const FileDescriptor ours(channel[0]), theirs(channel[1]);
  DescriptorMessage whole(fd());
  peer().Send(500);
  EXPECT_EQ(ring().Do(IORING_OP_SENDMSG, ours.get(), &whole.message, 1), 1);
  const FileDescriptor passed(ReceiveDescriptor(theirs.get()));
  ASSERT_GE(passed.get(), 0);
  EXPECT_EQ(ReceiveBytes(passed.get(), &pair().received, 500).bytes, 500u);
  pair().ExpectBothWaysWork();
}

// Nobody can read the entries before a thread of the kernel does: TCP, for the whole process.
TEST_P(IoUringTest, EntriesThatTheKernelTakesByItself) {
  ChildProcess child([this] {
    Ring polled(IORING_SETUP_SQPOLL);
    if (!polled.ok()) return true;  // not allowed here
    CHILD_CHECK(Routes(fd()) <= 0);
    const FileDescriptor listener = ListenOn(Loopback(AF_INET));
    const Address name = LocalName(listener.get());
    const FileDescriptor here(socket(AF_INET, SOCK_STREAM, 0));
    CHILD_CHECK(connect(here.get(), name.get(), name.length) == 0);
    const FileDescriptor there(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ByteStream sent(1), received(1);
    for (int i = 0; i < 50; ++i) {
      CHILD_CHECK(SendBytes(here.get(), &sent, 100).bytes == 100);
      CHILD_CHECK(ReceiveBytes(there.get(), &received, 100).bytes == 100);
    }
    CHILD_CHECK(Routes(here.get()) <= 0);
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
