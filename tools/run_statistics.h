// Sums the lines that processes leave in the XENLOOP_STATS file when they end, and prints them.

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace xenloop::tools {

struct RunStatistics {
  uint64_t processes = 0;  // that had a TCP connection and lived to write their line
  uint64_t connections = 0;
  uint64_t upgraded = 0;
  uint64_t fifo_sent = 0;
  uint64_t fifo_received = 0;
  uint64_t tcp_sent = 0;
  uint64_t tcp_received = 0;
  std::map<std::string, uint64_t> fallbacks;       // by reason
  std::map<std::string, uint64_t> never_upgraded;  // connections that have ended, by reason
  uint64_t garbled_lines = 0;
};

// Total over bytes: a line that is no JSON object with "connections" counts as garbled.
RunStatistics SumStatistics(absl::string_view lines);

std::string StatisticsTable(const RunStatistics& statistics, absl::string_view program);
std::string StatisticsJson(const RunStatistics& statistics);

}  // namespace xenloop::tools
