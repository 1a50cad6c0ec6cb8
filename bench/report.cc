// Medians, ratios and verdicts; the printing is in report_text.cc.
#include "bench/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace xenloop::bench {
namespace {

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Row MakeRow(const CaseInfo& info, const std::string& carrier, const std::vector<Sample>& samples) {
  Row row;
  row.carrier = carrier;
  std::vector<double>& values = row.values;
  std::vector<double> p99s;
  for (const Sample& sample : samples) {
    if (sample.case_id != info.id || sample.carrier != carrier) continue;
    if (!sample.problem.empty()) {
      row.problem = sample.problem;
      continue;
    }
    values.push_back(sample.value);
    p99s.push_back(sample.p99);
    row.routes.processes += sample.routes.processes;
    row.routes.connections += sample.routes.connections;
    row.routes.upgraded += sample.routes.upgraded;
    row.routes.fifo_sent += sample.routes.fifo_sent;
    row.routes.tcp_sent += sample.routes.tcp_sent;
    for (const auto& [name, figure] : sample.extra) {
      const auto [at, added] = row.extra.emplace(name, figure);
      if (!added) at->second = std::max(at->second, figure);
    }
  }
  row.repetitions = static_cast<int>(values.size());
  if (values.empty()) return row;
  row.value = Median(values);
  row.p99 = Median(p99s);
  row.lowest = *std::min_element(values.begin(), values.end());
  row.highest = *std::max_element(values.begin(), values.end());
  const auto sent = static_cast<double>(row.routes.fifo_sent + row.routes.tcp_sent);
  if (row.routes.processes > 0 && sent > 0) {
    row.fifo_part = static_cast<double>(row.routes.fifo_sent) / sent;
  }
  row.not_accelerated = carrier == kXenloop && info.accelerated && row.fifo_part.value_or(0) < 0.5;
  return row;
}

Verdict Judge(const Table& table, const Goal& goal) {
  Verdict verdict{goal, "not measured", std::nullopt};
  const Row* subject = table.Find(goal.subject);
  if (subject == nullptr || subject->repetitions == 0) return verdict;
  const auto extra = subject->extra.find(goal.other);
  const double figure = extra == subject->extra.end() ? 0 : extra->second;
  switch (goal.kind) {
    case Goal::Kind::kTimesAsGoodAs: {
      const std::optional<double> times = table.TimesAsGood(*subject, goal.other);
      if (!times) return verdict;
      verdict.reached = absl::StrCat(FormatValue(*times), "x");
      verdict.ok = *times >= goal.bound;
      break;
    }
    case Goal::Kind::kBelow:
      verdict.reached = absl::StrCat(FormatValue(subject->value), " ", table.info.unit);
      verdict.ok = subject->value < goal.bound;
      break;
    case Goal::Kind::kAddedAtMost: {
      const Row* other = table.Find(goal.other);
      if (other == nullptr || other->repetitions == 0) return verdict;
      const double added = subject->value - other->value;
      verdict.reached = absl::StrFormat("%+.3f %s", added, table.info.unit);
      verdict.ok = added <= goal.bound;
      break;
    }
    case Goal::Kind::kNoneOf:
      verdict.reached = absl::StrFormat("%.0f %s", figure, goal.other);
      verdict.ok = figure == 0;
      break;
    case Goal::Kind::kAtLeast:
      verdict.reached = absl::StrFormat("%.0f %s", figure, goal.other);
      verdict.ok = figure >= goal.bound;
      break;
    case Goal::Kind::kAtMost:
      if (extra == subject->extra.end()) return verdict;
      verdict.reached = absl::StrFormat("%.3f", figure);
      verdict.ok = figure <= goal.bound;
      break;
  }
  const bool of_speed = goal.kind != Goal::Kind::kNoneOf && goal.kind != Goal::Kind::kAtLeast;
  if (subject->not_accelerated && of_speed) {
    verdict.reached += ", not accelerated";
    verdict.ok = false;
  }
  return verdict;
}

}  // namespace

const Row* Table::Find(const std::string& carrier) const {
  for (const Row& row : rows) {
    if (row.carrier == carrier) return &row;
  }
  return nullptr;
}

std::optional<double> Table::TimesAsGood(const Row& row, const std::string& other) const {
  if (!info.has_ratios) return std::nullopt;
  const Row* base = Find(other);
  if (base == nullptr || base->repetitions == 0 || row.repetitions == 0) return std::nullopt;
  const auto times = [this](double value, double base_value) {
    const double better = info.lower_is_better ? base_value : value;
    const double worse = info.lower_is_better ? value : base_value;
    return worse > 0 ? better / worse : 0;
  };
  if (row.values.size() != base->values.size()) return times(row.value, base->value);
  std::vector<double> all;
  for (size_t i = 0; i < row.values.size(); ++i) {
    all.push_back(times(row.values[i], base->values[i]));
  }
  const double middle = Median(std::move(all));
  if (middle <= 0) return std::nullopt;
  return middle;
}

std::vector<Table> MakeTables(const std::vector<Sample>& samples) {
  std::vector<std::string> ids;
  for (const CaseInfo& info : Catalog()) ids.push_back(info.id);
  for (const Sample& sample : samples) {
    if (std::find(ids.begin(), ids.end(), sample.case_id) == ids.end()) {
      ids.push_back(sample.case_id);
    }
  }
  std::vector<Table> tables;
  for (const std::string& id : ids) {
    Table table;
    table.info = FindCase(id);
    for (const Sample& sample : samples) {
      if (sample.case_id != id || table.Find(sample.carrier) != nullptr) continue;
      table.rows.push_back(MakeRow(table.info, sample.carrier, samples));
    }
    if (table.rows.empty()) continue;
    for (const Goal& goal : table.info.goals) table.verdicts.push_back(Judge(table, goal));
    tables.push_back(std::move(table));
  }
  return tables;
}

nlohmann::json TablesToJson(const std::vector<Table>& tables) {
  nlohmann::json all = nlohmann::json::array();
  for (const Table& table : tables) {
    nlohmann::json rows = nlohmann::json::array();
    for (const Row& row : table.rows) {
      nlohmann::json json = {{"carrier", row.carrier}, {"repetitions", row.repetitions},
                             {"median", row.value},    {"values", row.values},
                             {"lowest", row.lowest},   {"highest", row.highest},
                             {"routes", row.routes},   {"not_accelerated", row.not_accelerated}};
      if (row.p99 > 0) json["p99"] = row.p99;
      if (row.fifo_part) json["fifo_part"] = *row.fifo_part;
      if (!row.extra.empty()) json["extra"] = row.extra;
      if (!row.problem.empty()) json["problem"] = row.problem;
      if (const auto times = table.TimesAsGood(row, table.Base())) json["times_tcp"] = *times;
      if (const auto times = table.TimesAsGood(row, kRing)) json["times_ring"] = *times;
      rows.push_back(std::move(json));
    }
    nlohmann::json verdicts = nlohmann::json::array();
    for (const Verdict& verdict : table.verdicts) {
      verdicts.push_back({{"level", verdict.goal.must ? "must" : "aim"},
                          {"goal", verdict.goal.text},
                          {"reached", verdict.reached},
                          {"ok", verdict.ok ? nlohmann::json(*verdict.ok) : nlohmann::json()}});
    }
    all.push_back({{"id", table.info.id},
                   {"title", table.info.title},
                   {"unit", table.info.unit},
                   {"lower_is_better", table.info.lower_is_better},
                   {"setup", table.info.setup},
                   {"rows", std::move(rows)},
                   {"goals", std::move(verdicts)}});
  }
  return all;
}

bool AllMeasured(const std::vector<Table>& tables) {
  for (const Table& table : tables) {
    for (const Row& row : table.rows) {
      // A rival that the kernel forbids is no failure: the table says why it is not there.
      if (!row.problem.empty() && row.carrier != kSockmap) return false;
      if (row.not_accelerated && row.routes.fifo_sent == 0) return false;
    }
  }
  return true;
}

bool AllMustsReached(const std::vector<Table>& tables) {
  for (const Table& table : tables) {
    for (const Verdict& verdict : table.verdicts) {
      if (verdict.goal.must && !verdict.ok.value_or(false)) return false;
    }
  }
  return true;
}

}  // namespace xenloop::bench
