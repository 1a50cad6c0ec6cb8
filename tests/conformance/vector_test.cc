// Scattered and gathered bytes: readv, writev, preadv2, pwritev2, recvmsg and sendmsg with few,
// many and empty pieces, and the calls that have no meaning on a stream (ESPIPE).

#include <gtest/gtest.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <numeric>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

// A buffer cut into pieces of sizes 0 ... 96, in a fixed order.
class Pieces {
 public:
  explicit Pieces(size_t count) : iov(count) {
    for (size_t i = 0; i < count; ++i) iov[i].iov_len = (i * 37) % 97;
    for (const iovec& piece : iov) total += piece.iov_len;
    bytes.resize(total + 1);
    char* at = bytes.data();
    for (iovec& piece : iov) {
      piece.iov_base = at;
      at += piece.iov_len;
    }
  }

  int count() const { return static_cast<int>(iov.size()); }
  msghdr Message() {
    msghdr message{};
    message.msg_iov = iov.data();
    message.msg_iovlen = iov.size();
    return message;
  }

  std::vector<iovec> iov;
  std::vector<char> bytes;
  size_t total = 0;
};

class VectorTest : public PairTest {
 protected:
  void SendPieces(size_t count, bool by_sendmsg) {
    Pieces pieces(count);
    pair().sent.Fill(pieces.bytes.data(), pieces.total);
    pair().sent.Advance(pieces.total);
    const msghdr message = pieces.Message();
    const ssize_t total = pieces.total;
    EXPECT_EQ(by_sendmsg ? Call(sendmsg(fd(), &message, 0))
                         : Call(writev(fd(), pieces.iov.data(), pieces.count())),
              Done(total));
    peer().Receive(total);
  }

  void ReceivePieces(size_t count, bool by_recvmsg) {
    Pieces pieces(count);
    peer().Send(pieces.total + 5);
    ASSERT_TRUE(WaitForBytes(fd(), static_cast<int>(pieces.total) + 5));
    msghdr message = pieces.Message();
    const ssize_t total = pieces.total;
    EXPECT_EQ(by_recvmsg ? Call(recvmsg(fd(), &message, 0))
                         : Call(readv(fd(), pieces.iov.data(), pieces.count())),
              Done(total));
    EXPECT_TRUE(pair().received.Take(pieces.bytes.data(), total));
    pair().Receive(5);
  }
};
INSTANTIATE_TEST_SUITE_P(, VectorTest, AllVariants(), VariantName);

TEST_P(VectorTest, Writev) {
  for (const size_t count : {2, 3, 8, 9, 100, IOV_MAX}) {
    SendPieces(count, /*by_sendmsg=*/false);
    Mark();
  }
}

TEST_P(VectorTest, Sendmsg) {
  for (const size_t count : {2, 3, 8, 9, 100, IOV_MAX}) {
    SendPieces(count, /*by_sendmsg=*/true);
    Mark();
  }
}

TEST_P(VectorTest, Readv) {
  for (const size_t count : {2, 3, 8, 9, 100, IOV_MAX}) {
    ReceivePieces(count, /*by_recvmsg=*/false);
    Mark();
  }
}

TEST_P(VectorTest, Recvmsg) {
  for (const size_t count : {2, 3, 8, 9, 100, IOV_MAX}) {
    ReceivePieces(count, /*by_recvmsg=*/true);
    Mark();
  }
}

TEST_P(VectorTest, ReadvOfFewerBytesThanRoom) {
  peer().Send(150);
  ASSERT_TRUE(WaitForBytes(fd(), 150));
  Pieces pieces(100);
  EXPECT_EQ(Call(readv(fd(), pieces.iov.data(), pieces.count())), Done(150));
  EXPECT_TRUE(pair().received.Take(pieces.bytes.data(), 150));
}

TEST_P(VectorTest, PeekIntoPieces) {
  peer().Send(150);
  ASSERT_TRUE(WaitForBytes(fd(), 150));
  Pieces pieces(100);
  msghdr message = pieces.Message();
  EXPECT_EQ(Call(recvmsg(fd(), &message, MSG_PEEK)), Done(150));
  EXPECT_TRUE(pair().received.Matches(pieces.bytes.data(), 150));
  pair().Receive(150);
}

TEST_P(VectorTest, WaitAllIntoPieces) {
  Pieces pieces(10);
  msghdr message = pieces.Message();
  auto call = InThread([&] { return Call(recvmsg(fd(), &message, MSG_WAITALL)); });
  peer().Send(100);
  EXPECT_TRUE(StillBlocked(call));
  Mark();
  peer().Send(pieces.total - 100);
  EXPECT_EQ(call.get(), Done(pieces.total));
  EXPECT_TRUE(pair().received.Take(pieces.bytes.data(), pieces.total));
}

TEST_P(VectorTest, LargePieces) {
  constexpr size_t kPiece = 1000 * 1000;
  std::vector<char> bytes(3 * kPiece);
  pair().sent.Fill(bytes.data(), bytes.size());
  pair().sent.Advance(bytes.size());
  iovec pieces[] = {{bytes.data(), kPiece},
                    {bytes.data(), 0},
                    {bytes.data() + kPiece, kPiece},
                    {bytes.data() + 2 * kPiece, kPiece}};
  peer().StartReceive(3 * kPiece, {100000, 5});
  EXPECT_EQ(Call(writev(fd(), pieces, 4)), Done(3 * kPiece));
  peer().ExpectMoved(3 * kPiece);
}

TEST_P(VectorTest, Preadv2AndPwritev2WithoutOffset) {
  Pieces out(20);
  pair().sent.Fill(out.bytes.data(), out.total);
  pair().sent.Advance(out.total);
  EXPECT_EQ(Call(pwritev2(fd(), out.iov.data(), out.count(), -1, 0)), Done(out.total));
  peer().Receive(out.total);
  Mark();
  peer().Send(300);
  ASSERT_TRUE(WaitForBytes(fd(), 300));
  Pieces in(20);
  EXPECT_EQ(Call(preadv2(fd(), in.iov.data(), in.count(), -1, 0)), Done(300));
  EXPECT_TRUE(pair().received.Take(in.bytes.data(), 300));
}

TEST_P(VectorTest, Preadv2WithNowait) {
  Pieces in(20);
  EXPECT_EQ(Call(preadv2(fd(), in.iov.data(), in.count(), -1, RWF_NOWAIT)), Failed(EAGAIN));
  peer().Send(30);
  ASSERT_TRUE(WaitForBytes(fd(), 30));
  EXPECT_EQ(Call(preadv2(fd(), in.iov.data(), in.count(), -1, RWF_NOWAIT)), Done(30));
  EXPECT_TRUE(pair().received.Take(in.bytes.data(), 30));
}

TEST_P(VectorTest, PositionsHaveNoMeaning) {
  char bytes[10] = {};
  iovec piece = {bytes, sizeof(bytes)};
  EXPECT_EQ(Call(pread(fd(), bytes, 10, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(pwrite(fd(), bytes, 10, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(preadv(fd(), &piece, 1, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(pwritev(fd(), &piece, 1, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(preadv2(fd(), &piece, 1, 0, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(pwritev2(fd(), &piece, 1, 0, 0)), Failed(ESPIPE));
  EXPECT_EQ(Call(lseek(fd(), 0, SEEK_CUR)), Failed(ESPIPE));
  pair().ExpectBothWaysWork();
}

TEST_P(VectorTest, TooManyPieces) {
  char bytes[8] = {};
  std::vector<iovec> pieces(IOV_MAX + 1, iovec{bytes, 1});
  peer().Send(5);
  ASSERT_TRUE(WaitForBytes(fd(), 5));
  EXPECT_EQ(Call(readv(fd(), pieces.data(), IOV_MAX + 1)), Failed(EINVAL));
  EXPECT_EQ(Call(writev(fd(), pieces.data(), IOV_MAX + 1)), Failed(EINVAL));
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  EXPECT_EQ(Call(recvmsg(fd(), &message, 0)), Failed(EMSGSIZE));
  EXPECT_EQ(Call(sendmsg(fd(), &message, 0)), Failed(EMSGSIZE));
  pair().Receive(5);
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
