// What a stream sees of the life word: the end of a direction, and that it ends with the FIFO.
#include "channel/lives.h"

#include <gtest/gtest.h>

#include "tests/unit/channel/parked_fixture.h"

namespace xenloop {
namespace {

class LivesTest : public testing::Test {
 protected:
  LivesTest() {
    EXPECT_TRUE(pair_.Connect(1));
    EXPECT_EQ(pair_.Accept(), LifeAccept::kLive);
  }
  Lives Of(Role role) { return Lives{&pair_.word(), role}; }
  const Fifo& there() { return pair_.there().fifo; }  // from the client

  PlainPair pair_;
};

TEST_F(LivesTest, OrdinaryConnectionHasNoEnd) {
  const Lives none;
  none.End();
  EXPECT_FALSE(none);
  EXPECT_FALSE(none.OtherHasFinished());
  EXPECT_FALSE(none.AtEnd(there()));
  EXPECT_FALSE(none.OtherHasLeft(there()));
}

TEST_F(LivesTest, IsNotAtEndWhileNobodyHasFinished) {
  EXPECT_FALSE(Of(Role::kServer).OtherHasFinished());
  EXPECT_FALSE(Of(Role::kServer).AtEnd(there()));
}

TEST_F(LivesTest, EndComesBehindTheLastByte) {
  pair_.there().Put("?");
  ASSERT_EQ(pair_.client.Close(1), LifeClose::kClosed);
  EXPECT_TRUE(Of(Role::kServer).OtherHasFinished());
  EXPECT_FALSE(Of(Role::kServer).AtEnd(there()));
  pair_.there().Take(1);
  EXPECT_TRUE(Of(Role::kServer).AtEnd(there()));
  EXPECT_FALSE(Of(Role::kClient).AtEnd(pair_.back().fifo))
      << "the end of one direction is not the other's";
}

TEST_F(LivesTest, BytesThatWereReadBeforeTheCloseAreNotLeft) {
  pair_.back().Put("!");
  pair_.back().Take(1);
  ASSERT_EQ(pair_.client.Close(1), LifeClose::kClosed);
  EXPECT_FALSE(Of(Role::kServer).OtherHasLeft(pair_.back().fifo));
  pair_.back().Put("!");
  EXPECT_TRUE(Of(Role::kServer).OtherHasLeft(pair_.back().fifo));
}

TEST_F(LivesTest, DeadConnectionTellsItsEndByTcp) {
  ASSERT_EQ(pair_.client.Close(1), LifeClose::kClosed);
  Of(Role::kServer).End();
  EXPECT_EQ(pair_.Word().State(), LifeState::kDead);
  EXPECT_FALSE(Of(Role::kServer).AtEnd(there()));
  EXPECT_FALSE(Of(Role::kServer).OtherHasLeft(pair_.back().fifo));
}

TEST_F(LivesTest, MemoryOutOfReachIsNoEnd) {
  pair_.Write(LifeWord{LifeWord::kOutOfReach});
  EXPECT_FALSE(Of(Role::kServer).AtEnd(there()));
}

}  // namespace
}  // namespace xenloop
