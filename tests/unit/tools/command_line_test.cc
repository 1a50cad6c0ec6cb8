// What belongs to the tool and what to the program it runs.

#include "tools/command_line.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Words = std::vector<std::string>;

TEST(CommandLine, OptionsOfTheProgramAreTheProgramsOwn) {
  const auto line = SplitCommandLine({"run", "redis-server", "--port", "1", "--stats", "--help"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->command, "run");
  EXPECT_THAT(line->options, IsEmpty());
  EXPECT_THAT(line->operands, ElementsAre("redis-server", "--port", "1", "--stats", "--help"));
}

TEST(CommandLine, OptionsBeforeTheProgramAreOurs) {
  const auto line = SplitCommandLine({"run", "--stats", "--json", "ab", "-n", "1", "--", "x"});
  ASSERT_TRUE(line.ok());
  EXPECT_THAT(line->options, ElementsAre("--stats", "--json"));
  EXPECT_THAT(line->operands, ElementsAre("ab", "-n", "1", "--", "x"));
}

TEST(CommandLine, DoubleDashEndsOurOptionsAndDisappearsOnce) {
  const auto line = SplitCommandLine({"run", "--stats", "--", "--odd-program", "--", "--stats"});
  ASSERT_TRUE(line.ok());
  EXPECT_THAT(line->operands, ElementsAre("--odd-program", "--", "--stats"));
}

TEST(CommandLine, EmptyWordsOfTheProgramSurvive) {
  const auto line = SplitCommandLine({"run", "printf", "", " "});
  ASSERT_TRUE(line.ok());
  EXPECT_THAT(line->operands, ElementsAre("printf", "", " "));
}

TEST(CommandLine, HelpAndVersionInEverySpelling) {
  EXPECT_EQ(SplitCommandLine({"--help"})->command, "help");
  EXPECT_EQ(SplitCommandLine({"-h"})->command, "help");
  EXPECT_EQ(SplitCommandLine({"--version"})->command, "version");
  EXPECT_THAT(SplitCommandLine({"stat", "--json", "--help"})->operands, ElementsAre("stat"));
  EXPECT_THAT(SplitCommandLine({"help", "doctor"})->operands, ElementsAre("doctor"));
}

TEST(CommandLine, DoctorTakesAWholeCommand) {
  const auto line = SplitCommandLine({"doctor", "redis-server", "--port", "1"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->operands[0], "redis-server");
}

TEST(CommandLine, WrongUsageNamesTheHelpToRead) {
  EXPECT_THAT(std::string(SplitCommandLine({}).status().message()), HasSubstr("xenloop --help"));
  for (const Words& words :
       {Words{"run"}, Words{"run", "--stats"}, Words{"run", "--watch", "x"},
        Words{"run", "--flagfile=/etc/passwd", "x"}, Words{"stat", "extra"},
        Words{"stat", "--stats"}, Words{"stat", "--json=maybe"}, Words{"stat", "--interval"},
        Words{"stat", "--interval=soon"}, Words{"off", "--json"}, Words{"on", "now"}}) {
    const auto line = SplitCommandLine(words);
    ASSERT_FALSE(line.ok()) << testing::PrintToString(words);
    EXPECT_THAT(std::string(line.status().message()), HasSubstr("xenloop " + words[0] + " --help"));
  }
  EXPECT_THAT(std::string(SplitCommandLine({"redis-server"}).status().message()),
              HasSubstr("no command \"redis-server\""));
}

}  // namespace
}  // namespace xenloop::tools
