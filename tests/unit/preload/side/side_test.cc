// The arena of sides: what is given out, what is found in a slot's next life, and what a forked
// family shares.
#include "preload/side/side.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

TEST(SideTest, LowestFreeSlotIsGivenOut) {
  Side* const first = AllocateSide();
  Side* const second = AllocateSide();
  ASSERT_NE(first, nullptr);
  EXPECT_LT(SlotOf(first), SlotOf(second));
  FreeSide(first);
  Side* const again = AllocateSide();
  EXPECT_EQ(again, first);
  FreeSide(again);
  FreeSide(second);
}

TEST(SideTest, NextLifeOfASlotKnowsNothingOfTheLast) {
  Side* const side = AllocateSide();
  const uint32_t generation = side->generation.load();
  side->pinned.store(1);
  side->opening.store(Opening::kConnected);
  side->operations.store(99);
  side->holders.store(3);
  side->outside.store(1);
  side->orphaned.store(1);
  side->lingering_fd.store(7);
  side->receive_low_water.store(100);
  side->send.route.store(SendRoute::kFlushing);
  side->receive.route.store(ReceiveRoute::kResidue);
  side->send.pending_error.store(-1);
  side->reason.store(Reason::kSplice);
  FreeSide(side);
  ASSERT_EQ(AllocateSide(), side);
  EXPECT_EQ(side->generation.load(), generation + 1);
  EXPECT_EQ(side->pinned.load(), 0u);
  EXPECT_FALSE(side->Connected());
  EXPECT_EQ(side->operations.load(), 0u);
  EXPECT_EQ(side->references.load(), 1);
  EXPECT_EQ(side->holders.load(), 1);
  EXPECT_EQ(side->outside.load(), 0);
  EXPECT_EQ(side->orphaned.load(), 0u);
  EXPECT_EQ(side->lingering_fd.load(), -1);
  EXPECT_EQ(side->receive_low_water.load(), 1u);
  EXPECT_EQ(side->send.route.load(), SendRoute::kTcp);
  EXPECT_EQ(side->receive.route.load(), ReceiveRoute::kTcp);
  EXPECT_EQ(side->send.pending_error.load(), 0);
  EXPECT_EQ(side->reason.load(), Reason::kNotHotYet);
  FreeSide(side);
}

// A late comer of the former life is still inside: its slot waits.
TEST(SideTest, SlotThatIsStillUsedByALateCallIsNotGivenOut) {
  Side* const side = AllocateSide();
  side->send.kernel_users.count.store(1);
  FreeSide(side);
  Side* const other = AllocateSide();
  EXPECT_NE(other, side);
  side->send.kernel_users.Leave();
  FreeSide(other);
  Side* const locked = AllocateSide();
  locked->receive.lock.Acquire(0x3fffffff);
  FreeSide(locked);
  Side* const third = AllocateSide();
  EXPECT_NE(third, locked);
  locked->receive.lock.Release();
  FreeSide(third);
}

TEST(SideTest, EverySlotCanBeHadAndThenThereIsNone) {
  std::vector<Side*> sides;
  while (Side* const side = AllocateSide()) sides.push_back(side);
  EXPECT_LE(sides.size(), kMaxSides);
  EXPECT_GE(sides.size(), kMaxSides - 64);
  for (Side* side : sides) FreeSide(side);
  Side* const again = AllocateSide();
  ASSERT_NE(again, nullptr) << "room is found again";
  FreeSide(again);
}

TEST(SideForkTest, ArenaIsSharedWithTheChild) {
  Side* const side = AllocateSide();
  EXPECT_EQ(InForkedChild([&] {
              side->operations.store(42);
              return 0;
            }),
            0);
  EXPECT_EQ(side->operations.load(), 42u);
  FreeSide(side);
}

}  // namespace
}  // namespace xenloop
