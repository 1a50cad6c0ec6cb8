// The parser of /etc/xenloop.conf: what it accepts, and how it names what it does not.

#include "tools/config_check.h"

#include <sys/stat.h>

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;

TEST(ConfigCheck, AcceptsEveryKeyWithCommentsAndBlanks) {
  const ConfigFile config = ParseConfig(
      "# the whole machine\n"
      "\n"
      "enabled = on\n"
      "  upgrade_after=0   # at once\n"
      "offers = accept\n"
      "udp = on\n"
      "park = on\n"
      "spin_us = 20\n"
      "fifo_bytes = 262144\n"
      "xen_fifo_bytes = 1048576\n"
      "other_users = system\n"
      "runtime_dir = /run/xenloop# here\r\n"
      "stats = /var/log/a b\n"
      "log = /x\n"
      "switch_every = 3\n"
      "test_points = 1");
  EXPECT_TRUE(config.problems.empty()) << config.problems[0].text;
  // A key that is new in preload/settings/keys.def must be written above as well.
  constexpr absl::string_view kKeys[] = {
#define KEY(name, kind, least, most, field) #name,
#include "preload/settings/keys.def"
#undef KEY
  };
  for (const absl::string_view key : kKeys) EXPECT_TRUE(config.Value(key)) << key;
  EXPECT_EQ(config.Value("upgrade_after"), "0");
  EXPECT_EQ(config.Value("runtime_dir"), "/run/xenloop");
  EXPECT_EQ(config.Value("stats"), "/var/log/a b");
}

struct BadLine {
  const char* line;
  const char* said;
};
class ConfigCheckBadLine : public testing::TestWithParam<BadLine> {};

TEST_P(ConfigCheckBadLine, IsReportedWithItsNumberAndCountsAsNotWritten) {
  const ConfigFile config = ParseConfig(std::string("enabled = on\n\n") + GetParam().line + "\n");
  ASSERT_EQ(config.problems.size(), 1u);
  EXPECT_EQ(config.problems[0].line, 3);
  EXPECT_THAT(config.problems[0].text, HasSubstr(GetParam().said));
  EXPECT_EQ(config.settings.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(
    , ConfigCheckBadLine,
    testing::Values(BadLine{"nonsense", "not of the form"}, BadLine{"= on", "unknown key"},
                    BadLine{"spin = 3", "unknown key \"spin\""},
                    BadLine{"Spin_us = 3", "keys are lower-case: spin_us"},
                    BadLine{"XENLOOP_SPIN_US = 3", "did you mean spin_us?"},
                    BadLine{"xenloop = off", "did you mean enabled?"},
                    BadLine{"spin_us =", "has no value"}, BadLine{"spin_us = # 3", "has no value"},
                    BadLine{"spin_us = fast", "not a whole number"},
                    BadLine{"spin_us = -3", "not a whole number"},
                    BadLine{"spin_us = +3", "not a whole number"},
                    BadLine{"spin_us = 3 us", "not a whole number"},
                    BadLine{"spin_us = 99999999999999999999", "not a whole number"},
                    BadLine{"fifo_bytes = 100000", "not a power of two"},
                    BadLine{"fifo_bytes = 0", "not between 4096 and 67108864"},
                    BadLine{"spin_us = 1000001", "not between"},
                    BadLine{"offers = maybe", "neither"}, BadLine{"test_points = 2", "neither"},
                    BadLine{"log = here", "not an absolute path"},
                    BadLine{"log = /a\x1b[31m", "control characters"},
                    BadLine{"offers = acc\rept", "control characters"},
                    BadLine{"spin_us = 3\f", "control characters"},
                    BadLine{"\vspin_us = 3", "control characters"}));

TEST(ConfigCheck, NulInACommentIsReportedForTheLibraryReadsNoFurther) {
  using namespace std::string_literals;
  EXPECT_EQ(ParseConfig("# \0\nspin_us = 3\n"s).problems.size(), 1u);
}

TEST(ConfigCheck, SettingTwiceIsAProblemAndTheLastCounts) {
  const ConfigFile config = ParseConfig("enabled = on\nenabled = off\n");
  ASSERT_EQ(config.problems.size(), 1u);
  EXPECT_EQ(config.problems[0].line, 2);
  EXPECT_EQ(config.Value("enabled"), "off");
}

TEST(ConfigCheck, RulesMayStandSeveralTimesAndAreJudgedByLine) {
  const ConfigFile config =
      ParseConfig("programs = nginx\nports = 80\nports = 90-70\nprograms = redis-server\n");
  ASSERT_EQ(config.problems.size(), 1u);
  EXPECT_EQ(config.problems[0].line, 3);
  EXPECT_STREQ(config.rules.problem, "not a port, or a range of ports");
  EXPECT_STREQ(config.rules.programs, "nginx redis-server ");
  EXPECT_FALSE(KeyOfVariable("XENLOOP_PROGRAMS"));  // the environment cannot widen them
}

TEST(ConfigCheck, MissingFileIsAnEmptyConfiguration) {
  const TemporaryDirectory directory;
  const ConfigFile config = ReadConfig(directory / "none");
  EXPECT_FALSE(config.exists);
  EXPECT_TRUE(config.problems.empty());
}

TEST(ConfigCheck, FileThatIsNoFileOrTooLongIsAProblemAndDoesNotBlock) {
  const TemporaryDirectory directory;
  ASSERT_EQ(mkfifo((directory / "fifo").c_str(), 0600), 0);
  for (const std::string& path :
       {directory / "fifo", directory.path(), directory.Write("long", std::string(100000, '\n'))}) {
    const ConfigFile config = ReadConfig(path);
    EXPECT_TRUE(config.exists) << path;
    ASSERT_EQ(config.problems.size(), 1u) << path;
    EXPECT_EQ(config.problems[0].line, 0);
  }
}

TEST(ConfigCheck, AnyBytesGiveProblemsWithPrintableText) {
  std::mt19937 random(20240607);
  for (int round = 0; round < 2000; ++round) {
    std::string text = "enabled = on\nspin_us = 20\n";
    for (int i = 0; i < 5; ++i) {
      text.insert(random() % (text.size() + 1), 1, static_cast<char>(random()));
    }
    for (const ConfigProblem& problem : ParseConfig(text).problems) {
      EXPECT_GE(problem.line, 1);
      for (const char c : problem.text) ASSERT_TRUE(c >= 0x20 && c < 0x7f) << "round " << round;
    }
  }
}

TEST(ConfigCheck, EveryWordForYesAndNoIsUnderstood) {
  EXPECT_EQ(OnOrOff("yes"), true);
  EXPECT_EQ(OnOrOff("0"), false);
  EXPECT_EQ(OnOrOff("ON"), std::nullopt);
  EXPECT_TRUE(ParseConfig("enabled = no\n").problems.empty());
}

TEST(ConfigCheck, VariablesHaveTheKeysOfTheFile) {
  EXPECT_EQ(KeyOfVariable("XENLOOP"), "enabled");
  EXPECT_EQ(KeyOfVariable("XENLOOP_FIFO_BYTES"), "fifo_bytes");
  EXPECT_EQ(KeyOfVariable("XENLOOP_NONSENSE"), std::nullopt);
  EXPECT_EQ(KeyOfVariable("PATH"), std::nullopt);
}

}  // namespace
}  // namespace xenloop::tools
