// sendfile to and from a socket, and splice between a socket and a pipe. A connection may fall back
// for them; the bytes and the results are the kernel's all the same.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "tests/conformance/pair.h"
#include "tests/conformance/signals.h"

namespace conformance {
namespace {

class SendfileTest : public PairTest {
 protected:
  // A file that holds the next `length` bytes of the stream to the peer.
  FileDescriptor NextBytesAsFile(size_t length) {
    FileDescriptor file(memfd_create("conformance", MFD_CLOEXEC));
    std::vector<char> bytes(length);
    pair().sent.Fill(bytes.data(), length);
    EXPECT_EQ(Call(write(file.get(), bytes.data(), length)), Done(length));
    EXPECT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
    return file;
  }

  void SetNonblocking() { ASSERT_EQ(fcntl(fd(), F_SETFL, O_RDWR | O_NONBLOCK), 0); }
};
INSTANTIATE_TEST_SUITE_P(, SendfileTest, AllVariants(), VariantName);

TEST_P(SendfileTest, WithoutOffsetMovesTheFilePosition) {
  const FileDescriptor file = NextBytesAsFile(5000);
  EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 2000)), Done(2000));
  EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 2000);
  Mark();
  EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 100000)), Done(3000));
  EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 100000)), Done(0));
  peer().Receive(5000);
}

TEST_P(SendfileTest, WithOffsetLeavesTheFilePosition) {
  const FileDescriptor file = NextBytesAsFile(5000);
  ASSERT_EQ(lseek(file.get(), 17, SEEK_SET), 17);
  off_t offset = 0;
  EXPECT_EQ(Call(sendfile(fd(), file.get(), &offset, 2000)), Done(2000));
  EXPECT_EQ(offset, 2000);
  Mark();
  EXPECT_EQ(Call(sendfile64(fd(), file.get(), &offset, 3000)), Done(3000));
  EXPECT_EQ(offset, 5000);
  EXPECT_EQ(Call(sendfile(fd(), file.get(), &offset, 3000)), Done(0));
  EXPECT_EQ(offset, 5000);
  EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 17);
  peer().Receive(5000);
}

TEST_P(SendfileTest, LargeAndBlocking) {
  constexpr size_t kBytes = 9 * 1000 * 1000;
  const FileDescriptor file = NextBytesAsFile(kBytes);
  peer().StartReceive(kBytes, {100000, 4});
  off_t offset = 0;
  while (static_cast<size_t>(offset) < kBytes) {
    ASSERT_GT(sendfile(fd(), file.get(), &offset, kBytes - offset), 0);
  }
  peer().ExpectMoved(kBytes);
}

TEST_P(SendfileTest, LargeAndNonblocking) {
  constexpr size_t kBytes = 9 * 1000 * 1000;
  const FileDescriptor file = NextBytesAsFile(kBytes);
  SetNonblocking();
  peer().StartReceive(kBytes, {100000, 4});
  off_t offset = 0;
  while (static_cast<size_t>(offset) < kBytes) {
    const off_t before = offset;
    const Outcome outcome = Call(sendfile(fd(), file.get(), &offset, kBytes - offset));
    if (outcome.value < 0) {
      ASSERT_EQ(outcome, Failed(EAGAIN));
      ASSERT_EQ(offset, before);
      ASSERT_TRUE(BecomesWritable(fd()));
    } else {
      ASSERT_GT(outcome.value, 0);
      ASSERT_EQ(offset, before + outcome.value);
    }
  }
  peer().ExpectMoved(kBytes);
}

TEST_P(SendfileTest, NonblockingIntoAFullSocket) {
  const size_t filled = FillUp(fd(), &pair().sent);
  const FileDescriptor file = NextBytesAsFile(5000);
  SetNonblocking();
  EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 5000)), Failed(EAGAIN));
  EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 0);
  Mark();
  peer().Receive(filled);
}

TEST_P(SendfileTest, AmongOrdinarySends) {
  for (int round = 0; round < 5; ++round) {
    pair().Send(1000);
    const FileDescriptor file = NextBytesAsFile(3000);
    EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 3000)), Done(3000));
    pair().sent.Advance(3000);
    Mark();
    pair().Send(10);
  }
  peer().Receive(5 * 4010);
}

TEST_P(SendfileTest, AfterShutdown) {
  const FileDescriptor file = NextBytesAsFile(5000);
  ASSERT_EQ(shutdown(fd(), SHUT_WR), 0);
  const CountingHandler pipes(SIGPIPE);
  EXPECT_EQ(Call(sendfile(fd(), file.get(), nullptr, 5000)), Failed(EPIPE));
  EXPECT_EQ(pipes.count(), 1);
}

class SpliceTest : public SendfileTest {
 protected:
  void SetUp() override {
    SendfileTest::SetUp();
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pipe_out_ = FileDescriptor(ends[0]);
    pipe_in_ = FileDescriptor(ends[1]);
  }

  FileDescriptor pipe_out_, pipe_in_;  // read from pipe_out_, write to pipe_in_
};
INSTANTIATE_TEST_SUITE_P(, SpliceTest, AllVariants(), VariantName);

TEST_P(SpliceTest, SocketToPipe) {
  peer().Send(3000);
  ASSERT_TRUE(WaitForBytes(fd(), 3000));
  std::vector<char> bytes(3000);
  size_t moved = 0;
  while (moved < 3000) {
    const ssize_t count = splice(fd(), nullptr, pipe_in_.get(), nullptr, 10000, SPLICE_F_MOVE);
    ASSERT_GT(count, 0) << strerrorname_np(errno);
    ASSERT_EQ(Call(read(pipe_out_.get(), bytes.data(), count)), Done(count));
    EXPECT_TRUE(pair().received.Take(bytes.data(), count));
    moved += count;
    Mark();
  }
  EXPECT_EQ(moved, 3000u);
  pair().ExpectBothWaysWork();
}

TEST_P(SpliceTest, SocketToPipeWithNothingThere) {
  // SPLICE_F_NONBLOCK is about the pipe; for the socket its O_NONBLOCK decides.
  SetNonblocking();
  EXPECT_EQ(Call(splice(fd(), nullptr, pipe_in_.get(), nullptr, 100, 0)), Failed(EAGAIN));
  ASSERT_EQ(fcntl(fd(), F_SETFL, O_RDWR), 0);
  auto call =
      InThread([this] { return Call(splice(fd(), nullptr, pipe_in_.get(), nullptr, 100, 0)); });
  EXPECT_TRUE(StillBlocked(call));
  peer().Send(10);
  EXPECT_EQ(call.get(), Done(10));
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(Call(splice(fd(), nullptr, pipe_in_.get(), nullptr, 100, 0)), Done(0));
}

TEST_P(SpliceTest, PipeToSocket) {
  std::vector<char> bytes(9000);
  pair().sent.Fill(bytes.data(), bytes.size());
  ASSERT_EQ(Call(write(pipe_in_.get(), bytes.data(), bytes.size())), Done(bytes.size()));
  EXPECT_EQ(Call(splice(pipe_out_.get(), nullptr, fd(), nullptr, 4000, SPLICE_F_MORE)), Done(4000));
  Mark();
  EXPECT_EQ(Call(splice(pipe_out_.get(), nullptr, fd(), nullptr, 5000, 0)), Done(5000));
  EXPECT_EQ(Call(splice(pipe_out_.get(), nullptr, fd(), nullptr, 10, SPLICE_F_NONBLOCK)),
            Failed(EAGAIN));
  pair().sent.Advance(9000);
  peer().Receive(9000);
}

TEST_P(SpliceTest, SendfileFromSocketToPipe) {
  peer().Send(5000);
  ASSERT_TRUE(WaitForBytes(fd(), 5000));
  std::vector<char> bytes(5000);
  for (size_t moved = 0; moved < 5000;) {
    const ssize_t count = sendfile(pipe_in_.get(), fd(), nullptr, 5000 - moved);
    ASSERT_GT(count, 0) << strerrorname_np(errno);
    ASSERT_EQ(Call(read(pipe_out_.get(), bytes.data(), 5000)), Done(count));
    EXPECT_TRUE(pair().received.Take(bytes.data(), count));
    moved += count;
  }
  pair().ExpectBothWaysWork();
}

TEST_P(SpliceTest, MuchThroughThePipe) {
  constexpr size_t kBytes = 1000 * 1000;
  peer().StartSend(kBytes, {50000, 5});
  for (size_t moved = 0; moved < kBytes;) {
    char bytes[16384];
    const ssize_t count = splice(fd(), nullptr, pipe_in_.get(), nullptr, sizeof(bytes), 0);
    ASSERT_GT(count, 0) << strerrorname_np(errno);
    ASSERT_EQ(Call(read(pipe_out_.get(), bytes, sizeof(bytes))), Done(count));
    ASSERT_TRUE(pair().received.Take(bytes, count));
    moved += count;
  }
  peer().ExpectMoved(kBytes);
}

TEST_P(SpliceTest, OffsetsHaveNoMeaning) {
  off64_t offset = 0;
  EXPECT_EQ(Call(splice(fd(), &offset, pipe_in_.get(), nullptr, 10, 0)), Failed(EINVAL));
  EXPECT_EQ(Call(splice(pipe_out_.get(), nullptr, fd(), &offset, 10, 0)), Failed(EINVAL));
  pair().ExpectBothWaysWork();
}

TEST_P(SpliceTest, CallsThatRefuseSockets) {
  char byte = 0;
  const iovec piece = {&byte, 1};
  EXPECT_EQ(Call(tee(fd(), pipe_in_.get(), 10, 0)), Failed(EINVAL));
  EXPECT_EQ(Call(vmsplice(fd(), &piece, 1, 0)), Failed(EBADF));
  const FileDescriptor file = NextBytesAsFile(10);
  EXPECT_EQ(Call(copy_file_range(file.get(), nullptr, fd(), nullptr, 10, 0)), Failed(EINVAL));
  EXPECT_EQ(Call(splice(fd(), nullptr, fd(), nullptr, 10, 0)), Failed(EINVAL));
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
