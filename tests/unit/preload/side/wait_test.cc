// How long a wait on several descriptors spins, learnt from what became of those before.
#include "preload/side/wait.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "preload/settings/config.h"
#include "preload/side/self.h"

namespace {
std::atomic<bool> clock_stands{false};
}  // namespace

// As libfaketime does: the whole test program has its time from here.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (clock_stands.load()) {
    *now = {1, 0};
    return 0;
  }
  return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
}

namespace xenloop {
namespace {

class SpinTest : public testing::Test {
 protected:
  void SetUp() override {
    process_state.processors = 2;
    // On a busy machine a yield of an earlier wait has told that processors are wanted: for so many
    // waits nobody spins.
    WaitsUntilSpinning();
    for (int i = 0; i < 64 * 8; ++i) YieldHasTaken(kBrief);
    for (int i = 0; i < 40; ++i) SharedSpinEnded(/*paid=*/true);
  }
  void TearDown() override { process_state.processors = processors_; }
  // How many waits do not spin from here on.
  static int WaitsUntilSpinning() {
    int waits = 0;
    while (SharedSpinBudgetUs() == 0 && waits < 100000) ++waits;
    return waits;
  }
  static constexpr uint64_t kBrief = 1000;
  static constexpr uint64_t kSlice = 3000000;
  const uint32_t most_ = GetConfig().spin_us;

 private:
  const uint32_t processors_ = process_state.processors;
};

TEST_F(SpinTest, WaitsThatPayMaySpinForAsLongAsIsAllowed) {
  EXPECT_EQ(SharedSpinBudgetUs(), most_);
}

TEST_F(SpinTest, WaitsThatDoNotPaySpinLessAndLess) {
  uint32_t before = SharedSpinBudgetUs();
  for (int i = 0; i < 10; ++i) {
    SharedSpinEnded(/*paid=*/false);
    EXPECT_LE(SharedSpinBudgetUs(), before);
    before = SharedSpinBudgetUs();
  }
  EXPECT_LT(before, most_ / 4);
  EXPECT_GT(before, 0u);
}

TEST_F(SpinTest, NowAndThenAWaitProbesForAsLongAsIsAllowed) {
  int probes = 0;
  for (int i = 0; i < 100; ++i) {
    SharedSpinEnded(/*paid=*/false);
    if (SharedSpinBudgetUs() == most_) ++probes;
  }
  EXPECT_EQ(probes, 3) << "after 16, 32 and 64 that did not pay";
}

TEST_F(SpinTest, ProbeThatPaysBringsTheWholeBudgetBack) {
  for (int i = 0; i < 16; ++i) SharedSpinEnded(/*paid=*/false);
  ASSERT_EQ(SharedSpinBudgetUs(), most_);
  SharedSpinEnded(/*paid=*/true);
  EXPECT_EQ(SharedSpinBudgetUs(), most_);
}

TEST_F(SpinTest, EachTryThatCostsASliceIsFollowedByTwiceAsManyWaitsThatSleepAtOnce) {
  int before = 0;
  for (int tries = 0; tries < 6; ++tries) {
    YieldHasTaken(kSlice);
    const int waits = WaitsUntilSpinning();
    EXPECT_GE(waits, 2 * before);
    before = waits;
  }
  EXPECT_GE(before, 6400);
  for (int tries = 0; tries < 20; ++tries) YieldHasTaken(kSlice);
  EXPECT_LE(WaitsUntilSpinning(), 25600) << "a machine that is idle again is noticed";
}

TEST_F(SpinTest, YieldsThatCostLittleBringTheShortPausesBack) {
  for (int tries = 0; tries < 20; ++tries) YieldHasTaken(kSlice);
  WaitsUntilSpinning();
  for (int yields = 0; yields < 64 * 8; ++yields) YieldHasTaken(kBrief);
  YieldHasTaken(kSlice);
  EXPECT_EQ(WaitsUntilSpinning(), 200);
}

// What a yield costs cannot be seen then: on a busy machine each of them could cost a slice.
TEST_F(SpinTest, UnderAClockThatStandsStillNobodyGoesOnYielding) {
  clock_stands.store(true);
  const bool brief = YieldBriefly();
  uint64_t start_ns = 0;
  uint32_t turns = 0;
  while (turns < 1000 && SpinTurn(&start_ns, most_, &turns, /*yields=*/true)) continue;
  clock_stands.store(false);
  EXPECT_FALSE(brief);
  EXPECT_LE(turns, 32u);
  EXPECT_GE(WaitsUntilSpinning(), 200);
}

TEST_F(SpinTest, OnOneProcessorNobodySpins) {
  process_state.processors = 1;
  EXPECT_EQ(SharedSpinBudgetUs(), 0u);
}

}  // namespace
}  // namespace xenloop
