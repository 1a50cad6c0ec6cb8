// FIFOs over every transport: order, capacity, sealing from the other side, release, death of the
// peer.
#include <vector>

#include "tests/contract/contract.h"

namespace xenloop {
namespace {

TEST_P(TransportTest, BytesArriveInOrderThroughAFifoOfEverySize) {
  for (const uint64_t capacity : {uint64_t{4096}, uint64_t{65536}, uint64_t{1} << 20}) {
    FifoMapping mine, theirs;
    MakeFifo(capacity, &mine, &theirs);
    EXPECT_EQ(theirs.fifo.capacity_bytes, capacity);
    constexpr uint64_t kTotal = 3 << 20;
    Peer peer(AcrossProcesses(), [&] {
      std::vector<uint8_t> buffer(5000);
      for (uint64_t at = 0; at < kTotal;) {
        const ssize_t n = Take(theirs.fifo, buffer.data(), 1 + at % buffer.size());
        if (n < 0) return false;
        if (n == 0) sys::Yield();
        for (ssize_t i = 0; i < n; ++i, ++at) {
          if (buffer[static_cast<size_t>(i)] != static_cast<uint8_t>(at % 253)) return false;
        }
      }
      return true;
    });
    std::vector<uint8_t> buffer(7001);
    uint64_t known = 0;
    for (uint64_t at = 0; at < kTotal;) {
      const size_t length = std::min<uint64_t>(1 + at % buffer.size(), kTotal - at);
      for (size_t i = 0; i < length; ++i) buffer[i] = static_cast<uint8_t>((at + i) % 253);
      const ssize_t n = Put(mine.fifo, known, buffer.data(), length);
      ASSERT_GE(n, 0);
      if (n == 0) sys::Yield();
      at += static_cast<uint64_t>(n);
    }
    EXPECT_TRUE(peer.Join());
    transport().release_fifo(&mine);
    transport().release_fifo(&theirs);
  }
}

TEST_P(TransportTest, CapacityIsWhatWasAskedFor) {
  FifoMapping mine, theirs;
  MakeFifo(kCapacity, &mine, &theirs);
  std::vector<uint8_t> bytes(2 * kCapacity, 7);
  uint64_t known = 0;
  EXPECT_EQ(Put(mine.fifo, known, bytes.data(), bytes.size()), static_cast<ssize_t>(kCapacity));
  EXPECT_EQ(theirs.fifo.AvailableBytes(), kCapacity);
  EXPECT_EQ(Put(mine.fifo, known, bytes.data(), 1), 0);
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

TEST_P(TransportTest, PeerSealsAtAnExactByte) {
  FifoMapping mine, theirs;
  MakeFifo(kCapacity, &mine, &theirs);
  uint64_t known = 0;
  ASSERT_EQ(Put(mine.fifo, known, "0123456789", 10), 10);
  Peer peer(AcrossProcesses(), [&] {
    char bytes[4];
    const bool taken = Take(theirs.fifo, bytes, 4) == 4;
    theirs.fifo.Seal();
    return taken;
  });
  EXPECT_TRUE(peer.Join());
  EXPECT_EQ(Put(mine.fifo, known, "x", 1), -1);
  EXPECT_EQ(IndexOf(mine.fifo.header->consumer.load()), 4u);
  EXPECT_EQ(IndexOf(mine.fifo.header->producer.load()), 10u);
  EXPECT_EQ(memcmp(mine.fifo.data + 4, "456789", 6), 0);  // the residue is still ours
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

TEST_P(TransportTest, ProducersMemoryOutlivesTheConsumersMappingAndTheOtherWayRound) {
  FifoMapping mine, theirs;
  MakeFifo(kCapacity, &mine, &theirs);
  uint64_t known = 0;
  ASSERT_EQ(Put(mine.fifo, known, "hello", 5), 5);
  transport().release_fifo(&mine);
  EXPECT_EQ(mine.memory, nullptr);
  EXPECT_FALSE(mine.fifo);
  transport().release_fifo(&mine);  // again: nothing
  char bytes[5];
  EXPECT_EQ(Take(theirs.fifo, bytes, 5), 5);
  EXPECT_EQ(memcmp(bytes, "hello", 5), 0);
  transport().release_fifo(&theirs);
  MakeFifo(kCapacity, &mine, &theirs);
  transport().release_fifo(&theirs);
  known = 0;
  EXPECT_EQ(Put(mine.fifo, known, "hello", 5), 5);
  transport().release_fifo(&mine);
}

TEST_P(TransportTest, DiscardedDataLeavesAUsableFifo) {
  FifoMapping mine, theirs;
  MakeFifo(1 << 16, &mine, &theirs);
  std::vector<uint8_t> bytes(1 << 16, 7);
  uint64_t known = 0;
  ASSERT_EQ(Put(mine.fifo, known, bytes.data(), bytes.size()), 1 << 16);
  ASSERT_EQ(Take(theirs.fifo, bytes.data(), bytes.size()), 1 << 16);
  transport().discard_data(mine);
  EXPECT_EQ(IndexOf(theirs.fifo.header->producer.load()), uint64_t{1} << 16);
  EXPECT_EQ(Put(mine.fifo, known, "again", 5), 5);
  char text[5];
  EXPECT_EQ(Take(theirs.fifo, text, 5), 5);
  EXPECT_EQ(memcmp(text, "again", 5), 0);
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

TEST_P(TransportTest, KilledProducerLeavesWhatItHasPublished) {
  if (!AcrossProcesses()) return;  // only a process can be killed
  FifoMapping mine, theirs;
  MakeFifo(1 << 16, &mine, &theirs);
  Peer peer(true, [&] {
    uint64_t known = 0;
    uint32_t number = 0;
    for (;;) {
      if (Put(mine.fifo, known, &number, sizeof number) == sizeof number) ++number;
    }
    return false;
  });
  uint32_t expected = 0;
  uint32_t number = 0;
  while (expected < 20000) {
    if (Take(theirs.fifo, &number, sizeof number) != sizeof number) continue;
    ASSERT_EQ(number, expected++);
  }
  peer.Kill();
  EXPECT_FALSE(peer.Join());
  // The rest is whole numbers in order, and then nothing: no seal, no nonsense.
  while (Take(theirs.fifo, &number, sizeof number) == sizeof number) ASSERT_EQ(number, expected++);
  EXPECT_EQ(theirs.fifo.AvailableBytes(), 0u);
  EXPECT_FALSE(theirs.fifo.Sealed());
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

TEST_P(TransportTest, ProducerHasAllThatAKilledConsumerHadNotTaken) {
  if (!AcrossProcesses()) return;
  FifoMapping mine, theirs;
  MakeFifo(1 << 16, &mine, &theirs);
  Peer peer(true, [&] {
    char byte;
    for (;;) Take(theirs.fifo, &byte, 1);
    return false;
  });
  uint64_t known = 0;
  uint64_t sent = 0;
  while (sent < 20000) {
    const auto byte = static_cast<uint8_t>(sent % 251);
    if (Put(mine.fifo, known, &byte, 1) == 1) ++sent;
  }
  peer.Kill();
  peer.Join();
  mine.fifo.Seal();
  const uint64_t taken = IndexOf(mine.fifo.header->consumer.load());
  EXPECT_EQ(IndexOf(mine.fifo.header->producer.load()), sent);
  for (uint64_t at = taken; at < sent; ++at) ASSERT_EQ(mine.fifo.data[at % (1 << 16)], at % 251);
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

// Who goes on without the peer: a copy at the same address, whichever transport made the memory; to
// ask again, or to release what has been kept, is not the transport's business any more.
TEST_P(TransportTest, MappingKnowsWhoseMemoryItIs) {
  FifoMapping mine, theirs;
  MakeFifo(1 << 16, &mine, &theirs);
  uint64_t known = 0;
  ASSERT_EQ(Put(mine.fifo, known, "kept", 4), 4);
  mine.fifo.Seal();
  for (FifoMapping* mapping : {&mine, &theirs}) {
    EXPECT_EQ(mapping->transport, &transport());
    EXPECT_EQ(mapping->fifo.foreign, transport().foreign);
    EXPECT_EQ(mapping->mine, mapping == &mine);
    const uint8_t* const data = mapping->fifo.data;
    const bool kept = KeepPrivately(mapping) == 0;
    EXPECT_EQ(kept, mapping->transport == nullptr);
    EXPECT_EQ(KeepPrivately(mapping) == 0, kept);
    EXPECT_FALSE(kept && mapping->fifo.foreign);
    EXPECT_EQ(mapping->fifo.data, data);
    EXPECT_EQ(memcmp(data, "kept", 4), 0);
  }
  EXPECT_EQ(mine.transport == nullptr, std::string(transport().name) != "in-process");
  ReleaseFifo(&mine);
  ReleaseFifo(&theirs);
  EXPECT_EQ(theirs.memory, nullptr);
  ReleaseFifo(&theirs);
}

TEST_P(TransportTest, GarbageInTheHeaderIsNoFifo) {
  for (int what = 0; what < 4; ++what) {
    FifoMapping mine, theirs;
    Ticket ticket;
    ASSERT_EQ(transport().create_fifo(8192, &mine, &ticket), 0);
    FifoHeader* header = mine.fifo.header;
    if (what == 0) header->magic = 0;
    if (what == 1) header->version += 1;
    if (what == 2) header->capacity_bytes = 8193;
    if (what == 3) header->capacity_bytes = 1 << 20;  // more than there is
    EXPECT_EQ(transport().map_fifo(&ticket, &theirs), -EPROTO) << what;
    EXPECT_EQ(theirs.memory, nullptr);
    EXPECT_FALSE(theirs.fifo);
    transport().release_fifo(&mine);
  }
}

}  // namespace
}  // namespace xenloop
