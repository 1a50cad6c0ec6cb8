// The end of a listener's virtual queue, in states that the agent reaches after seconds.
#include <gtest/gtest.h>

#include "preload/side/parked.h"
#include "preload/side/self.h"

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

// The word that says which queue is in memory of the family: a child that has begun a queue of its
// own finds there what its parent has left.
TEST(ParkedQueueTest, TheWordOfAnotherProcessIsNotOurs) {
  Side* const listener = AllocateSide();
  ASSERT_NE(listener, nullptr);
  ListenerQueue* const queue = BeginQueue(listener);
  ASSERT_NE(queue, nullptr);
  const bool was_ready = process_state.ready;
  process_state.ready = true;
  listener->queue.store(static_cast<uint32_t>(queue - parked.queues) + 1);
  listener->owner_pid.store(process_state.pid + 1);
  EXPECT_EQ(QueueOf(listener), nullptr);
  queue->over.store(kQueueOverForNow);
  listener->holders.store(1);
  EXPECT_TRUE(MayGoOn(queue)) << "or it would wait for ever for what has ended with the other";
  EndQueue(listener, QueueEnd::kClosed);
  EXPECT_NE(listener->queue.load(), 0u) << "the other one still has a queue";
  EXPECT_EQ(CountsFor(listener), nullptr);
  listener->queue.store(0);
  process_state.ready = was_ready;
  FreeSide(listener);
}

}  // namespace
}  // namespace xenloop
