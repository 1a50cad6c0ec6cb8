// Every reason can be told from the others, shown in JSON, and explained.
#include "discovery/protocol/reasons.h"

#include <cstring>
#include <set>
#include <string>

#include "discovery/protocol/control.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

constexpr size_t kLongestWords = 119;  // what the tools keep of an agent's reason

TEST(ReasonsTest, EachHasWordsOfItsOwnADurationAndARemedy) {
  ASSERT_GT(kReasonCount, 80u);
  ASSERT_LE(kReasonCount, 256u);
  std::set<std::string> seen;
  for (size_t number = 1; number < kReasonCount; ++number) {
    const auto reason = static_cast<Reason>(number);
    const std::string words = ReasonText(reason);
    EXPECT_NE(words, "") << number;
    EXPECT_LE(words.size(), kLongestWords) << words;
    EXPECT_TRUE(seen.insert(words).second) << words << " stands twice";
    EXPECT_STRNE(ReasonUntil(reason), "") << words;
    EXPECT_STRNE(ReasonRemedy(reason), "") << words;
    EXPECT_EQ(ReasonWithText(words.c_str()), reason) << words;
    EXPECT_EQ(words.find_first_of("\"\\|\n"), std::string::npos)
        << words << " would break JSON or the table";
    EXPECT_EQ(std::strpbrk(ReasonRemedy(reason), "|\n"), nullptr) << words;
  }
}

TEST(ReasonsTest, NoReasonHasNoWords) {
  EXPECT_STREQ(ReasonText(Reason::kNone), "");
  EXPECT_STREQ(ReasonUntil(Reason::kNone), "");
  EXPECT_STREQ(ReasonRemedy(Reason::kNone), "");
  EXPECT_EQ(ReasonWithText(""), Reason::kNone);
  EXPECT_EQ(ReasonWithText("splic"), Reason::kNone);
  EXPECT_STREQ(ReasonText(static_cast<Reason>(kReasonCount)), "");
}

TEST(ReasonsTest, WordsStandAtTheirOwnReason) {
  EXPECT_STREQ(ReasonText(Reason::kNotHotYet), "not hot yet");
  EXPECT_STREQ(ReasonText(Reason::kSplice), "splice");
  EXPECT_EQ(ReasonDuration(Reason::kSplice), ReasonLasts::kForGood);
  EXPECT_EQ(ReasonDuration(Reason::kUrgentData), ReasonLasts::kCall);
  EXPECT_STREQ(ReasonText(Reason::kJump), "a call was left by a jump");
}

TEST(ReasonsTest, EachRefusalOfTheWireIsAReason) {
  std::set<Reason> seen;
  for (uint32_t refusal = 0; refusal < static_cast<uint32_t>(RefusalReason::kCount); ++refusal) {
    EXPECT_NE(ReasonOfRefusal(refusal), Reason::kRefused) << refusal;
    EXPECT_TRUE(seen.insert(ReasonOfRefusal(refusal)).second) << refusal;
  }
  // Of a peer that knows more than we do.
  EXPECT_EQ(ReasonOfRefusal(static_cast<uint32_t>(RefusalReason::kCount)), Reason::kRefused);
  EXPECT_EQ(ReasonOfRefusal(~0u), Reason::kRefused);
  // The numbers are sent.
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kUnknownConnection), 0u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kByConfiguration), 1u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kNotAllowed), 2u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kBusy), 3u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kNoResources), 4u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kNotFound), 5u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kMoving), 6u);
  EXPECT_EQ(static_cast<uint32_t>(RefusalReason::kSuspended), 7u);
}

}  // namespace
}  // namespace xenloop
