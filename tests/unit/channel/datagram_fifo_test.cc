// One FIFO of datagrams: boundaries, the drop rule, seals, and another end that keeps no rule.
#include <functional>
#include <thread>

#include "gtest/gtest.h"
#include "tests/unit/channel/datagram_fixture.h"

namespace xenloop {
namespace {

TEST(DatagramFifo, DatagramsKeepTheirBoundaries) {
  PlainDatagrams end;
  EXPECT_EQ(end.Take(), "none");
  for (const size_t length : {size_t{5}, size_t{0}, size_t{16}, size_t{1400}, size_t{0}})
    EXPECT_EQ(end.Put(Text(length)), PutResult::kSent);
  EXPECT_EQ(end.Take(/*peek=*/true), Text(5));
  for (const size_t length : {size_t{5}, size_t{0}, size_t{16}, size_t{1400}, size_t{0}})
    EXPECT_EQ(end.Take(), Text(length));
  EXPECT_EQ(end.Take(), "none");
}

TEST(DatagramFifo, WhatDoesNotFitTheBufferIsCutOff) {
  PlainDatagrams end;
  end.Put("abcdef");
  end.Put("next");
  DatagramView view;
  ASSERT_EQ(end.Look(&view), LookResult::kHere);
  char buffer[2];
  const iovec iov{buffer, sizeof buffer};
  IovCursor destination(&iov, 1);
  EXPECT_EQ(end.fifo.Take(view, &destination, false, end.released), LookResult::kHere);
  EXPECT_EQ(std::string(buffer, 2), "ab");
  EXPECT_EQ(view.length, 6u);
  EXPECT_EQ(end.Take(), "next");
}

TEST(DatagramFifo, DatagramsGoRoundTheEndOfTheRing) {
  for (const uint64_t start : {uint64_t{0}, uint64_t{4080}, uint64_t{4064}, uint64_t{2000} * 16,
                               (uint64_t{1} << 40) - 32}) {
    PlainDatagrams end(4096);
    end.memory.StartAt(start);
    for (size_t length = 0; length < 1500; length += 37) {
      EXPECT_EQ(end.Put(Text(length, 3)), PutResult::kSent) << start;
      EXPECT_EQ(end.Take(), Text(length, 3)) << start << ", " << length;
    }
  }
}

// The figures of Linux 6.18.
TEST(DatagramFifo, KeepsAsManyAsTheKernelsQueue) {
  constexpr struct {
    size_t length;
    int kept;
  } kFigures[] = {{1, 256}, {64, 256}, {512, 166}, {1400, 92}, {8192, 12}, {65507, 3}};
  for (const auto& figure : kFigures) {
    PlainDatagrams end;
    int sent = 0;
    int dropped = 0;
    for (int i = 0; i < 3000; ++i) {
      switch (end.Put(Text(figure.length))) {
        case PutResult::kSent:
          ++sent;
          break;
        case PutResult::kDropped:
          ++dropped;
          break;
        default:
          FAIL();
      }
    }
    EXPECT_EQ(sent, figure.kept) << figure.length;
    EXPECT_EQ(dropped, 3000 - figure.kept);
    // What is taken makes room for as much.
    EXPECT_EQ(end.Take().size(), figure.length);
    EXPECT_EQ(end.Put(Text(figure.length)), PutResult::kSent);
    EXPECT_EQ(end.Put(Text(figure.length)), PutResult::kDropped);
  }
}

TEST(DatagramFifo, AnEmptyQueueTakesAnyDatagram) {
  PlainDatagrams end;
  end.fifo.board().limit_bytes.store(1);
  EXPECT_EQ(end.Put(Text(9000)), PutResult::kSent);
  EXPECT_EQ(end.Put(""), PutResult::kDropped);
  EXPECT_EQ(end.Take(), Text(9000));
  EXPECT_EQ(end.Put(""), PutResult::kSent);
}

TEST(DatagramFifo, FullWithoutADropIsSaid) {
  PlainDatagrams end(4096);
  EXPECT_EQ(end.Put(Text(4080)), PutResult::kSent);
  EXPECT_EQ(end.Put(""), PutResult::kFull);
  EXPECT_EQ(end.Take(), Text(4080));
  EXPECT_EQ(end.Put(Text(4081)), PutResult::kFull);
}

TEST(DatagramFifo, ASealedProducersDatagramsStayReadable) {
  PlainDatagrams end;
  end.Put("one");
  end.Put("two");
  end.fifo.SealProducer();
  EXPECT_EQ(end.Put("three"), PutResult::kSealed);
  EXPECT_EQ(end.Take(), "one");
  EXPECT_EQ(end.Take(), "two");
  DatagramView view;
  EXPECT_EQ(end.Look(&view), LookResult::kEnded);
}

TEST(DatagramFifo, NothingIsTakenOrSentOnceBothAreSealed) {
  PlainDatagrams end;
  end.Put("one");
  DatagramView view;
  ASSERT_EQ(end.Look(&view), LookResult::kHere);
  end.fifo.SealBoth();
  EXPECT_EQ(end.fifo.Take(view, nullptr, false, end.released), LookResult::kSealed);
  EXPECT_EQ(end.fifo.Take(view, nullptr, true, end.released), LookResult::kSealed);
  EXPECT_EQ(end.Put("two"), PutResult::kSealed);
  EXPECT_EQ(IndexOf(end.header()->consumer.load()), 0u);
  EXPECT_EQ(IndexOf(end.header()->producer.load()), RecordBytes(3));
}

// Whole or not at all: a seal that comes at any moment of a send.
TEST(DatagramFifo, WhatWasSentBeforeASealIsThereAndNothingElse) {
  for (int round = 0; round < 200; ++round) {
    PlainDatagrams end;
    std::atomic<int> begun{0};
    std::thread sealer([&end, &begun, round] {
      while (begun.load() < round % 7) sys::Pause();
      end.fifo.SealProducer();
    });
    int sent = 0;
    for (; sent < 90; ++sent) {
      begun.store(sent);
      if (end.Put(Text(1000, sent)) != PutResult::kSent) break;
    }
    begun.store(90);
    sealer.join();
    for (int i = 0; i < sent; ++i) ASSERT_EQ(end.Take(), Text(1000, i));
    ASSERT_EQ(end.Take(), "none");
  }
}

TEST(DatagramFifo, StampsOfOneSenderAlwaysAscend) {
  PlainDatagrams end;
  end.Put("a", 100);
  end.Put("b", 100);
  end.Put("c", 7);
  end.Put("d", 200);
  uint64_t last = 99;
  for (int i = 0; i < 4; ++i) {
    DatagramView view;
    ASSERT_EQ(end.Look(&view), LookResult::kHere);
    EXPECT_TRUE(IsLater(view.stamp, last));
    last = view.stamp;
    end.Take();
  }
  EXPECT_EQ(last, 200u);
}

// ---- a producer that keeps no rule ----

class HostileRecord : public ::testing::Test {
 protected:
  LookResult After(const std::function<void(DatagramRecord*)>& change) {
    PlainDatagrams end(4096);
    end.Put("honest");
    auto* record = reinterpret_cast<DatagramRecord*>(end.fifo.fifo.data);
    change(record);
    DatagramView view;
    return end.Look(&view);
  }
};

TEST_F(HostileRecord, LengthsBeyondWhatIsPublished) {
  for (const uint32_t length :
       {17u, 4096u, 65535u, 65536u, 0x7fffffffu, 0xfffffff0u, 0xffffffffu}) {
    EXPECT_EQ(After([length](DatagramRecord* record) { record->length = length; }),
              LookResult::kCorrupt)
        << length;
  }
}

TEST_F(HostileRecord, FlagsThatNobodyKnows) {
  EXPECT_EQ(After([](DatagramRecord* record) { record->flags = 2; }), LookResult::kCorrupt);
}

TEST(HostileProducer, IndicesThatNoRecordHas) {
  for (const uint64_t p : {uint64_t{8}, uint64_t{17}, uint64_t{4112}, uint64_t{1} << 62}) {
    PlainDatagrams end(4096);
    end.header()->producer.store(p << 1);
    DatagramView view;
    EXPECT_EQ(end.Look(&view), LookResult::kCorrupt) << p;
  }
}

// ---- a consumer that keeps no rule ----

TEST(HostileConsumer, IndicesAheadOfTheProducersOrBetweenRecords) {
  for (const uint64_t c : {uint64_t{64}, uint64_t{8}, uint64_t{1} << 62}) {
    PlainDatagrams end(4096);
    end.Put("x");
    end.header()->consumer.store(c << 1);
    EXPECT_EQ(end.Put("y"), PutResult::kCorrupt) << c;
  }
}

TEST(HostileConsumer, AnAbsurdAccountLeavesTheRingAsTheBound) {
  for (const uint64_t released : {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{1} << 40}) {
    PlainDatagrams end(4096);
    end.fifo.board().limit_bytes.store(~0u);
    PutResult result = PutResult::kSent;
    int sent = 0;
    for (; sent < 1000 && result == PutResult::kSent; ++sent) {
      end.fifo.board().released.store(released);
      result = end.Put(Text(100));
    }
    EXPECT_NE(result, PutResult::kSent);
    EXPECT_LE(sent, 4096 / 128 + 1);
  }
}

TEST(DatagramFifo, TwoThreadsAndManyDatagrams) {
  PlainDatagrams end(1 << 15);
  end.fifo.board().limit_bytes.store(1 << 28);
  constexpr int kCount = 5000;
  std::thread sender([&end] {
    for (int i = 0; i < kCount;) {
      const PutResult result = end.Put(Text(static_cast<size_t>(i % 1000), i));
      if (result == PutResult::kSent) ++i;
      if (result == PutResult::kFull) sys::Yield();
    }
  });
  for (int i = 0; i < kCount;) {
    DatagramView view;
    if (end.Look(&view) != LookResult::kHere) {
      sys::Yield();
      continue;
    }
    ASSERT_EQ(end.Take(), Text(static_cast<size_t>(i % 1000), i));
    ++i;
  }
  sender.join();
}

}  // namespace
}  // namespace xenloop
