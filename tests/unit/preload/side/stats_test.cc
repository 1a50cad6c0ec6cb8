// What statistics say of reasons.
#include "preload/side/stats.h"

#include <string>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

TEST(StatsTest, FallbacksAreCountedByReason) {
  ForgetStats();
  char text[2048];
  EXPECT_EQ(FormatFallbacks(text, sizeof text), 2u);
  EXPECT_STREQ(text, "{}");
  CountFallback(Reason::kSplice);
  CountFallback(Reason::kNotHotYet);
  CountFallback(Reason::kSplice);
  FormatFallbacks(text, sizeof text);
  EXPECT_STREQ(text, "{\"not hot yet\":1,\"splice\":2}");
  ForgetStats();
  FormatFallbacks(text, sizeof text);
  EXPECT_STREQ(text, "{}");
}

TEST(StatsTest, WhatDoesNotFitIsLeftOutWhole) {
  ForgetStats();
  for (size_t number = 1; number < kReasonCount; ++number)
    CountFallback(static_cast<Reason>(number));
  char text[256];
  const size_t length = FormatFallbacks(text, sizeof text - 2);
  ASSERT_LT(length, sizeof text);
  EXPECT_EQ(text[length], '\0');
  EXPECT_EQ(std::string(text).substr(length - 3), ":1}");
  ForgetStats();
}

}  // namespace
}  // namespace xenloop
