// From the samples of bench/migration to a table, JSON and a picture: what a connection sees of its
// guest's planned moves, with the library beside plain TCP.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace xenloop::bench {

// One run. Times are seconds since the connection began.
struct MoveSample {
  std::string case_id;
  std::string carrier;
  std::string problem;  // not empty: worth nothing, and this is why
  std::map<std::string, double> marks;
  std::map<std::string, double> fifo_bytes;  // by phase
  double window_s = 0;
  std::vector<double> operations;                 // in each window
  std::vector<std::pair<double, double>> pauses;  // begin, and length in ms
};

struct MoveRow {
  std::string name;
  std::vector<double> tcp, xenloop;  // of the repetitions
};

struct MoveVerdict {
  std::string text;
  bool ok = false;
};

struct MoveTable {
  std::string case_id;
  std::vector<MoveRow> rows;
  std::vector<MoveVerdict> verdicts;
  std::vector<std::string> problems;
  // For the picture: of each carrier the run with the median rate while the guest is there.
  std::vector<const MoveSample*> shown;
};

std::string MoveTitle(const std::string& case_id);
const char* MoveUnit(const std::string& case_id);
double MarkOf(const MoveSample& sample, const std::string& name);  // -1: there is none
// Operations a second in windows of that length.
std::vector<double> RatesOf(const MoveSample& sample, double window_s);

absl::StatusOr<std::vector<MoveSample>> ReadMoveSamples(const std::string& path);
// Points into `samples`.
std::vector<MoveTable> MakeMoveTables(const std::vector<MoveSample>& samples);
std::string FormatMoveTables(const std::vector<MoveTable>& tables);
nlohmann::json MoveTablesToJson(const std::vector<MoveTable>& tables);
bool AllMoved(const std::vector<MoveTable>& tables);  // no run failed
bool AllMoveMustsReached(const std::vector<MoveTable>& tables);

std::string DrawMoves(const std::vector<MoveTable>& tables, const std::string& title,
                      const std::string& machine);

}  // namespace xenloop::bench
