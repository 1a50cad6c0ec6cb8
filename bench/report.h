// From samples to tables: medians over the repetitions, ratios, goals met or missed. The tables are
// printed here and drawn in svg.h.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/catalog.h"
#include "bench/machine.h"
#include "bench/sample.h"

namespace xenloop::bench {

struct Row {
  std::string carrier;
  int repetitions = 0;         // that gave a value
  std::vector<double> values;  // of the repetitions, in their order
  double value = 0;            // median
  double lowest = 0;
  double highest = 0;
  double p99 = 0;  // median; 0: none
  RouteBytes routes;
  std::optional<double> fifo_part;  // of the bytes sent
  bool not_accelerated = false;
  std::map<std::string, double> extra;  // the largest of each
  std::string problem;
};

struct Verdict {
  Goal goal;
  std::string reached;
  std::optional<bool> ok;  // empty: not measured
};

struct Table {
  CaseInfo info;
  std::vector<Row> rows;
  std::vector<Verdict> verdicts;

  const Row* Find(const std::string& carrier) const;
  // The carrier that the others are compared with: TCP, or UDP.
  const char* Base() const { return Find(kTcp) == nullptr && Find(kUdp) != nullptr ? kUdp : kTcp; }
  // How many times as good `row` is as the row of `other`: the median over the repetitions, since
  // the two values of one repetition met the same machine. Empty if either has no value, or the
  // case no ratios.
  std::optional<double> TimesAsGood(const Row& row, const std::string& other) const;
};

// In the order of the catalogue.
std::vector<Table> MakeTables(const std::vector<Sample>& samples);

std::string FormatValue(double value);
std::string FormatTables(const std::vector<Table>& tables);
// A line a case: for those who see it the first time.
std::string FormatSummary(const std::vector<Table>& tables);
nlohmann::json TablesToJson(const std::vector<Table>& tables);

// Nothing failed, and where FIFOs should have carried bytes they carried some: what even the
// shortest run on a busy machine can promise.
bool AllMeasured(const std::vector<Table>& tables);
bool AllMustsReached(const std::vector<Table>& tables);

}  // namespace xenloop::bench
