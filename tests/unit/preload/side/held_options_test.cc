// TCP_CORK and TCP_NODELAY while a connection sends by FIFO: what the program is told, and what the
// kernel's socket has been told.
#include "preload/side/held_options.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "preload/side/shadow.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

class HeldOptionsTest : public testing::Test {
 protected:
  // As the program does, through the library.
  void Set(int name, int value) {
    const ssize_t answer =
        BeforeSetOption(socket_.fd(), socket_.side(), IPPROTO_TCP, name, &value, sizeof value);
    if (answer != kUseKernel) {
      EXPECT_EQ(answer, 0);
    } else {
      EXPECT_EQ(setsockopt(socket_.fd(), IPPROTO_TCP, name, &value, sizeof value), 0);
    }
  }
  int Get(int name) {
    int value = -1;
    socklen_t length = sizeof value;
    EXPECT_EQ(BeforeGetOption(socket_.fd(), socket_.side(), IPPROTO_TCP, name, &value, &length),
              kUseKernel);
    return InKernel(name);
  }
  // The test's own call does not pass through the library.
  int InKernel(int name) {
    int value = -1;
    socklen_t length = sizeof value;
    EXPECT_EQ(getsockopt(socket_.fd(), IPPROTO_TCP, name, &value, &length), 0);
    return value;
  }
  // Bytes that the kernel keeps back.
  uint32_t NotSent() {
    tcp_info info = {};
    EXPECT_EQ(TcpInfoOf(socket_.fd(), &info), 0);
    return info.tcpi_notsent_bytes;
  }
  FollowedSocket socket_;
};

TEST_F(HeldOptionsTest, OnTcpTheKernelIsTold) {
  Set(TCP_CORK, 1);
  EXPECT_EQ(InKernel(TCP_CORK), 1);
  Set(TCP_CORK, 0);
  EXPECT_EQ(InKernel(TCP_CORK), 0);
}

TEST_F(HeldOptionsTest, FirstChangeOfEachIsTheKernels) {
  Set(TCP_CORK, 1);  // the kernel may hold bytes under it
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 0);
  EXPECT_EQ(InKernel(TCP_CORK), 0);
  Set(TCP_NODELAY, 1);
  EXPECT_EQ(InKernel(TCP_NODELAY), 1);
}

TEST_F(HeldOptionsTest, LaterOnesAreHeld) {
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 0);
  Set(TCP_NODELAY, 1);
  Set(TCP_CORK, 1);
  Set(TCP_NODELAY, 0);
  EXPECT_EQ(InKernel(TCP_CORK), 0);
  EXPECT_EQ(InKernel(TCP_NODELAY), 1);
}

TEST_F(HeldOptionsTest, WhatLetsBytesGoIsTold) {
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 1);
  ASSERT_EQ(InKernel(TCP_CORK), 1);
  Set(TCP_CORK, 0);
  EXPECT_EQ(InKernel(TCP_CORK), 0);
}

TEST_F(HeldOptionsTest, WhoAsksIsToldWhatWasSet) {
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 0);
  Set(TCP_CORK, 7);
  EXPECT_EQ(Get(TCP_CORK), 1);
  EXPECT_EQ(Get(TCP_NODELAY), 0);
}

TEST_F(HeldOptionsTest, BeforeTcpTheKernelIsTold) {
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 0);
  Set(TCP_NODELAY, 1);
  Set(TCP_CORK, 1);
  Set(TCP_NODELAY, 0);
  socket_.Detach();
  EXPECT_EQ(InKernel(TCP_CORK), 1);
  EXPECT_EQ(InKernel(TCP_NODELAY), 0);
}

TEST_F(HeldOptionsTest, NothingIsLeftForTheNextFifo) {
  ASSERT_TRUE(socket_.Attach());
  Set(TCP_CORK, 0);
  Set(TCP_CORK, 1);
  socket_.Detach();
  Set(TCP_CORK, 0);
  ASSERT_TRUE(socket_.Attach());
  socket_.Detach();
  EXPECT_EQ(InKernel(TCP_CORK), 0);
}

// Bytes before the switch offset that wait under a cork would keep the reader waiting with them.
TEST_F(HeldOptionsTest, WhatWaitsUnderACorkGoesOutWhenTheFifoBegins) {
  for (const int no_delay : {0, 1}) {
    Set(TCP_NODELAY, no_delay);
    Set(TCP_CORK, 1);
    ASSERT_EQ(send(socket_.fd(), "corked", 6, 0), 6);
    ASSERT_EQ(NotSent(), 6u);
    PushHeldBack(socket_.fd());
    EXPECT_EQ(NotSent(), 0u);
    EXPECT_EQ(InKernel(TCP_CORK), 1);
    EXPECT_EQ(InKernel(TCP_NODELAY), no_delay);
  }
}

}  // namespace
}  // namespace xenloop
