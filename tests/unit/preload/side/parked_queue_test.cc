// The end of a listener's virtual queue, in states that the agent reaches after seconds.
#include <gtest/gtest.h>

#include "preload/side/parked.h"

namespace xenloop {
namespace {

TEST(ParkedQueueTest, WhatIsOverForGoodStaysSo) {
  Side* const listener = AllocateSide();
  ASSERT_NE(listener, nullptr);
  ListenerQueue* const queue = BeginQueue(listener);
  ASSERT_NE(queue, nullptr);
  EXPECT_TRUE(MayGoOn(queue));
  EndQueue(listener, QueueEnd::kGoesOn);
  EXPECT_EQ(queue->over.load(), kQueueOverForNow);
  queue->over.store(kQueueOverForGood);
  EndQueue(listener, QueueEnd::kGoesOn);  // an option was set
  EXPECT_FALSE(MayGoOn(queue));
  EndQueue(listener, QueueEnd::kClosed);
  EXPECT_EQ(CountsFor(listener), nullptr);
  FreeSide(listener);
}

}  // namespace
}  // namespace xenloop
