// Whether spinning for a peer can pay is a question of the machine, not of where we are pinned.
#include "preload/side/processors.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

namespace xenloop {
namespace {

TEST(ProcessorsTest, ThreadThatIsPinnedToOneKnowsOfTheOthers) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(CountProcessors(), static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace xenloop
