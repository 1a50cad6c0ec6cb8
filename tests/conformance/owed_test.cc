// What a program has sent while its reader stands still, and TCP has no room for more: whoever
// writes on unseen (libc's stdio, another process) must not come before it.

#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class OwedTest : public PairTest {
 protected:
  void SetUp() override {
    PairTest::SetUp();
    begin_ = pair().sent.offset();
  }
  // As much as there is room for.
  void Fill() {
    std::string bytes(64 * 1024, '\0');
    FillUpWith([&] {
      pair().sent.Fill(bytes.data(), bytes.size());
      const ssize_t sent = send(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) pair().sent.Advance(static_cast<size_t>(sent));
      return sent;
    });
    EXPECT_EQ(errno, EAGAIN);
  }
  size_t Sent() { return pair().sent.offset() - begin_; }
  // By stdio, behind that; the peer reads all.
  Reply WriteOn() {
    FILE* const out = fdopen(dup(fd()), "w");
    EXPECT_NE(out, nullptr);
    peer().StartReceive(Sent() + kBytesMore);
    char bytes[kBytesMore];
    pair().sent.Fill(bytes, sizeof bytes);
    pair().sent.Advance(sizeof bytes);
    fwrite(bytes, 1, sizeof bytes, out);
    fclose(out);
    return peer().Wait();
  }
  static constexpr size_t kBytesMore = 3000;
  size_t begin_ = 0;
};
INSTANTIATE_TEST_SUITE_P(, OwedTest, OneOfEachPlace(), VariantName);

TEST_P(OwedTest, ComesFirst) {
  const int small = 65536;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
  Mark();  // in mode switching: the kernel's room is filled first, and a FIFO's behind it
  Fill();
  Mark();
  Fill();
  const Reply reply = WriteOn();
  EXPECT_EQ(reply.error, 0) << strerrorname_np(reply.error);
  EXPECT_EQ(static_cast<size_t>(reply.result), Sent());
  int size = 0;
  socklen_t length = sizeof size;
  EXPECT_EQ(getsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &size, &length), 0);
  EXPECT_EQ(size, 2 * small);
}

// A buffer that cannot be made larger: then the connection may break, and no byte may be missing
// within.
TEST_P(OwedTest, OrTheConnectionBreaks) {
  const int largest = 1 << 30;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &largest, sizeof largest), 0);
  Mark();  // in mode switching: the kernel's room is filled first, and a FIFO's behind it
  Fill();
  Mark();
  Fill();
  const Reply reply = WriteOn();
  if (CurrentMode() == Mode::kNative || reply.error == 0) {
    EXPECT_EQ(reply.error, 0) << strerrorname_np(reply.error);
    EXPECT_EQ(static_cast<size_t>(reply.result), Sent());
  } else {
    EXPECT_EQ(reply.error, ECONNRESET) << strerrorname_np(reply.error);
  }
}

}  // namespace
}  // namespace conformance
