// Sums of what processes report at their end, and how they are printed.

#include "tools/run_statistics.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;

constexpr char kMaster[] =
    R"({"pid":1,"program":"nginx","connections":3,"upgraded":2,"tcp_sent":100,"tcp_received":50,)"
    R"("fifo_sent":2048,"fifo_received":10,"fallbacks":{"splice":1,"not hot yet":1}})";
constexpr char kWorker[] =
    R"({"pid":2,"program":"nginx","connections":1,"upgraded":1,"tcp_sent":1,"tcp_received":2,)"
    R"("fifo_sent":3,"fifo_received":4,"fallbacks":{"splice":2}})";

TEST(RunStatistics, AddsUpProcesses) {
  const RunStatistics sum = SumStatistics(std::string(kMaster) + "\n" + kWorker + "\n");
  EXPECT_EQ(sum.processes, 2u);
  EXPECT_EQ(sum.connections, 4u);
  EXPECT_EQ(sum.upgraded, 3u);
  EXPECT_EQ(sum.fifo_sent, 2051u);
  EXPECT_EQ(sum.tcp_received, 52u);
  EXPECT_EQ(sum.fallbacks.at("splice"), 3u);
  EXPECT_EQ(sum.garbled_lines, 0u);
}

TEST(RunStatistics, GarbledLinesAreCountedAndDoNoHarm) {
  const RunStatistics sum =
      SumStatistics(std::string("nonsense\n\n{}\n{\"connections\":") + "\n" + kWorker + "\n" +
                    std::string("\xff\0\n", 3) + R"({"connections":"many","fallbacks":7})");
  EXPECT_EQ(sum.processes, 2u);
  EXPECT_EQ(sum.connections, 1u);
  EXPECT_EQ(sum.garbled_lines, 4u);
}

TEST(RunStatistics, HugeCountersSaturate) {
  const std::string line = R"({"connections":18446744073709551615,"fallbacks":{"x":)"
                           R"(18446744073709551615}})";
  const RunStatistics sum = SumStatistics(line + "\n" + line);
  EXPECT_EQ(sum.connections, std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(StatisticsTable(sum, "x"), HasSubstr("18446744073709551615"));
}

TEST(RunStatistics, TableHasEveryNumberForPeople) {
  const std::string table = StatisticsTable(SumStatistics(kMaster), "nginx");
  EXPECT_EQ(table,
            "xenloop: nginx       (1 process reported)\n"
            "  connections        3\n"
            "  upgraded           2\n"
            "  sent by FIFO       2.0 KiB\n"
            "  received by FIFO   10 B\n"
            "  sent by TCP        100 B\n"
            "  received by TCP    50 B\n"
            "  on TCP, by reason  2\n"
            "    not hot yet      1\n"
            "    splice           1\n");
}

TEST(RunStatistics, WithoutReportsTheTablePointsToTheDoctor) {
  EXPECT_THAT(StatisticsTable(SumStatistics(""), "ls"), HasSubstr("xenloop doctor ls"));
}

TEST(RunStatistics, JsonIsOneLine) {
  const std::string text = StatisticsJson(SumStatistics(kMaster));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_THAT(text, HasSubstr(R"("fifo_sent":2048)"));
  EXPECT_THAT(text, HasSubstr(R"("fallbacks":{"not hot yet":1,"splice":1})"));
}

}  // namespace
}  // namespace xenloop::tools
