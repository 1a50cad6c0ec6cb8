// The FIFO between two honest ends: order, room, wrap-around, peeking, discarding, sealing.
#include "channel/fifo.h"

#include <sched.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/unit/channel/fifo_fixture.h"

namespace xenloop {
namespace {

TEST(Fifo, FreshOneIsEmptyAndOpen) {
  PlainFifo end(4096);
  EXPECT_EQ(end.fifo.AvailableBytes(), 0u);
  EXPECT_EQ(end.fifo.FreeBytes(), 4096u);
  EXPECT_FALSE(end.fifo.Sealed());
  EXPECT_FALSE(end.fifo.Ended());
  FifoState state;
  EXPECT_EQ(end.Take(10, false, &state), "");
  EXPECT_EQ(state, FifoState::kOpen);
}

TEST(Fifo, TakesWhatFitsAndSaysHowMuch) {
  PlainFifo end(4096);
  EXPECT_EQ(end.Put(Text(5000)).bytes, 4096u);
  EXPECT_EQ(end.fifo.FreeBytes(), 0u);
  EXPECT_EQ(end.Put("x").bytes, 0u);
  EXPECT_EQ(end.Take(1), Text(1));
  EXPECT_EQ(end.Put(Text(5, 4096)).bytes, 1u);
  EXPECT_EQ(end.Take(9999), Text(4096, 1));
}

TEST(Fifo, WindowLimitsWhatIsInFlight) {
  PlainFifo end(8192);
  end.fifo.window_bytes = 5000;
  EXPECT_EQ(end.Put(Text(8000)).bytes, 5000u);
  EXPECT_EQ(end.fifo.FreeBytes(), 0u);
  EXPECT_EQ(end.Take(100), Text(100));
  EXPECT_EQ(end.fifo.FreeBytes(), 100u);
  end.fifo.window_bytes = 4096;  // smaller than what is in flight
  EXPECT_EQ(end.fifo.FreeBytes(), 0u);
  EXPECT_EQ(end.Put("x").bytes, 0u);
  end.fifo.window_bytes = 8192;
  EXPECT_EQ(end.Put(Text(8000, 5000)).bytes, 8192u - 4900u);
  EXPECT_EQ(end.Take(9999), Text(8192, 100));
}

TEST(Fifo, BytesWrapAroundTheEndOfTheRing) {
  for (uint64_t start : {uint64_t{4090}, uint64_t{4095}, uint64_t{4096}, uint64_t{1} << 40,
                         (uint64_t{1} << 40) - 3}) {
    PlainFifo end(4096);
    end.StartAt(start);
    EXPECT_EQ(end.Put(Text(4096)).bytes, 4096u) << start;
    EXPECT_EQ(end.Take(100, /*peek=*/true), Text(100)) << start;
    EXPECT_EQ(end.Take(4096), Text(4096)) << start;
  }
}

TEST(Fifo, LongSendsArePublishedInSlices) {
  PlainFifo end(1 << 17);
  EXPECT_EQ(end.Put(Text(100000)).bytes, 100000u);
  EXPECT_EQ(end.Take(100000), Text(100000));
  EXPECT_EQ(end.Put(Text(1 << 17)).bytes, size_t{1} << 17);
  EXPECT_EQ(end.Take(1 << 18), Text(1 << 17));
}

TEST(Fifo, VectorsAreGatheredAndScattered) {
  PlainFifo end(4096);
  end.StartAt(4094);
  std::string a = "ab", empty, b = "cdefg";
  const iovec from[] = {{a.data(), 2}, {empty.data(), 0}, {b.data(), 5}};
  IovCursor source(from, 3);
  EXPECT_EQ(end.fifo.Produce(source, end.known_consumer, 7).bytes, 7u);
  EXPECT_EQ(end.header()->producer_cpu.load(), 7u);
  std::string x(3, '?'), y(9, '?');
  const iovec to[] = {{x.data(), 3}, {y.data(), 9}};
  IovCursor destination(to, 2);
  EXPECT_EQ(end.fifo.Consume(&destination, 12, false).bytes, 7u);
  EXPECT_EQ(x + y.substr(0, 4), "abcdefg");
  EXPECT_EQ(destination.remaining(), 5u);
}

TEST(Fifo, PeekTakesNothing) {
  PlainFifo end(4096);
  end.Put("hello");
  EXPECT_EQ(end.Take(3, true), "hel");
  EXPECT_EQ(end.Take(99, true), "hello");
  EXPECT_EQ(end.fifo.AvailableBytes(), 5u);
  EXPECT_EQ(end.Take(99), "hello");
}

TEST(Fifo, DiscardNeedsNoMemory) {
  PlainFifo end(4096);
  end.Put("hello world");
  EXPECT_EQ(end.fifo.Consume(nullptr, 6, false).bytes, 6u);
  EXPECT_EQ(end.Take(99), "world");
}

// ---- sealing ----

TEST(FifoSeal, SourceCursorIsUntouchedByAFailedPublication) {
  for (int word = 0; word < 3; ++word) {
    PlainFifo end(4096);
    end.Put(Text(4096));
    if (word != 1) end.header()->producer.fetch_or(1);
    if (word != 0) end.header()->consumer.fetch_or(1);
    std::string text = "newer";
    const iovec iov{text.data(), text.size()};
    IovCursor source(&iov, 1);
    const FifoResult result = end.fifo.Produce(source, end.known_consumer, 0);
    EXPECT_EQ(result.state, FifoState::kSealed) << word;
    EXPECT_EQ(result.bytes, 0u);
    EXPECT_EQ(source.remaining(), 5u);
  }
}

TEST(FifoSeal, BytesOfEarlierSlicesStayPublished) {
  // The consumer's word is sealed after one slice: what the producer does not know of it may still
  // be published, what needs a new look may not.
  PlainFifo end(1 << 15);
  end.header()->consumer.fetch_or(1);
  const std::string text = Text(40000);
  const iovec iov{const_cast<char*>(text.data()), text.size()};
  IovCursor source(&iov, 1);
  const FifoResult result = end.fifo.Produce(source, end.known_consumer, 0);
  EXPECT_EQ(result.state, FifoState::kSealed);
  EXPECT_EQ(result.bytes, size_t{1} << 15);
  EXPECT_EQ(source.remaining(), 40000 - result.bytes);
  EXPECT_EQ(end.fifo.AvailableBytes(), result.bytes);  // the residue, exactly
}

TEST(FifoSeal, ConsumerDrainsWhatThePublisherSealed) {
  PlainFifo end(4096);
  end.Put("last words");
  end.header()->producer.fetch_or(1);
  FifoState state;
  EXPECT_FALSE(end.fifo.Ended());
  EXPECT_EQ(end.Take(4, false, &state), "last");
  EXPECT_EQ(state, FifoState::kOpen);
  EXPECT_EQ(end.Take(99, false, &state), " words");
  EXPECT_TRUE(end.fifo.Ended());
  EXPECT_EQ(end.Take(99, false, &state), "");
  EXPECT_EQ(state, FifoState::kSealed);
}

TEST(FifoSeal, SealedConsumerIndexLeavesTheResidue) {
  PlainFifo end(4096);
  end.Put("0123456789");
  end.Take(4);
  end.fifo.Seal();
  end.fifo.Seal();  // idempotent
  FifoState state;
  EXPECT_EQ(end.Take(99, false, &state), "");
  EXPECT_EQ(state, FifoState::kSealed);
  EXPECT_EQ(end.Take(99, true, &state), "");
  EXPECT_EQ(state, FifoState::kSealed);
  EXPECT_TRUE(end.fifo.Ended());
  EXPECT_EQ(IndexOf(end.header()->consumer.load()), 4u);
  EXPECT_EQ(IndexOf(end.header()->producer.load()), 10u);
}

TEST(FifoSeal, PublicationThatRacesWithASealFails) {
  // The ring of this view covers its own header: what is copied into it seals the very word that
  // the producer has read and not yet published.
  PlainFifo end(4096);
  Fifo view = end.fifo;
  view.data = reinterpret_cast<uint8_t*>(&end.header()->producer);
  uint64_t sealed = 1;
  const iovec iov{&sealed, sizeof sealed};
  IovCursor source(&iov, 1);
  const FifoResult result = view.Produce(source, end.known_consumer, 0);
  EXPECT_EQ(result.state, FifoState::kSealed);
  EXPECT_EQ(result.bytes, 0u);
  EXPECT_EQ(source.remaining(), sizeof sealed);
  EXPECT_EQ(IndexOf(end.header()->producer.load()), 0u);
}

// Two threads in recv on one socket: the first has asked and looked, and does not sleep yet when
// bytes come and wake whoever asks; the second takes a part of them, and asks for more.
TEST(WakeTest, RequestOfAnotherThreadDoesNotPutTheFirstToSleep) {
  PlainFifo end(kMinFifoBytes);
  std::atomic<uint32_t>& word = end.header()->consumer_waiting;
  const uint32_t armed = ArmFutex(word);
  WakeSleepers(word);
  ArmFutex(word);
  const timespec soon{1, 0};
  EXPECT_EQ(sys::FutexWait(&word, armed, &soon), -EAGAIN);
}

TEST(WakeTest, OnlyRequestsAskForAWakeUp) {
  PlainFifo end(kMinFifoBytes);
  std::atomic<uint32_t>& word = end.header()->producer_waiting;
  ArmFutex(word);
  WakeSleepers(word, /*once=*/true);
  EXPECT_NE(word.load(), 0u) << "wake-ups are counted";
  EXPECT_EQ(word.load() & kRequests, 0u);
  RequestDoorbell(word);
  EXPECT_EQ(WakeSleepers(word, /*once=*/true), kDoorbellInterest);
  EXPECT_EQ(WakeSleepers(word, /*once=*/true), 0u);
}

// A peer has taken the request away and was killed before it came to the wake.
TEST(WakeTest, SleeperWhoseRequestWasTakenAwayIsWokenByHisOwnSide) {
  PlainFifo end(kMinFifoBytes);
  std::atomic<uint32_t>& word = end.header()->consumer_waiting;
  std::atomic<int> tid{0};
  std::thread sleeper([&] {
    const uint32_t armed = ArmFutex(word);
    tid = sys::GetTid();
    const timespec long_time{5, 0};
    EXPECT_EQ(sys::FutexWait(&word, armed, &long_time), 0);
  });
  while (tid == 0) sched_yield();
  char state = '?';
  while (state != 'S') {
    std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
    std::string text;
    std::getline(stat, text);
    state = text[text.rfind(')') + 2];
  }
  word.fetch_and(~kFutexSleeper);
  WakeOwnSleepers(end.fifo, word);
  sleeper.join();
}

}  // namespace
}  // namespace xenloop
