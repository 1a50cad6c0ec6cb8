// The tables as a terminal shows them. The message-size sweep is one table: a line a size.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/report.h"

namespace xenloop::bench {
namespace {

std::string Times(const Table& table, const Row& row, const char* other) {
  const std::optional<double> times = table.TimesAsGood(row, other);
  return times && row.carrier != other ? absl::StrCat(FormatValue(*times), "x") : "";
}

std::string FifoPart(const Row& row) {
  return row.fifo_part ? absl::StrFormat("%.1f %%", *row.fifo_part * 100) : "";
}

// Such as "  connections 1000, lost 0".
std::string FormatExtra(const Row& row) {
  std::string text;
  for (const auto& [name, figure] : row.extra) {
    absl::StrAppend(
        &text, text.empty() ? "  " : ", ", name, " ",
        figure == std::floor(figure) ? absl::StrFormat("%.0f", figure) : FormatValue(figure));
  }
  return text;
}

std::string FormatTable(const Table& table) {
  bool has_p99 = false;
  bool has_ring = table.Find(kRing) != nullptr;
  for (const Row& row : table.rows) has_p99 |= row.p99 > 0;
  std::string text =
      absl::StrFormat("\n%s\n  %s; %s is better; %s\n", table.info.title, table.info.unit,
                      table.info.lower_is_better ? "less" : "more", table.info.setup);
  absl::StrAppend(
      &text, absl::StrFormat("  %-22s %10s %10s %21s %8s %8s %8s\n", "", has_p99 ? "p50" : "median",
                             has_p99 ? "p99" : "", "range", absl::StrCat("vs ", table.Base()),
                             has_ring ? "vs ring" : "", "by FIFO"));
  for (const Row& row : table.rows) {
    if (row.repetitions == 0) {
      absl::StrAppend(&text, absl::StrFormat("  %-22s %s\n", row.carrier, row.problem));
      continue;
    }
    std::string line =
        absl::StrFormat("  %-22s %10s %10s %21s %8s %8s %8s", row.carrier, FormatValue(row.value),
                        row.p99 > 0 ? FormatValue(row.p99) : "",
                        absl::StrCat(FormatValue(row.lowest), " - ", FormatValue(row.highest)),
                        Times(table, row, table.Base()), Times(table, row, kRing), FifoPart(row));
    if (row.not_accelerated) absl::StrAppend(&line, "  NOT ACCELERATED");
    if (!row.problem.empty()) absl::StrAppend(&line, "  some failed: ", row.problem);
    line.erase(line.find_last_not_of(' ') + 1);
    if (!row.extra.empty()) absl::StrAppend(&line, "\n  ", std::string(22, ' '), FormatExtra(row));
    absl::StrAppend(&text, line, "\n");
  }
  for (const Verdict& verdict : table.verdicts) {
    absl::StrAppend(&text,
                    absl::StrFormat("    %-4s %-44s %-24s %s\n", verdict.goal.must ? "must" : "aim",
                                    verdict.goal.text, verdict.reached,
                                    verdict.ok ? (*verdict.ok ? "ok" : "MISS") : "-"));
  }
  return text;
}

int SweepWidthOf(const std::string& carrier) {
  return std::max(11, static_cast<int>(carrier.size()));
}

std::string FormatSweep(const std::vector<const Table*>& sizes) {
  const CaseInfo& info = sizes[0]->info;
  std::string text = absl::StrFormat("\n%s\n  %s; %s is better; %s\n", info.title, info.unit,
                                     info.lower_is_better ? "less" : "more", info.setup);
  absl::StrAppend(&text, absl::StrFormat("  %-22s", "size"));
  for (const Row& row : sizes[0]->rows) {
    absl::StrAppend(&text, absl::StrFormat(" %*s", SweepWidthOf(row.carrier), row.carrier));
  }
  absl::StrAppend(&text, absl::StrFormat(" %8s %8s %8s\n", "vs TCP", "vs ring", "by FIFO"));
  for (const Table* table : sizes) {
    std::string line = absl::StrFormat("  %-22s", SweepSizeOf(table->info.id));
    for (const Row& column : sizes[0]->rows) {
      const Row* row = table->Find(column.carrier);
      absl::StrAppend(&line, absl::StrFormat(" %*s", SweepWidthOf(column.carrier),
                                             row == nullptr          ? ""
                                             : row->repetitions == 0 ? "failed"
                                                                     : FormatValue(row->value)));
    }
    if (const Row* ours = table->Find(kXenloop); ours != nullptr && ours->repetitions > 0) {
      absl::StrAppend(&line,
                      absl::StrFormat(" %8s %8s %8s", Times(*table, *ours, table->Base()),
                                      Times(*table, *ours, kRing), FifoPart(*ours)),
                      ours->not_accelerated ? "  NOT ACCELERATED" : "");
    } else if (ours != nullptr) {
      absl::StrAppend(&line, "  ", ours->problem);
    }
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

constexpr const char* kColumns[] = {kTcp, kUnix, kRing, kXenloop};

int WidthOf(const std::string& carrier) { return std::max(8, static_cast<int>(carrier.size())); }

}  // namespace

std::string FormatSummary(const std::vector<Table>& tables) {
  int width = 0;
  for (const Table& table : tables) {
    width = std::max(width, static_cast<int>(table.info.title.size() + table.info.unit.size()) + 2);
  }
  std::string text = absl::StrFormat("\n  %-*s", width, "");
  for (const char* carrier : kColumns) {
    absl::StrAppend(&text, absl::StrFormat(" %*s", WidthOf(carrier), carrier));
  }
  absl::StrAppend(&text, absl::StrFormat(" %8s %8s\n", "vs TCP", "by FIFO"));
  for (const Table& table : tables) {
    std::string line =
        absl::StrFormat("  %-*s", width, absl::StrCat(table.info.title, ", ", table.info.unit));
    for (const char* carrier : kColumns) {
      const Row* row = table.Find(carrier == std::string(kTcp) ? table.Base() : carrier);
      const std::string value = row == nullptr          ? "-"
                                : row->repetitions == 0 ? "failed"
                                                        : FormatValue(row->value);
      absl::StrAppend(&line, absl::StrFormat(" %*s", WidthOf(carrier), value));
    }
    if (const Row* ours = table.Find(kXenloop); ours != nullptr) {
      absl::StrAppend(
          &line, absl::StrFormat(" %8s %8s", Times(table, *ours, table.Base()), FifoPart(*ours)),
          ours->not_accelerated ? "  NOT ACCELERATED" : "",
          ours->problem.empty() ? "" : absl::StrCat("  ", ours->problem));
    }
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string FormatValue(double value) {
  const double size = std::fabs(value);
  if (size >= 100000) return absl::StrFormat("%.0fk", value / 1000);
  if (size >= 100) return absl::StrFormat("%.0f", value);
  if (size >= 10) return absl::StrFormat("%.1f", value);
  if (size >= 1 || value == 0) return absl::StrFormat("%.2f", value);
  return absl::StrFormat("%.3f", value);
}

std::string FormatTables(const std::vector<Table>& tables) {
  std::string text;
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string sweep = SweepOf(tables[i].info.id);
    if (sweep.empty()) {
      absl::StrAppend(&text, FormatTable(tables[i]));
      continue;
    }
    std::vector<const Table*> sizes = {&tables[i]};
    while (i + 1 < tables.size() && SweepOf(tables[i + 1].info.id) == sweep)
      sizes.push_back(&tables[++i]);
    absl::StrAppend(&text, FormatSweep(sizes));
  }
  return text;
}

}  // namespace xenloop::bench
