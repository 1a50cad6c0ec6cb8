// What one repetition measured. A sample is one JSON line; samples of several runs (this program,
// bench/programs) are put together by report.h.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace xenloop::bench {

// The carriers, as they are called in every table.
inline constexpr char kTcp[] = "TCP";
inline constexpr char kUdp[] = "UDP";  // what TCP is elsewhere, to the cases of UDP
inline constexpr char kUnix[] = "UNIX socket";
inline constexpr char kRing[] = "raw ring";
inline constexpr char kSockmap[] = "sockmap redirect";
inline constexpr char kXenloop[] = "libxenloop";

// What the library's processes sent, by route (from their XENLOOP_STATS lines): bytes, and
// datagrams.
struct RouteBytes {
  int64_t processes = 0;  // that wrote a line
  int64_t connections = 0;
  int64_t upgraded = 0;
  int64_t fifo_sent = 0;
  int64_t tcp_sent = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(RouteBytes, processes, connections, upgraded,
                                                fifo_sent, tcp_sent)

struct Sample {
  std::string case_id;
  std::string carrier;
  double value = 0;
  double p99 = 0;  // 0: none
  RouteBytes routes;
  std::map<std::string, double> extra;
  std::string problem;  // not empty: there is no value, and this is why
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Sample, case_id, carrier, value, p99, routes, extra,
                                                problem)

// The sum over all lines of a XENLOOP_STATS file; zeros if there is none.
RouteBytes SumStats(const std::string& path);

absl::Status AppendSample(const std::string& path, const Sample& sample);
absl::StatusOr<std::vector<Sample>> ReadSamples(const std::string& path);

}  // namespace xenloop::bench
