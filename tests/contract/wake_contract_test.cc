// Waking over every transport: ask, look again, sleep. A lost wake-up hangs a round, and the test's
// time-out tells.
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/contract/contract.h"

namespace xenloop {
namespace {

constexpr uint32_t kRounds = 100000;
constexpr timespec kTooLong{20, 0};

// One number out of the FIFO; sleeps on the futex when there is none. False: nobody woke us.
bool TakeNumber(const Fifo& fifo, uint32_t* number) {
  for (;;) {
    if (Take(fifo, number, sizeof *number) == sizeof *number) return true;
    const uint32_t armed = ArmFutex(fifo.header->consumer_waiting);
    if (fifo.AvailableBytes() >= sizeof *number) continue;
    if (sys::FutexWait(&fifo.header->consumer_waiting, armed, &kTooLong) == -ETIMEDOUT)
      return false;
  }
}
bool PutNumber(const Fifo& fifo, uint64_t& known, uint32_t number) {
  if (Put(fifo, known, &number, sizeof number) != sizeof number) return false;
  WakeSleepers(fifo.header->consumer_waiting);
  return true;
}

TEST_P(TransportTest, NoFutexWakeUpIsLost) {
  FifoMapping there, there_peer, back, back_peer;
  MakeFifo(kCapacity, &there, &there_peer);
  MakeFifo(kCapacity, &back, &back_peer);
  Peer peer(AcrossProcesses(), [&] {
    uint64_t known = 0;
    for (uint32_t round = 0; round < kRounds; ++round) {
      uint32_t number = 0;
      if (!TakeNumber(there_peer.fifo, &number) || number != round) return false;
      if (!PutNumber(back.fifo, known, number)) return false;
    }
    return true;
  });
  uint64_t known = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    uint32_t number = 0;
    ASSERT_TRUE(PutNumber(there.fifo, known, round));
    ASSERT_TRUE(TakeNumber(back_peer.fifo, &number)) << "a wake-up was lost in round " << round;
    ASSERT_EQ(number, round);
  }
  EXPECT_TRUE(peer.Join());
  for (FifoMapping* mapping : {&there, &there_peer, &back, &back_peer})
    transport().release_fifo(mapping);
}

TEST_P(TransportTest, ProducerAsleepInAFullFifoIsWoken) {
  FifoMapping mine, theirs;
  MakeFifo(kCapacity, &mine, &theirs);
  constexpr uint64_t kTotal = 2 << 20;
  Peer peer(AcrossProcesses(), [&] {
    uint8_t buffer[700];
    for (uint64_t at = 0; at < kTotal;) {
      const ssize_t n = Take(theirs.fifo, buffer, sizeof buffer);
      if (n < 0) return false;
      if (n == 0) {
        const uint32_t armed = ArmFutex(theirs.fifo.header->consumer_waiting);
        if (theirs.fifo.AvailableBytes() == 0 &&
            sys::FutexWait(&theirs.fifo.header->consumer_waiting, armed, &kTooLong) == -ETIMEDOUT) {
          return false;
        }
        continue;
      }
      at += static_cast<uint64_t>(n);
      if (theirs.fifo.FreeBytes() >= theirs.fifo.WakeThresholdBytes()) {
        WakeSleepers(theirs.fifo.header->producer_waiting, /*once=*/true);
      }
    }
    return true;
  });
  uint64_t known = 0;
  std::string bytes(3000, 'x');
  for (uint64_t at = 0; at < kTotal;) {
    const ssize_t n =
        Put(mine.fifo, known, bytes.data(), std::min<uint64_t>(bytes.size(), kTotal - at));
    ASSERT_GE(n, 0);
    at += static_cast<uint64_t>(n);
    if (n > 0) {
      WakeSleepers(mine.fifo.header->consumer_waiting);
      continue;
    }
    const uint32_t armed = ArmFutex(mine.fifo.header->producer_waiting);
    if (mine.fifo.FreeBytes() > 0) continue;
    ASSERT_NE(sys::FutexWait(&mine.fifo.header->producer_waiting, armed, &kTooLong), -ETIMEDOUT)
        << at;
  }
  EXPECT_TRUE(peer.Join());
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

// A producer with a small window (SO_SNDBUF) sleeps; the consumer, who knows the capacity only,
// takes a little and the request with it. Its one ring must wake the sleeper.
TEST_P(TransportTest, RingForLittleRoomIsMeantForTheProducer) {
  FifoMapping mine, theirs;
  MakeFifo(16 * kCapacity, &mine, &theirs);
  mine.fifo.window_bytes = kCapacity;
  const std::string bytes(kCapacity, 'x');
  uint64_t known = 0;
  ASSERT_EQ(Put(mine.fifo, known, bytes.data(), bytes.size()), static_cast<ssize_t>(kCapacity));
  ArmFutex(mine.fifo.header->producer_waiting);
  EXPECT_FALSE(ProducerIsMeant(mine.fifo));  // a ring for something else leaves it asleep
  uint8_t taken[100];
  ASSERT_EQ(Take(theirs.fifo, taken, sizeof taken), static_cast<ssize_t>(sizeof taken));
  ASSERT_GE(theirs.fifo.FreeBytes(), theirs.fifo.WakeThresholdBytes());
  EXPECT_EQ(WakeSleepers(theirs.fifo.header->producer_waiting, /*once=*/true, /*foreign=*/true),
            kFutexSleeper);
  EXPECT_LT(mine.fifo.FreeBytes(), mine.fifo.WakeThresholdBytes());
  EXPECT_TRUE(ProducerIsMeant(mine.fifo));
  transport().release_fifo(&mine);
  transport().release_fifo(&theirs);
}

// The owner of a doorbell asleep in epoll: counts itself as a sleeper, looks again, waits for an
// edge.
TEST_P(TransportTest, NoDoorbellWakeUpIsLost) {
  Doorbell bell, bell_peer;
  FifoMapping there, there_peer, back, back_peer;
  MakeDoorbell(&bell, &bell_peer);
  MakeFifo(kCapacity, &there, &there_peer);
  MakeFifo(kCapacity, &back, &back_peer);
  RequestDoorbell(back_peer.fifo.header->consumer_waiting);  // for as long as the FIFO lasts
  Peer peer(AcrossProcesses(), [&] {
    uint64_t known = 0;
    for (uint32_t round = 0; round < kRounds; ++round) {
      uint32_t number = 0;
      if (!TakeNumber(there_peer.fifo, &number)) return false;
      if (Put(back.fifo, known, &number, sizeof number) != sizeof number) return false;
      if (WakeSleepers(back.fifo.header->consumer_waiting)) RingDoorbell(bell_peer);
    }
    return true;
  });
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN | EPOLLET, {}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, HeardAt(bell), &event), 0);
  uint64_t known = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(PutNumber(there.fifo, known, round));
    uint32_t number = ~0u;
    while (Take(back_peer.fifo, &number, sizeof number) != sizeof number) {
      PageOf(bell).Count(1);
      if (back_peer.fifo.AvailableBytes() == 0) {
        ASSERT_GT(epoll_wait(epoll, &event, 1, 20000), 0) << "a ring was lost in round " << round;
      }
      PageOf(bell).Count(~0u);
    }
    ASSERT_EQ(number, round);
  }
  EXPECT_TRUE(peer.Join());
  close(epoll);
  for (FifoMapping* mapping : {&there, &there_peer, &back, &back_peer})
    transport().release_fifo(mapping);
  transport().release_doorbell(&bell_peer);
  transport().release_doorbell(&bell);
  EXPECT_EQ(bell.page, nullptr);
  transport().release_doorbell(&bell);
}

TEST_P(TransportTest, DoorbellIsRungOnceForEachSleep) {
  Doorbell bell, bell_peer;
  MakeDoorbell(&bell, &bell_peer);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN | EPOLLET, {}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, HeardAt(bell), &event), 0);
  epoll_wait(epoll, &event, 1, 0);  // the edge that a registration begins with
  RingDoorbell(bell_peer);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  PageOf(bell).Count(1);
  EXPECT_EQ(bell_peer.page->sleepers.load(), 1u);  // one page, seen by both
  RingDoorbell(bell_peer);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 1);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  // One ring a sleep: he is being woken.
  RingDoorbell(bell_peer);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  // Another sleeper, or the same again.
  for (const uint32_t more : {1u, ~0u, 0u}) {
    PageOf(bell).Count(more);
    RingDoorbell(bell_peer);
    EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 1) << more;
    RingDoorbell(bell_peer);
    EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0) << more;
  }
  PageOf(bell).Count(~0u);
  RingAnyway(bell_peer);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 1);
  close(epoll);
  transport().release_doorbell(&bell_peer);
  transport().release_doorbell(&bell);
  RingDoorbell(bell);  // released: nothing
}

// Who sleeps by another bell of the process hears nothing; where the bell is not known to whoever
// rings, all hear the doorbell.
TEST_P(TransportTest, BellWakesItsSleepersOnly) {
  if (transport().create_bell == nullptr) GTEST_SKIP() << "there are no bells";
  Doorbell doorbell, doorbell_peer;
  MakeDoorbell(&doorbell, &doorbell_peer);
  constexpr uint32_t kBells[] = {1, kMostBells - 1};
  int epoll[2];
  Bell known[2] = {};
  epoll_event event{EPOLLIN | EPOLLET, {}};
  for (int i = 0; i < 2; ++i) {
    const int bell = transport().create_bell();
    ASSERT_GE(bell, 0);
    epoll[i] = epoll_create1(EPOLL_CLOEXEC);
    ASSERT_EQ(epoll_ctl(epoll[i], EPOLL_CTL_ADD, bell, &event), 0);
    ASSERT_EQ(epoll_ctl(epoll[i], EPOLL_CTL_ADD, doorbell.fd, &event), 0);
    while (epoll_wait(epoll[i], &event, 1, 0) > 0) continue;  // the edges that they begin with
    event = {EPOLLIN | EPOLLET, {}};
    Ticket ticket;
    ticket.fds[0] = bell;
    known[i].fd = transport().map_bell(&ticket);
    ASSERT_GE(known[i].fd, 0);
    while (epoll_wait(epoll[i], &event, 1, 0) > 0) continue;  // tried once
    event = {EPOLLIN | EPOLLET, {}};
  }
  const auto heard = [&](int i) { return epoll_wait(epoll[i], &event, 1, 0); };
  const auto fall_asleep = [&](int i) {
    PageOf(doorbell).Count(1);
    LineOf(&PageOf(doorbell), kBells[i])->Count(1);
  };
  RingBell(doorbell_peer, &known[0], kBells[0]);
  EXPECT_EQ(heard(0) + heard(1), 0) << "nobody sleeps";
  fall_asleep(1);
  RingBell(doorbell_peer, &known[0], kBells[0]);
  RingBell(doorbell_peer, nullptr, kBells[0]);
  EXPECT_EQ(heard(0) + heard(1), 0) << "nobody sleeps by that bell";
  fall_asleep(0);
  for (int i = 0; i < 2; ++i) {
    RingBell(doorbell_peer, &known[i], kBells[i]);
    EXPECT_EQ(heard(i), 1);
    EXPECT_EQ(heard(1 - i), 0);
    RingBell(doorbell_peer, &known[i], kBells[i]);
    EXPECT_EQ(heard(i), 0) << "he is being woken";
  }
  RingBell(doorbell_peer, nullptr, kBells[1]);
  EXPECT_EQ(heard(0) + heard(1), 2);
  fall_asleep(0);
  RingBell(doorbell_peer, &known[0], kMostBells);  // as a hostile peer may name it
  EXPECT_EQ(heard(0) + heard(1), 2);
  for (int i = 0; i < 2; ++i) {
    close(known[i].fd);
    close(epoll[i]);
  }
  transport().release_doorbell(&doorbell_peer);
  transport().release_doorbell(&doorbell);
  RingBell(doorbell_peer, nullptr, kBells[0]);  // released: nothing
}

}  // namespace
}  // namespace xenloop
