// The FIFO against a peer that writes garbage into the header: results stay within bounds, memory
// outside the ring is never touched (the sanitizer watches), nothing loops for ever.
#include <array>
#include <random>

#include "channel/fifo.h"
#include "gtest/gtest.h"
#include "tests/unit/channel/fifo_fixture.h"

namespace xenloop {
namespace {

constexpr uint64_t kCapacity = 4096;

TEST(HostileFifo, ProducerIndexAheadOfEverythingIsCorrupt) {
  for (uint64_t index : {kCapacity + 1, uint64_t{1} << 32, (uint64_t{1} << 63) - 1}) {
    PlainFifo end(kCapacity);
    end.header()->producer.store(index << 1);
    FifoState state;
    EXPECT_EQ(end.Take(100, false, &state), "");
    EXPECT_EQ(state, FifoState::kCorrupt) << index;
    EXPECT_EQ(end.Take(100, true, &state), "");
    EXPECT_EQ(state, FifoState::kCorrupt) << index;
    EXPECT_LE(end.fifo.AvailableBytes(), kCapacity);
  }
}

TEST(HostileFifo, ProducerIndexThatGoesBackIsCorrupt) {
  PlainFifo end(kCapacity);
  end.StartAt(1000);
  end.header()->producer.store(uint64_t{900} << 1);
  FifoState state;
  EXPECT_EQ(end.Take(100, false, &state), "");
  EXPECT_EQ(state, FifoState::kCorrupt);
}

TEST(HostileFifo, ConsumerIndexBeyondTheProducerIsCorrupt) {
  PlainFifo end(kCapacity);
  end.Put(Text(kCapacity));  // full: the producer must look
  for (uint64_t index : {kCapacity + 1, uint64_t{1} << 40}) {
    end.header()->consumer.store(index << 1);
    const FifoResult result = end.Put("x");
    EXPECT_EQ(result.bytes, 0u) << index;
    EXPECT_EQ(result.state, FifoState::kCorrupt) << index;
    EXPECT_EQ(end.fifo.FreeBytes(), 0u);
  }
}

TEST(HostileFifo, ConsumerIndexThatGoesBackIsCorrupt) {
  PlainFifo end(kCapacity);
  end.StartAt(10 * kCapacity);
  end.Put(Text(kCapacity));
  end.header()->consumer.store((10 * kCapacity - 1) << 1);
  EXPECT_EQ(end.Put("x").state, FifoState::kCorrupt);
}

TEST(HostileFifo, AllOnesMeansSealed) {  // a foreign mapping that has gone away reads like this
  PlainFifo end(kCapacity);
  end.Put(Text(kCapacity));
  end.header()->producer.store(~uint64_t{0});
  end.header()->consumer.store(~uint64_t{0});
  FifoState state;
  EXPECT_EQ(end.Take(100, false, &state), "");
  EXPECT_EQ(state, FifoState::kSealed);
  EXPECT_EQ(end.Put("x").state, FifoState::kSealed);
}

TEST(HostileFifo, ConsumerIndexThatNeverStandsStillIsCorrupt) {
  PlainFifo end(kCapacity);
  end.header()->producer.store(kCapacity << 1);
  for (const bool peek : {false, true}) {
    // A peer that writes between every copy and its publication, made repeatable: the consumer's
    // word is among the vectors. At index 0 the ring says 8, at 8 it says 0.
    end.header()->consumer.store(0);
    for (uint64_t at = 0; at < kCapacity; at += 8) {
      const uint64_t word = (at % 16 == 0 ? 8 : 0) << 1;
      memcpy(end.fifo.data + at, &word, sizeof word);
    }
    const iovec iov{&end.header()->consumer, 8};
    IovCursor destination(&iov, 1);
    const FifoResult result = end.fifo.Consume(&destination, 8, peek);
    EXPECT_EQ(result.state, FifoState::kCorrupt);
    EXPECT_EQ(result.bytes, 0u);
  }
}

TEST(HostileFifo, RandomWordsNeverReachBeyondTheRing) {
  std::mt19937_64 random(42);
  for (int round = 0; round < 200000; ++round) {
    static PlainFifo end(kCapacity);
    const auto word = [&]() -> uint64_t {
      switch (random() % 4) {
        case 0:
          return random();
        case 1:
          return random() % (4 * kCapacity);
        case 2:
          return end.header()->producer.load() + random() % 8 - 4;
        default:
          return end.header()->consumer.load() + random() % (2 * kCapacity);
      }
    };
    if (random() % 2 == 0) end.header()->producer.store(word());
    if (random() % 2 == 0) end.header()->consumer.store(word());
    end.header()->capacity_bytes = random();  // read once, when adopted
    end.header()->consumer_waiting.store(static_cast<uint32_t>(random()));
    if (random() % 4 == 0) end.known_consumer = random();
    const size_t length = random() % (kCapacity + 100);
    std::string buffer(length, 'x');
    const iovec iov{buffer.data(), length};
    IovCursor cursor(&iov, 1);
    switch (random() % 4) {
      case 0: {
        const FifoResult result = end.fifo.Produce(cursor, end.known_consumer, 0);
        ASSERT_LE(result.bytes, kCapacity);
        ASSERT_EQ(cursor.remaining(), length - result.bytes);
        break;
      }
      case 1: {
        const FifoResult result = end.fifo.Consume(&cursor, length, false);
        ASSERT_LE(result.bytes, length);
        ASSERT_EQ(cursor.remaining(), length - result.bytes);
        break;
      }
      case 2:
        ASSERT_LE(end.fifo.Consume(&cursor, length, true).bytes, length);
        break;
      default:
        ASSERT_LE(end.fifo.Consume(nullptr, length, false).bytes, length);
    }
    ASSERT_LE(end.fifo.AvailableBytes(), kCapacity);
    ASSERT_LE(end.fifo.FreeBytes(), kCapacity);
  }
}

// ---- adopting ----

class AdoptTest : public testing::Test {
 protected:
  bool Adopts(size_t bytes) const { return static_cast<bool>(Fifo::Adopt(end_.memory(), bytes)); }
  PlainFifo end_{8192};
};

TEST_F(AdoptTest, SoundMemoryIsAdoptedAsItIs) {
  const Fifo fifo = Fifo::Adopt(end_.memory(), end_.memory_bytes());
  ASSERT_TRUE(fifo);
  EXPECT_EQ(fifo.capacity_bytes, 8192u);
  EXPECT_EQ(fifo.data, static_cast<uint8_t*>(end_.memory()) + kFifoDataOffset);
}
TEST_F(AdoptTest, TooLittleMemoryIsRefused) {
  EXPECT_FALSE(Adopts(0));
  EXPECT_FALSE(Adopts(sizeof(FifoHeader)));
  EXPECT_FALSE(Adopts(end_.memory_bytes() - 1));
}
TEST_F(AdoptTest, WrongMagicOrVersionIsRefused) {
  end_.header()->magic ^= 1;
  EXPECT_FALSE(Adopts(end_.memory_bytes()));
  end_.header()->magic ^= 1;
  end_.header()->version = kFifoVersion + 1;
  EXPECT_FALSE(Adopts(end_.memory_bytes()));
}
TEST_F(AdoptTest, OddCapacitiesAreRefused) {
  for (uint64_t capacity :
       {uint64_t{0}, uint64_t{1}, uint64_t{2048}, uint64_t{8191}, uint64_t{8193}, uint64_t{12288},
        uint64_t{16384}, kMaxFifoBytes * 2, uint64_t{1} << 63, ~uint64_t{0}}) {
    end_.header()->capacity_bytes = capacity;
    EXPECT_FALSE(Adopts(end_.memory_bytes())) << capacity;
  }
}

}  // namespace
}  // namespace xenloop
