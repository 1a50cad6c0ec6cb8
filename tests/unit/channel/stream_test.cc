// Single situations of a stream that the simulation meets seldom or cannot make: signal handlers,
// dead threads, lies.
#include "tests/unit/channel/stream_fixture.h"

namespace xenloop {
namespace {

TEST_F(StreamTest, ZeroedMemoryIsAStreamOnTcp) {
  EXPECT_EQ(SendText(send_, shadow_, "x"), kStreamUsesTcp);
  EXPECT_EQ(receive_.TryReceive(shadow_, nullptr, 1, MSG_TRUNC, /*look=*/true, kSelf),
            kStreamUsesTcp);
  EXPECT_TRUE(send_.EnterKernel());
  EXPECT_TRUE(receive_.EnterKernel(kSelf));
}

TEST_F(StreamTest, SenderWaitsForThreadsInTheKernel) {
  ASSERT_TRUE(send_.EnterKernel());
  send_.Offer(memory_.fifo);
  memory_.header()->consumer_ready.store(1);
  EXPECT_EQ(SendText(send_, shadow_, "x"), kStreamUsesTcp);
  EXPECT_TRUE(send_.EnterKernel());  // the deferred send itself
  EXPECT_FALSE(send_.EnterKernel());
  send_.LeaveKernel();
  send_.LeaveKernel();
  EXPECT_EQ(shadow_.pushes, 0);
  EXPECT_EQ(SendText(send_, shadow_, "x"), 0);
  EXPECT_EQ(send_.route.load(), SendRoute::kFifo);
  EXPECT_EQ(shadow_.pushes, 1);  // what TCP keeps back to fill a segment: nothing will fill it
}

// The kernel has told it, and would say EPIPE.
TEST_F(StreamTest, AnErrorThatAFlushHasMetIsToldByTheNextSend) {
  UpgradeSender();
  ASSERT_EQ(SendText(send_, shadow_, "one"), 3);
  shadow_.send_error = -ECONNRESET;
  ASSERT_EQ(send_.lock.Acquire(kAgent.tid), LockResult::kAcquired);
  send_.BeginFlush(shadow_);
  EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  send_.lock.Release();
  ASSERT_EQ(send_.route.load(), SendRoute::kTcp);
  EXPECT_FALSE(send_.EnterKernel());
  EXPECT_EQ(SendText(send_, shadow_, "two"), -ECONNRESET);
  EXPECT_TRUE(send_.EnterKernel());
}

TEST_F(StreamTest, ReaderInTheKernelKeepsTheSenderOnTcp) {
  ASSERT_TRUE(receive_.EnterKernel(kSelf));
  receive_.BecomeAware(memory_.fifo);
  EXPECT_EQ(memory_.header()->consumer_ready.load(), 0u);
  EXPECT_FALSE(receive_.EnterKernel(kAgent));
  EXPECT_EQ(memory_.header()->consumer_ready.load(), 0u);
  receive_.LeaveKernel(kSelf);
  EXPECT_EQ(memory_.header()->consumer_ready.load(), 1u);
}

TEST_F(StreamTest, SignalHandlerThatSendsEndsTheInterruptedPublication) {
  UpgradeSender();
  ASSERT_EQ(SendText(send_, shadow_, "one"), 3);
  // A thread is in the middle of a send: it holds the lock and has written into the ring, but has
  // not published.
  ASSERT_EQ(send_.lock.Acquire(kSelf.tid), LockResult::kAcquired);
  uint64_t word = memory_.header()->producer.load();
  memcpy(memory_.fifo.data + IndexOf(word), "lost", 4);
  EXPECT_EQ(SendText(send_, shadow_, "handler"), kStreamUsesTcp);
  EXPECT_EQ(shadow_.sent, "one");  // the residue; the handler's bytes go by TCP now
  EXPECT_FALSE(memory_.header()->producer.compare_exchange_strong(word, (IndexOf(word) + 4) << 1));
  send_.lock.Release();
  EXPECT_EQ(SendText(send_, shadow_, "lost"), kStreamUsesTcp);  // so do the interrupted ones
}

TEST_F(StreamTest, ResidueIsNotSentTwiceAfterAThreadDiedSendingIt) {
  for (const bool by_agent : {false, true}) {
    SCOPED_TRACE(by_agent);
    PlainFifo memory(4096);
    SendStream send;
    ScriptedShadow shadow;
    shadow.written_before = 1000;
    send.Offer(memory.fifo);
    memory.header()->consumer_ready.store(1);
    SendText(send, shadow, "x");
    ASSERT_EQ(SendText(send, shadow, "0123456789"), 10);
    memory.Take(2);
    shadow.room = 3;
    shadow.in_try_send = [] { throw 1; };
    try {
      LockScope scope(send.lock, kSelf.tid);
      send.BeginFlush(shadow);
      send.PumpResidue(shadow);
      FAIL();
    } catch (int) {
      ASSERT_EQ(send.lock.Acquire(kDeadThread), LockResult::kAcquired);  // it died with the lock
    }
    shadow.in_try_send = nullptr;
    shadow.room = 100;
    if (by_agent) {
      LockScope scope(send.lock, kAgent.tid);
      EXPECT_EQ(scope.result(), LockResult::kTakenOver);
      EXPECT_EQ(send.PumpResidue(shadow), 0);
    } else {
      EXPECT_EQ(SendText(send, shadow, "newer"), kStreamUsesTcp);
    }
    EXPECT_EQ(shadow.sent, "23456789");
  }
}

TEST_F(StreamTest, ResidueThatFindsNoRoomBreaksTheConnection) {
  for (const size_t room : {size_t{3}, size_t{10}}) {
    PlainFifo memory{4096};
    SendStream send;
    ScriptedShadow shadow;
    send.Offer(memory.fifo);
    memory.header()->consumer_ready.store(1);
    SendText(send, shadow, "x");
    ASSERT_EQ(SendText(send, shadow, "0123456789"), 10);
    shadow.room = room;
    LockScope scope(send.lock, kSelf.tid);
    send.BeginFlush(shadow);
    send.SettleOrBreak(shadow);
    EXPECT_EQ(shadow.sent, std::string("0123456789").substr(0, room));
    EXPECT_EQ(shadow.reset, room < 10);
    EXPECT_EQ(send.route.load(), SendRoute::kTcp);
  }
}

TEST_F(StreamTest, SwitchThatDiedHalfWayIsFinishedOrUndone) {
  for (const bool announced : {false, true}) {
    for (const bool agent_first : {false, true}) {
      PlainFifo memory(4096);
      SendStream send;
      ScriptedShadow shadow;
      send.Offer(memory.fifo);
      memory.header()->consumer_ready.store(1);
      send.lock.Acquire(kDeadThread);
      send.route.store(SendRoute::kSwitching);
      memory.header()->up.store(announced);
      if (agent_first) {
        LockScope scope(send.lock, kAgent.tid);
        send.PumpResidue(shadow);
        EXPECT_EQ(send.route.load(), announced ? SendRoute::kFifo : SendRoute::kOffered);
      }
      ssize_t sent = SendText(send, shadow, "abc");
      if (sent == 0) sent = SendText(send, shadow, "abc");
      EXPECT_TRUE(sent == 3 || sent == kStreamUsesTcp) << sent;  // and not "wait" for ever
    }
  }
}

TEST_F(StreamTest, ErrorMetWhileFlushingBelongsToTheNextSend) {
  UpgradeSender();
  SendText(send_, shadow_, "abc");
  memory_.fifo.Seal();
  shadow_.send_error = -ECONNRESET;
  {
    LockScope scope(send_.lock, kAgent.tid);
    send_.BeginFlush(shadow_);
    EXPECT_EQ(send_.PumpResidue(shadow_), 0);
  }
  EXPECT_EQ(SendText(send_, shadow_, "x"), -ECONNRESET);
  EXPECT_EQ(SendText(send_, shadow_, "x"), kStreamUsesTcp);
}

TEST_F(StreamTest, SendOnADescriptorThatIsNoLongerOursMovesNothing) {
  UpgradeSender();
  shadow_.ours = false;
  EXPECT_EQ(SendText(send_, shadow_, "abc"), kStreamUsesTcp);
  EXPECT_EQ(memory_.fifo.AvailableBytes(), 0u);
}

TEST_F(StreamTest, ReaderTakesExactlyTheBytesBeforeTheOffsetFromTcp) {
  receive_.BecomeAware(memory_.fifo);
  shadow_.read_so_far = 100;
  shadow_.arriving = "tcp";
  memory_.Put("fifo");
  memory_.header()->switch_offset.store(103);
  memory_.header()->up.store(1);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 2), "tc");
  EXPECT_EQ(memory_.header()->tcp_read.load(), 102u);  // it does not stand still, says this
  EXPECT_EQ(receive_.ReadableBytes(1), 5u);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "pfifo");  // one queue, as with TCP alone
  EXPECT_EQ(receive_.FifoBytes(), 4u);
}

TEST_F(StreamTest, PeekSeesTheRestOfTcpAndTheFifo) {
  receive_.BecomeAware(memory_.fifo);
  shadow_.read_so_far = 100;
  shadow_.arriving = "tcp";
  memory_.Put("fifo");
  memory_.header()->switch_offset.store(103);
  memory_.header()->up.store(1);
  for (int i = 0; i < 2; ++i) {
    std::string text(6, '?');
    const iovec iov{text.data(), text.size()};
    IovCursor destination(&iov, 1);
    EXPECT_EQ(receive_.TryReceive(shadow_, &destination, 6, MSG_PEEK, true, kSelf), 6);
    EXPECT_EQ(text, "tcpfif");
  }
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "tcpfifo");
}

TEST_F(StreamTest, ReaderThatKeepsWhatHasComeOwesNobodyAnything) {
  receive_.BecomeAware(memory_.fifo);
  memory_.Put("taken,unread");
  memory_.header()->up.store(1);
  EXPECT_EQ(ReceiveText(receive_, shadow_, 6), "taken,");
  {
    const LockScope scope(receive_.lock, kSelf.tid);
    ASSERT_TRUE(receive_.EndFifoAndKeep(shadow_));
    EXPECT_FALSE(receive_.EndFifoAndKeep(shadow_));
    EXPECT_FALSE(receive_.ResidueHasCome(shadow_));  // the memory is still needed
  }
  // The producer is told that all is consumed, and finds no room by that.
  EXPECT_EQ(memory_.fifo.AvailableBytes(), 0u);
  const std::string more(memory_.fifo.capacity_bytes, 'x');
  const iovec iov{const_cast<char*>(more.data()), more.size()};
  IovCursor source(&iov, 1);
  uint64_t known_consumer = 0;
  EXPECT_EQ(memory_.fifo.Produce(source, known_consumer, 0).state, FifoState::kSealed);
  ssize_t result = 0;
  EXPECT_EQ(ReceiveText(receive_, shadow_, 2), "un");
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99), "read");
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99, &result), "");
  EXPECT_EQ(result, kStreamUsesTcp);
  EXPECT_EQ(receive_.FifoBytes(), 12u);
}

TEST_F(StreamTest, OffsetThatIsALieSendsTheReaderBackToTcp) {
  for (const uint64_t offset : {uint64_t{99}, uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 62}) {
    PlainFifo memory(4096);
    ReceiveStream receive;
    ScriptedShadow shadow;
    shadow.read_so_far = 100;
    shadow.arriving = "tcp";
    receive.BecomeAware(memory.fifo);
    memory.header()->switch_offset.store(offset);
    memory.header()->up.store(1);
    ssize_t result = 0;
    ReceiveText(receive, shadow, 99, &result);
    EXPECT_EQ(result, kStreamUsesTcp) << offset;
    EXPECT_TRUE(memory.fifo.Sealed());
  }
}

TEST_F(StreamTest, NonsenseInTheFifoSendsTheReaderBackToTcp) {
  receive_.BecomeAware(memory_.fifo);
  memory_.header()->up.store(1);
  memory_.header()->producer.store(uint64_t{1} << 40);
  ssize_t result = 0;
  ReceiveText(receive_, shadow_, 99, &result);
  EXPECT_EQ(result, kStreamUsesTcp);
  EXPECT_EQ(receive_.route.load(), ReceiveRoute::kTcp);
}

TEST_F(StreamTest, NonsenseOfTheReaderLosesNothingButItsResidue) {
  UpgradeSender();
  SendText(send_, shadow_, Text(4096));
  memory_.header()->consumer.store(uint64_t{1} << 40);
  EXPECT_EQ(SendText(send_, shadow_, "x"), kStreamUsesTcp);
  EXPECT_EQ(shadow_.sent, "");
  EXPECT_EQ(send_.route.load(), SendRoute::kTcp);
}

TEST_F(StreamTest, SealedIndexIsNotReportedAsReadable) {
  // What the FIFO still holds comes by TCP and may not be there yet.
  receive_.BecomeAware(memory_.fifo);
  memory_.header()->up.store(1);
  memory_.Put("owed");
  receive_.Advance(shadow_);
  ASSERT_EQ(receive_.route.load(), ReceiveRoute::kFifo);
  memory_.header()->consumer.fetch_or(1);
  receive_.Advance(shadow_);
  EXPECT_EQ(receive_.route.load(), ReceiveRoute::kTcp);
}

TEST_F(StreamTest, BytesOfADeadSenderComeBeforeItsEndOfStream) {
  receive_.BecomeAware(memory_.fifo);
  memory_.header()->up.store(1);
  memory_.Put("last words");
  shadow_.ended = true;
  ssize_t result = -1;
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99, &result), "last words");
  EXPECT_EQ(ReceiveText(receive_, shadow_, 99, &result), "");
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace xenloop
