// Sums and prints a run's statistics; see run_statistics.h.

#include "tools/run_statistics.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/agent_answer.h"
#include "tools/json_reading.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

using nlohmann::json;

void Add(const json& object, const char* key, uint64_t* sum) {
  *sum = SaturatingSum(*sum, NumberAt(object, key));
}

void AddReasons(const char* title, const std::map<std::string, uint64_t>& counts,
                TextTable* table) {
  uint64_t sum = 0;
  for (const auto& reason : counts) sum = SaturatingSum(sum, reason.second);
  table->AddRow({title, absl::StrCat(sum)});
  for (const auto& [reason, count] : counts)
    table->AddRow({absl::StrCat("    ", reason), absl::StrCat(count)});
}

}  // namespace

RunStatistics SumStatistics(absl::string_view lines) {
  RunStatistics sum;
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipWhitespace())) {
    const json object = ParseObject(line);
    if (object.is_discarded() || !object.contains("connections")) {
      ++sum.garbled_lines;
      continue;
    }
    ++sum.processes;
    Add(object, "connections", &sum.connections);
    Add(object, "upgraded", &sum.upgraded);
    Add(object, "fifo_sent", &sum.fifo_sent);
    Add(object, "fifo_received", &sum.fifo_received);
    Add(object, "tcp_sent", &sum.tcp_sent);
    Add(object, "tcp_received", &sum.tcp_received);
    AddCountsAt(object, "fallbacks", &sum.fallbacks);
    AddCountsAt(object, "never_upgraded", &sum.never_upgraded);
  }
  return sum;
}

std::string StatisticsTable(const RunStatistics& statistics, absl::string_view program) {
  std::string text;
  if (statistics.processes == 0) {
    absl::StrAppend(&text, "xenloop: no process of ", program,
                    " reported a TCP connection (a killed one cannot); `xenloop doctor ", program,
                    "` may say why\n");
  } else {
    TextTable table({absl::StrCat("xenloop: ", program),
                     absl::StrCat("(", Counted(statistics.processes, "process"), " reported)")});
    table.AddRow({"  connections", absl::StrCat(statistics.connections)});
    table.AddRow({"  upgraded", absl::StrCat(statistics.upgraded)});
    table.AddRow({"  sent by FIFO", HumanBytes(statistics.fifo_sent)});
    table.AddRow({"  received by FIFO", HumanBytes(statistics.fifo_received)});
    table.AddRow({"  sent by TCP", HumanBytes(statistics.tcp_sent)});
    table.AddRow({"  received by TCP", HumanBytes(statistics.tcp_received)});
    AddReasons("  on TCP, by reason", statistics.fallbacks, &table);
    if (!statistics.never_upgraded.empty())
      AddReasons("  never upgraded, by reason", statistics.never_upgraded, &table);
    absl::StrAppend(&text, table.ToString());
  }
  if (statistics.garbled_lines > 0) {
    absl::StrAppend(&text, "xenloop: ", Counted(statistics.garbled_lines, "line"),
                    " of the statistics not understood\n");
  }
  return text;
}

std::string StatisticsJson(const RunStatistics& statistics) {
  const json object = {{"processes", statistics.processes},
                       {"connections", statistics.connections},
                       {"upgraded", statistics.upgraded},
                       {"fifo_sent", statistics.fifo_sent},
                       {"fifo_received", statistics.fifo_received},
                       {"tcp_sent", statistics.tcp_sent},
                       {"tcp_received", statistics.tcp_received},
                       {"fallbacks", statistics.fallbacks},
                       {"never_upgraded", statistics.never_upgraded},
                       {"garbled_lines", statistics.garbled_lines}};
  return object.dump() + "\n";
}

}  // namespace xenloop::tools
