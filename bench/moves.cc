// Medians and verdicts of moves; see moves.h.
#include "bench/moves.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/report.h"

namespace xenloop::bench {
namespace {

constexpr double kRateWindowSeconds = 0.05;
constexpr double kAfterMoveSeconds =
    1.0;  // what happens so long after the resume is still the move's doing
constexpr double kSettlingSeconds = 0.2;  // rates of a phase are taken so long after its begin
constexpr double kMostExtraStall = 0.20;
constexpr const char* kMoves[] = {"arrival", "departure"};
constexpr const char* kPhases[] = {"elsewhere", "coresident", "gone"};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Median rate between two times.
double RateBetween(const MoveSample& sample, double begin, double end) {
  const std::vector<double> rates = RatesOf(sample, kRateWindowSeconds);
  std::vector<double> within;
  for (size_t i = 0; i < rates.size(); ++i) {
    const double at = static_cast<double>(i) * kRateWindowSeconds;
    if (at >= begin && at + kRateWindowSeconds <= end) within.push_back(rates[i]);
  }
  return Median(within);
}

struct Stalls {
  double longest = 0, before_freeze = 0, after_resume = 0;
};

Stalls StallsOf(const MoveSample& sample, const std::string& move) {
  const double prepare = MarkOf(sample, move + "-prepare");
  const double freeze = MarkOf(sample, move + "-freeze");
  const double resume = MarkOf(sample, move + "-resume");
  Stalls stalls;
  for (const auto& [begin, length_ms] : sample.pauses) {
    const double end = begin + length_ms / 1e3;
    if (end < prepare || begin > resume + kAfterMoveSeconds) continue;
    stalls.longest = std::max(stalls.longest, length_ms);
    if (end < freeze) stalls.before_freeze = std::max(stalls.before_freeze, length_ms);
    if (begin > resume) stalls.after_resume = std::max(stalls.after_resume, length_ms);
  }
  return stalls;
}

// In the order of the table.
std::vector<std::pair<std::string, double>> FiguresOf(const MoveSample& sample) {
  std::vector<std::pair<std::string, double>> figures;
  const double arrived =
      std::max(MarkOf(sample, "arrival-upgrade"), MarkOf(sample, "arrival-resume"));
  const double times[][2] = {
      {kSettlingSeconds, MarkOf(sample, "arrival-prepare")},
      {arrived + kSettlingSeconds, MarkOf(sample, "departure-prepare")},
      {MarkOf(sample, "departure-resume") + kSettlingSeconds, MarkOf(sample, "end")}};
  for (size_t i = 0; i < 3; ++i) {
    figures.emplace_back(absl::StrCat("rate ", kPhases[i], ", ", MoveUnit(sample.case_id)),
                         RateBetween(sample, times[i][0], times[i][1]));
  }
  for (const char* phase : kPhases) {
    const auto bytes = sample.fifo_bytes.find(phase);
    figures.emplace_back(absl::StrCat("by FIFO ", phase, ", MB"),
                         bytes == sample.fifo_bytes.end() ? 0 : bytes->second / 1e6);
  }
  for (const std::string move : kMoves) {
    const Stalls stalls = StallsOf(sample, move);
    figures.emplace_back(
        move + ": prepare to ready, ms",
        1e3 * (MarkOf(sample, move + "-ready") - MarkOf(sample, move + "-prepare")));
    const double upgrade = MarkOf(sample, move + "-upgrade");
    if (upgrade >= 0)
      figures.emplace_back(move + ": resume to upgrade, ms",
                           1e3 * (upgrade - MarkOf(sample, move + "-resume")));
    figures.emplace_back(move + ": longest stall, ms", stalls.longest);
    figures.emplace_back(move + ": stall before the freeze, ms", stalls.before_freeze);
    figures.emplace_back(move + ": stall after the resume, ms", stalls.after_resume);
  }
  return figures;
}

const MoveRow* FindRow(const MoveTable& table, const std::string& name) {
  const auto row = std::find_if(table.rows.begin(), table.rows.end(),
                                [&](const MoveRow& r) { return r.name == name; });
  return row == table.rows.end() ? nullptr : &*row;
}

void Judge(MoveTable* table) {
  for (const std::string move : kMoves) {
    const MoveRow* row = FindRow(*table, move + ": longest stall, ms");
    if (row == nullptr) continue;
    std::vector<double> extra;
    for (size_t i = 0; i < std::min(row->tcp.size(), row->xenloop.size()); ++i) {
      if (row->tcp[i] > 0) extra.push_back(row->xenloop[i] / row->tcp[i] - 1);
    }
    if (extra.empty()) continue;
    table->verdicts.push_back(
        {absl::StrFormat("must: extra stall against TCP in the %s at most 20 %%: %+.1f %%", move,
                         100 * Median(extra)),
         Median(extra) <= kMostExtraStall});
  }
  for (const char* phase : kPhases) {
    const MoveRow* row = FindRow(*table, absl::StrCat("by FIFO ", phase, ", MB"));
    if (row == nullptr || row->xenloop.empty()) continue;
    const bool wanted = std::string(phase) == "coresident";
    const auto [least, most] = std::minmax_element(row->xenloop.begin(), row->xenloop.end());
    table->verdicts.push_back(
        {absl::StrCat("must: ", wanted ? "bytes" : "no byte", " by FIFO while ", phase),
         wanted ? *least > 0 : *most == 0});
  }
}

void ChooseShown(MoveTable* table, const std::vector<MoveSample>& samples) {
  for (const char* carrier : {kTcp, kXenloop}) {
    std::vector<std::pair<double, const MoveSample*>> by_rate;
    for (const MoveSample& sample : samples) {
      if (sample.case_id == table->case_id && sample.carrier == carrier && sample.problem.empty())
        by_rate.emplace_back(FiguresOf(sample)[1].second, &sample);
    }
    std::sort(by_rate.begin(), by_rate.end());
    if (!by_rate.empty()) table->shown.push_back(by_rate[by_rate.size() / 2].second);
  }
}

std::string Cell(const std::vector<double>& values) {
  if (values.empty()) return "-";
  return absl::StrFormat("%s (%s - %s)", FormatValue(Median(values)),
                         FormatValue(*std::min_element(values.begin(), values.end())),
                         FormatValue(*std::max_element(values.begin(), values.end())));
}

absl::StatusOr<MoveSample> ParseSample(const std::string& line) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return absl::DataLossError("a line is no sample");
  MoveSample sample;
  sample.case_id = json.value("case", "");
  sample.carrier = json.value("carrier", "");
  sample.problem = json.value("problem", "");
  const nlohmann::json timeline = json.value("timeline", nlohmann::json());
  if (!timeline.is_object()) {
    if (sample.problem.empty()) sample.problem = "no result";
    return sample;
  }
  const double begin = timeline.value("epoch_s", 0.0);
  sample.marks = json.value("marks", std::map<std::string, double>());
  for (auto& [name, time] : sample.marks) time -= begin;
  sample.fifo_bytes = json.value("fifo_bytes", std::map<std::string, double>());
  sample.window_s = timeline.value("window_s", 0.01);
  sample.operations = timeline.value("operations", std::vector<double>());
  sample.pauses = timeline.value("pauses", std::vector<std::pair<double, double>>());
  return sample;
}

}  // namespace

std::string MoveTitle(const std::string& case_id) {
  return absl::StrCat(absl::StartsWith(case_id, "rtt") ? "64 B request and answer, blocking"
                                                       : "Stream of 64 KiB pieces to the guest",
                      absl::EndsWith(case_id, "-two") ? "; two cores" : "; both ends on one core");
}

const char* MoveUnit(const std::string& case_id) {
  return absl::StartsWith(case_id, "rtt") ? "transactions/s" : "pieces/s";
}

double MarkOf(const MoveSample& sample, const std::string& name) {
  const auto mark = sample.marks.find(name);
  return mark == sample.marks.end() ? -1 : mark->second;
}

std::vector<double> RatesOf(const MoveSample& sample, double window_s) {
  const auto together =
      std::max<size_t>(1, static_cast<size_t>(std::lround(window_s / sample.window_s)));
  std::vector<double> rates((sample.operations.size() + together - 1) / together);
  for (size_t i = 0; i < sample.operations.size(); ++i)
    rates[i / together] += sample.operations[i] / window_s;
  return rates;
}

absl::StatusOr<std::vector<MoveSample>> ReadMoveSamples(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::vector<MoveSample> samples;
  for (std::string line; std::getline(file, line);) {
    absl::StatusOr<MoveSample> sample = ParseSample(line);
    if (!sample.ok()) return sample.status();
    samples.push_back(*std::move(sample));
  }
  return samples;
}

std::vector<MoveTable> MakeMoveTables(const std::vector<MoveSample>& samples) {
  std::vector<MoveTable> tables;
  for (const MoveSample& sample : samples) {
    auto table = std::find_if(tables.begin(), tables.end(),
                              [&](const MoveTable& t) { return t.case_id == sample.case_id; });
    if (table == tables.end()) {
      tables.push_back({sample.case_id, {}, {}, {}, {}});
      table = tables.end() - 1;
    }
    if (!sample.problem.empty()) {
      table->problems.push_back(absl::StrCat(sample.carrier, ": ", sample.problem));
      continue;
    }
    const bool ours = sample.carrier == kXenloop;
    for (const auto& figure : FiguresOf(sample)) {
      const auto& [name, value] = figure;
      auto row = std::find_if(table->rows.begin(), table->rows.end(),
                              [&](const MoveRow& r) { return r.name == figure.first; });
      if (row == table->rows.end()) {
        table->rows.push_back({name, {}, {}});
        row = table->rows.end() - 1;
      }
      (ours ? row->xenloop : row->tcp).push_back(value);
    }
  }
  for (MoveTable& table : tables) {
    Judge(&table);
    ChooseShown(&table, samples);
  }
  return tables;
}

std::string FormatMoveTables(const std::vector<MoveTable>& tables) {
  std::string text = "medians (lowest - highest); pauses below 1 ms count as none\n";
  for (const MoveTable& table : tables) {
    absl::StrAppend(&text, absl::StrFormat("\n%s\n  %-38s %30s %30s\n", MoveTitle(table.case_id),
                                           "", kTcp, kXenloop));
    for (const MoveRow& row : table.rows) {
      absl::StrAppend(&text, absl::StrFormat("  %-38s %30s %30s\n", row.name, Cell(row.tcp),
                                             Cell(row.xenloop)));
    }
    for (const MoveVerdict& verdict : table.verdicts) {
      absl::StrAppend(&text, "    ", verdict.text, verdict.ok ? "  ok\n" : "  MISSED\n");
    }
    for (const std::string& problem : table.problems)
      absl::StrAppend(&text, "    FAILED ", problem, "\n");
  }
  return text;
}

nlohmann::json MoveTablesToJson(const std::vector<MoveTable>& tables) {
  nlohmann::json all = nlohmann::json::array();
  for (const MoveTable& table : tables) {
    nlohmann::json rows = nlohmann::json::array();
    for (const MoveRow& row : table.rows) {
      rows.push_back({{"name", row.name},
                      {kTcp, {{"median", Median(row.tcp)}, {"values", row.tcp}}},
                      {kXenloop, {{"median", Median(row.xenloop)}, {"values", row.xenloop}}}});
    }
    nlohmann::json verdicts = nlohmann::json::array();
    for (const MoveVerdict& verdict : table.verdicts)
      verdicts.push_back({{"text", verdict.text}, {"ok", verdict.ok}});
    nlohmann::json shown = nlohmann::json::array();
    for (const MoveSample* sample : table.shown) {
      shown.push_back({{"carrier", sample->carrier},
                       {"marks", sample->marks},
                       {"window_s", kRateWindowSeconds},
                       {"rates", RatesOf(*sample, kRateWindowSeconds)}});
    }
    all.push_back({{"case", table.case_id},
                   {"title", MoveTitle(table.case_id)},
                   {"rows", rows},
                   {"verdicts", verdicts},
                   {"problems", table.problems},
                   {"shown", shown}});
  }
  return all;
}

bool AllMoved(const std::vector<MoveTable>& tables) {
  return !tables.empty() && std::all_of(tables.begin(), tables.end(), [](const MoveTable& table) {
    return table.problems.empty() && table.shown.size() == 2;
  });
}

bool AllMoveMustsReached(const std::vector<MoveTable>& tables) {
  return AllMoved(tables) && std::all_of(tables.begin(), tables.end(), [](const MoveTable& table) {
           return std::all_of(table.verdicts.begin(), table.verdicts.end(),
                              [](const MoveVerdict& v) { return v.ok; });
         });
}

}  // namespace xenloop::bench
