// Numbers, columns and foreign strings as people see them.

#include "tools/text_output.h"

#include <limits>

#include "gtest/gtest.h"

namespace xenloop::tools {
namespace {

TEST(TextOutput, BytesForPeople) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(1023800), "999.8 KiB");
  EXPECT_EQ(HumanBytes(1048575), "1.0 MiB");
  EXPECT_EQ(HumanBytes(5ull << 30), "5.0 GiB");
  EXPECT_EQ(HumanBytes(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
}

TEST(TextOutput, CountsWithTheirNoun) {
  EXPECT_EQ(Counted(0, "stream"), "0 streams");
  EXPECT_EQ(Counted(1, "process"), "1 process");
  EXPECT_EQ(Counted(2, "process"), "2 processes");
}

TEST(TextOutput, NothingFromOutsideReachesTheTerminalRaw) {
  EXPECT_EQ(Printable("a\x1b[31mb\n\t\x7f\xc2\x9b", 100), "a?[31mb?????");
  EXPECT_EQ(Printable("abcdef", 3), "abc");
  EXPECT_EQ(Printable(absl::string_view("a\0b", 3), 9), "a?b");
}

TEST(TextOutput, ColumnsLineUp) {
  TextTable table({"NAME", "N", "WHY"});
  table.RightAlign(1);
  table.AddRow({"a", "100", ""});
  table.AddRow({"longer", "7", "so"});
  EXPECT_EQ(table.ToString(),
            "NAME      N  WHY\n"
            "a       100\n"
            "longer    7  so\n");
}

}  // namespace
}  // namespace xenloop::tools
