// What becomes of a stream whose peer is lost: its guest was suspended, or its process has died.
#include "tests/unit/channel/stream_fixture.h"

namespace xenloop {
namespace {

// A guest that was suspended without notice: the peer's memory reads as all ones from then on.
class SuspendedTest : public StreamTest {
 protected:
  void SetUp() override {
    memory_.fifo.foreign = theirs_.fifo.foreign = true;
    send_.Offer(memory_.fifo, theirs_.fifo);
    memory_.header()->consumer_ready.store(1);
    ASSERT_EQ(SendText(send_, shadow_, "x"), 0);
    ASSERT_EQ(SendText(send_, shadow_, "abcd"), 4);
  }
  void Suspend() { memset(static_cast<void*>(theirs_.header()), 0xff, sizeof(FifoHeader)); }
  PlainFifo theirs_{4096};
};

TEST_F(SuspendedTest, WhatThePeerMayHaveTakenWaitsForItsWord) {
  Suspend();
  EXPECT_EQ(SendText(send_, shadow_, "ef"), 2);  // nobody has noticed yet
  send_.BeginFlush(shadow_);
  EXPECT_EQ(send_.PumpResidue(shadow_), -EAGAIN);
  EXPECT_EQ(SendText(send_, shadow_, "g"), -EAGAIN);
  EXPECT_EQ(send_.found_full.load(), 1u);
  EXPECT_EQ(shadow_.sent, "");
  send_.Settle(shadow_, 3);
  EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  EXPECT_FALSE(shadow_.reset);
  EXPECT_EQ(shadow_.sent, "def");
  EXPECT_EQ(send_.FifoBytes(), 3u);
  EXPECT_EQ(SendText(send_, shadow_, "g"), kStreamUsesTcp);
  send_.Settle(shadow_, 3);  // told twice
  send_.GiveUp(shadow_);     // and too late
  EXPECT_EQ(shadow_.sent, "def");
  EXPECT_FALSE(shadow_.reset);
}

TEST_F(SuspendedTest, WithoutAWordBothAreTold) {
  Suspend();
  send_.BeginFlush(shadow_);
  send_.GiveUp(shadow_);
  EXPECT_TRUE(shadow_.reset);
  EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  EXPECT_EQ(shadow_.sent, "");
}

TEST_F(SuspendedTest, WhoeverCannotWaitForItBreaksTheConnection) {
  Suspend();
  send_.BeginFlush(shadow_);
  send_.SettleOrBreak(shadow_);
  EXPECT_TRUE(shadow_.reset);
  EXPECT_EQ(send_.route.load(), SendRoute::kTcp);
  EXPECT_EQ(shadow_.sent, "");
}

TEST_F(SuspendedTest, AnImpossibleWordIsNone) {
  for (const uint64_t lie : {uint64_t{5}, ~uint64_t{0}, uint64_t{1} << 63}) {
    SendStream send;
    ScriptedShadow shadow;
    PlainFifo mine{4096};
    mine.fifo.foreign = true;
    send.Offer(mine.fifo, theirs_.fifo);
    mine.header()->consumer_ready.store(1);
    ASSERT_EQ(SendText(send, shadow, "x"), 0);
    ASSERT_EQ(SendText(send, shadow, "abcd"), 4);
    Suspend();
    send.BeginFlush(shadow);
    ASSERT_EQ(send.route.load(), SendRoute::kAsking);
    send.Settle(shadow, lie);
    EXPECT_TRUE(shadow.reset) << lie;
    EXPECT_EQ(shadow.sent, "");
  }
}

TEST_F(SuspendedTest, ReaderRemembersWhereItEnded) {
  memory_.header()->identity = 77;
  receive_.BecomeAware(memory_.fifo);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 3), "abc");
  receive_.EndFifo(shadow_);
  EXPECT_EQ(receive_.last_identity, 77u);
  EXPECT_EQ(receive_.last_consumed, 3u);
}

TEST_F(SuspendedTest, AllTakenGoesOnByTcp) {
  char taken[8];
  const iovec iov{taken, sizeof taken};
  IovCursor destination(&iov, 1);
  ASSERT_EQ(memory_.fifo.Consume(&destination, sizeof taken, false).bytes, 4u);
  Suspend();
  send_.BeginFlush(shadow_);
  EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  EXPECT_FALSE(shadow_.reset);
  EXPECT_EQ(SendText(send_, shadow_, "e"), kStreamUsesTcp);
}

TEST_F(SuspendedTest, WithoutASuspensionTheResidueIsSent) {
  send_.BeginFlush(shadow_);
  EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  EXPECT_FALSE(shadow_.reset);
  EXPECT_EQ(shadow_.sent, "abcd");
  EXPECT_EQ(shadow_.told_before_bytes, 0);
}

TEST_F(SuspendedTest, ReceiverGoesOnByTcpWhereItStands) {
  receive_.BecomeAware(theirs_.fifo);
  theirs_.header()->up.store(1);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 8), "");
  ASSERT_EQ(receive_.route.load(), ReceiveRoute::kFifo);
  Suspend();
  ssize_t result = 0;
  ReceiveText(receive_, shadow_, 8, &result);
  EXPECT_EQ(result, kStreamUsesTcp);
  EXPECT_EQ(receive_.FifoBytes(), 0u);
  EXPECT_TRUE(receive_.ResidueHasCome(shadow_));
}

// A reader whose FIFO held "residue" when it was sealed; the peer dies when TCP has `by_tcp` of it.
class DeadPeerTest : public StreamTest {
 protected:
  DeadResidue DieAfter(const std::string& by_tcp) {
    receive_.BecomeAware(memory_.fifo);
    shadow_.read_so_far = 100;
    memory_.Put("taken,residue");
    memory_.header()->switch_offset.store(100);
    memory_.header()->up.store(1);
    EXPECT_EQ(ReceiveText(receive_, shadow_, 6), "taken,");
    receive_.EndFifo(shadow_);
    EXPECT_EQ(ReceiveText(receive_, shadow_, 99, &result_), "");
    EXPECT_EQ(result_, kStreamUsesTcp);
    EXPECT_FALSE(receive_.ResidueHasCome(shadow_));
    EXPECT_EQ(receive_.FindDeadResidue(shadow_), DeadResidue::kNone);  // it may still come
    if (counted_) receive_.CountTaken(by_tcp.size());
    shadow_.read_so_far += static_cast<int64_t>(by_tcp.size());  // and the program has read it
    shadow_.ended = true;
    if (fin_counts_) ++shadow_.read_so_far;
    return receive_.FindDeadResidue(shadow_);
  }
  ssize_t result_ = 0;
  bool counted_ = true;  // the program's reading was ours to count
  bool fin_counts_ = false;
};

TEST_F(DeadPeerTest, BytesThatTcpNeverGotAreReadFromTheFifo) {
  ASSERT_EQ(DieAfter("res"), DeadResidue::kRead);
  EXPECT_FALSE(receive_.EnterKernel(kSelf));
  EXPECT_EQ(receive_.ReadableBytes(0), 4u);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 1), "i");
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "due");
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99, &result_), "");
  EXPECT_EQ(result_, kStreamUsesTcp);  // where the end is
  EXPECT_EQ(receive_.FindDeadResidue(shadow_), DeadResidue::kNone);
  EXPECT_EQ(receive_.FifoBytes(), 10u);
}

TEST_F(DeadPeerTest, NothingIsMissing) {
  EXPECT_EQ(DieAfter("residue"), DeadResidue::kNone);
  EXPECT_TRUE(receive_.ResidueHasCome(shadow_));
}

TEST_F(DeadPeerTest, ResetBeforeAnythingCameIsCertain) {
  shadow_.fin_is_doubtful = true;
  EXPECT_EQ(DieAfter(""), DeadResidue::kRead);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "residue");
}

TEST_F(DeadPeerTest, DoubtIsAnErrorAndNotAGuess) {
  shadow_.fin_is_doubtful = true;
  counted_ = false;
  EXPECT_EQ(DieAfter("res"), DeadResidue::kLost);
  EXPECT_TRUE(receive_.EnterKernel(kSelf));
}

TEST_F(DeadPeerTest, AReaderStillInTheKernelIsADoubt) {
  shadow_.fin_is_doubtful = true;
  ASSERT_TRUE(receive_.EnterKernel(kSelf));
  EXPECT_EQ(DieAfter("res"), DeadResidue::kLost);
}

TEST_F(DeadPeerTest, OurOwnCountSettlesTheDoubtAfterAReset) {
  shadow_.fin_is_doubtful = true;
  ASSERT_EQ(DieAfter("res"), DeadResidue::kRead);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "idue");
}

TEST_F(DeadPeerTest, OurOwnCountSettlesTheDoubtAfterAFin) {
  shadow_.fin_is_doubtful = true;
  fin_counts_ = true;
  ASSERT_EQ(DieAfter("res"), DeadResidue::kRead);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "idue");
}

}  // namespace
}  // namespace xenloop
