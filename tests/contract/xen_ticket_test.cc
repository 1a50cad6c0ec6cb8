// Hostile tickets and budgets of the Xen transport, on the twin without Xen: whatever a peer sends,
// the answer is an error, and nothing stays mapped, granted or bound.
#include <errno.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "channel/xen/xen_transport.h"
#include "gtest/gtest.h"
#include "tests/contract/fake_xen.h"

namespace xenloop {
namespace {

constexpr uint32_t kLimitPages = 1024;

class XenTicketTest : public testing::Test {
 protected:
  XenTicketTest() {
    StartXenTransport(FakeXenCalls(), kLimitPages);
    shared_before_ = FakePagesShared();
    mapped_before_ = FakePagesMapped();
    ports_before_ = FakePortsBound();
  }
  ~XenTicketTest() override {
    FailNextShare(0, 0);
    EXPECT_EQ(FakePagesMapped(), mapped_before_);
    EXPECT_EQ(FakePortsBound(), ports_before_);
    EXPECT_EQ(CurrentXenBudget().ports, 0u);
  }
  // Released is released: nothing is granted any more.
  void ExpectNothingGranted() {
    EXPECT_EQ(FakePagesShared(), shared_before_);
    EXPECT_EQ(CurrentXenBudget().used_pages, 0u);
  }
  static XenSleepersPage* OwnPageOf(const Doorbell& bell) {
    return reinterpret_cast<XenSleepersPage*>(bell.own_page);
  }
  static int MapFifo(Ticket ticket) {
    FifoMapping mapping;
    const int error = XenTransport().map_fifo(&ticket, &mapping);
    EXPECT_EQ(error == 0, static_cast<bool>(mapping.fifo));
    XenTransport().release_fifo(&mapping);
    return error;
  }

  uint32_t shared_before_ = 0;
  uint32_t mapped_before_ = 0;
  uint32_t ports_before_ = 0;
};

TEST_F(XenTicketTest, SoundOneIsMappedAndTicketsOfAnotherShapeAreNot) {
  FifoMapping mine;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), 0);
  EXPECT_EQ(MapFifo(ticket), 0);
  for (const auto& [word, value] :
       std::vector<std::pair<int, uint64_t>>{{0, 1},                  // no such grant
                                             {0, uint64_t{1} << 32},  // no grant reference
                                             {0, ~uint64_t{0}},
                                             {1, 0},
                                             {1, 1},  // no data
                                             {1, kMaxXenFifoPages + 1},
                                             {1, ~uint64_t{0}},
                                             {1, 5},  // the header promises more
                                             {2, ticket.words[2] ^ 1}}) {  // another FIFO's page
    Ticket other = ticket;
    other.words[word] = value;
    EXPECT_LT(MapFifo(other), 0) << word << ' ' << value;
  }
  Ticket foreign = ticket;
  foreign.peer = kFakeDomid + 1;
  EXPECT_LT(MapFifo(foreign), 0);
  XenTransport().release_fifo(&mine);
  EXPECT_LT(MapFifo(ticket), 0);  // revoked before it was mapped
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, ReferencesOfPagesThatAreNotOursToMapAreRefused) {
  FifoMapping mine;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), 0);
  uint32_t nonsense = 1;
  memcpy(mine.fifo.data + 3 * sizeof nonsense, &nonsense, sizeof nonsense);
  EXPECT_LT(MapFifo(ticket), 0);
  XenTransport().release_fifo(&mine);
  ExpectNothingGranted();
}

// A consumer can write the header's page only; what the producer still owes stays what it was.
TEST_F(XenTicketTest, DataPagesAreReadOnlyForTheConsumer) {
  FifoMapping mine, theirs;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), 0);
  ASSERT_EQ(XenTransport().map_fifo(&ticket, &theirs), 0);
  EXPECT_DEATH(theirs.fifo.data[8192] = 1, "");
  XenTransport().release_fifo(&theirs);
  XenTransport().release_fifo(&mine);
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, BudgetIsSharedAndRunsOutAsAnError) {
  std::vector<FifoMapping> all;
  int error = 0;
  uint64_t smallest = ~uint64_t{0};
  while (error == 0) {
    ASSERT_LT(all.size(), 1000u);
    Ticket ticket;
    all.emplace_back();
    error = XenTransport().create_fifo(1 << 20, &all.back(), &ticket);
    if (error == 0 && all.back().fifo.capacity_bytes < smallest)
      smallest = all.back().fifo.capacity_bytes;
  }
  EXPECT_EQ(error, -ENOSPC);
  // An eighth of the guest's pages at the most, then less and less, down to what is worth it.
  EXPECT_EQ(all.front().fifo.capacity_bytes, uint64_t{256} << 10);
  EXPECT_EQ(smallest, kLeastXenFifoBytes);
  EXPECT_LE(FakePagesShared() - shared_before_, kLimitPages / 2);  // others want some too
  EXPECT_GT(CurrentXenBudget().used_pages, kLimitPages / 2 - 17);
  for (FifoMapping& mapping : all) XenTransport().release_fifo(&mapping);
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, WhatOthersHaveTakenMakesFifosSmallerAndThenAnError) {
  FifoMapping mine;
  Ticket ticket;
  FailNextShare(1, -ENOSPC);  // the header's page, and no more
  EXPECT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), -ENOSPC);
  EXPECT_EQ(mine.memory, nullptr);
  FailNextShare(0, -EPERM);
  EXPECT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), -EPERM);
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, DoorbellIsMadeByOneEndAndBoundByTheOther) {
  Doorbell first, second;
  Ticket there, back;
  ASSERT_EQ(XenTransport().create_doorbell(&first, &there), 0);
  ASSERT_NE(there.words[1], 0u);
  ASSERT_EQ(XenTransport().map_doorbell(&there, &second), 0);
  ASSERT_EQ(XenTransport().create_doorbell(&second, &back), 0);
  EXPECT_EQ(back.words[1], 0u);  // there is one already
  ASSERT_EQ(XenTransport().map_doorbell(&back, &first), 0);
  RingDoorbell(second);
  EXPECT_EQ(NextXenEvent(), -EAGAIN);  // nobody sleeps
  OwnPageOf(first)->page.Count(1);
  RingDoorbell(second);
  EXPECT_EQ(NextXenEvent(), static_cast<int>(XenPortOf(first)));
  OwnPageOf(first)->page.Count(~0u);
  RingDoorbell(first, /*certain=*/true);
  EXPECT_EQ(NextXenEvent(), static_cast<int>(XenPortOf(second)));
  EXPECT_EQ(NextXenEvent(), -EAGAIN);
  XenTransport().release_doorbell(&first);
  RingDoorbell(second, /*certain=*/true);  // nobody there
  XenTransport().release_doorbell(&second);
  ExpectNothingGranted();
}

// One page a domain for all channels; its place is not given to another while somebody counts
// there.
TEST_F(XenTicketTest, SleepersPageIsGrantedWhileADoorbellNeedsIt) {
  Doorbell first, second, later;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_doorbell(&first, &ticket), 0);
  ASSERT_EQ(XenTransport().create_doorbell(&second, &ticket), 0);
  XenSleepersPage* const page = OwnPageOf(first);
  EXPECT_EQ(OwnPageOf(second), page);
  page->page.sleepers.fetch_add(2);
  XenTransport().release_doorbell(&first);
  EXPECT_EQ(CurrentXenBudget().used_pages, 1u);
  XenTransport().release_doorbell(&second);
  ExpectNothingGranted();
  EXPECT_EQ(page->page.sleepers.fetch_sub(1), 2u);  // still there for those who counted themselves
  ASSERT_EQ(XenTransport().create_doorbell(&later, &ticket), 0);
  EXPECT_NE(OwnPageOf(later), page);
  XenTransport().release_doorbell(&later);
  page->page.sleepers.fetch_sub(1);
  ASSERT_EQ(XenTransport().create_doorbell(&later, &ticket), 0);
  EXPECT_EQ(OwnPageOf(later), page);
  EXPECT_EQ(page->page.sleepers.load(), 0u);
  XenTransport().release_doorbell(&later);
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, FifoThatIsKeptPrivatelyHasItsBytesAndNoGrant) {
  FifoMapping mine, theirs;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_fifo(1 << 16, &mine, &ticket), 0);
  ASSERT_EQ(XenTransport().map_fifo(&ticket, &theirs), 0);
  for (uint32_t i = 0; i < 1 << 16; ++i) mine.fifo.data[i] = static_cast<uint8_t>(i * 7);
  mine.fifo.Seal();
  uint8_t* const data[] = {mine.fifo.data, theirs.fifo.data};
  ASSERT_EQ(KeepPrivately(&theirs), 0);
  EXPECT_EQ(FakePagesMapped(), mapped_before_);
  ASSERT_EQ(KeepPrivately(&mine), 0);
  ExpectNothingGranted();
  mine.fifo.data[9] = 0;  // nobody else's any more
  for (FifoMapping* mapping : {&mine, &theirs}) {
    EXPECT_TRUE(mapping->fifo.Sealed());
    EXPECT_EQ(mapping->fifo.data, data[mapping == &theirs]);
    EXPECT_EQ(mapping->fifo.data[65535], static_cast<uint8_t>(65535 * 7));
  }
  EXPECT_EQ(theirs.fifo.data[9], 63);
  ReleaseFifo(&mine);
  ReleaseFifo(&theirs);
}

// What the kernel does for a process that is killed: its page says so, and then the port is rung.
TEST_F(XenTicketTest, DeathOfTheOtherEndIsSeenAndHeard) {
  Doorbell first, second;
  Ticket there, back;
  ASSERT_EQ(XenTransport().create_doorbell(&first, &there), 0);
  ASSERT_EQ(XenTransport().map_doorbell(&there, &second), 0);
  ASSERT_EQ(XenTransport().create_doorbell(&second, &back), 0);
  ASSERT_EQ(XenTransport().map_doorbell(&back, &first), 0);
  EXPECT_FALSE(XenOwnerIsDead(second));
  EXPECT_EQ(NextXenEvent(), -EAGAIN);
  OwnPageOf(first)->alive.store(0);
  XenTransport().release_doorbell(&first);
  EXPECT_EQ(NextXenEvent(), static_cast<int>(XenPortOf(second)));
  EXPECT_TRUE(XenOwnerIsDead(second));
  XenTransport().release_doorbell(&second);
  NextXenEvent();  // the fake's own: a ring of a port that is gone
  ExpectNothingGranted();
}

// A share's byte is cleared at its end, whoever still maps it.
TEST_F(XenTicketTest, ByteOfAShareIsClearedWhenItEnds) {
  const XenCalls& calls = FakeXenCalls();
  void* const memory = mmap(nullptr, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  auto* const ours = static_cast<volatile uint8_t*>(memory);
  uint32_t reference = 0;
  uint64_t shared = 0;
  uint64_t mapping = 0;
  ASSERT_EQ(calls.share(kFakeDomid, 1, Access::kRead, memory, &reference, &shared), 0);
  ASSERT_EQ(calls.clear_when_unshared(shared, 9), 0);
  ours[8] = ours[9] = ours[10] = 1;
  ASSERT_EQ(calls.map(kFakeDomid, &reference, 1, Access::kRead, const_cast<uint8_t*>(ours) + 4096,
                      &mapping),
            0);
  calls.unshare(memory, 1, shared);
  EXPECT_EQ(ours[4096 + 8], 1);
  EXPECT_EQ(ours[4096 + 9], 0);
  EXPECT_EQ(ours[4096 + 10], 1);
  calls.unmap(const_cast<uint8_t*>(ours) + 4096, 1, mapping);
  munmap(memory, 2 * 4096);
  ExpectNothingGranted();
}

// An end that says nothing of its life (its kernel cannot) is not taken for dead.
TEST_F(XenTicketTest, SilenceIsNotDeath) {
  Doorbell first, second;
  Ticket there;
  ASSERT_EQ(XenTransport().create_doorbell(&first, &there), 0);
  OwnPageOf(first)->alive.store(0);
  ASSERT_EQ(XenTransport().map_doorbell(&there, &second), 0);
  EXPECT_FALSE(XenOwnerIsDead(second));
  XenTransport().release_doorbell(&second);
  XenTransport().release_doorbell(&first);
  ExpectNothingGranted();
}

TEST_F(XenTicketTest, DoorbellTicketsOfAnotherShapeAreRefused) {
  Doorbell first, second;
  Ticket ticket;
  ASSERT_EQ(XenTransport().create_doorbell(&first, &ticket), 0);
  for (const auto& [word, value] : std::vector<std::pair<int, uint64_t>>{
           {0, 1}, {0, ~uint64_t{0}}, {1, 0}, {1, 1}, {1, ~uint64_t{0}}}) {
    Ticket other = ticket;
    other.words[word] = value;
    EXPECT_LT(XenTransport().map_doorbell(&other, &second), 0) << word << ' ' << value;
    EXPECT_EQ(second.page, nullptr);
    EXPECT_EQ(XenPortOf(second), 0u);
  }
  // Both ends making one, or neither, breaks the protocol.
  EXPECT_EQ(XenTransport().map_doorbell(&ticket, &first), -EPROTO);
  XenTransport().release_doorbell(&first);
  ExpectNothingGranted();
}

}  // namespace
}  // namespace xenloop
