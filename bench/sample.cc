// Files of samples and of XENLOOP_STATS lines; see sample.h.
#include "bench/sample.h"

#include <fstream>

#include "absl/strings/str_cat.h"

namespace xenloop::bench {

RouteBytes SumStats(const std::string& path) {
  RouteBytes sum;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json stats = nlohmann::json::parse(line, nullptr, false);
    if (!stats.is_object()) continue;
    sum.processes += 1;
    sum.connections += stats.value("connections", int64_t{0});
    sum.upgraded += stats.value("upgraded", int64_t{0});
    sum.fifo_sent += stats.value("fifo_sent", int64_t{0});
    sum.tcp_sent += stats.value("tcp_sent", int64_t{0});
    const auto datagrams = stats.find("datagrams");
    if (datagrams == stats.end() || !datagrams->is_object()) continue;
    sum.connections += 1;
    sum.upgraded += datagrams->value("upgrades", int64_t{0});
    sum.fifo_sent += datagrams->value("fifo_sent", int64_t{0});
    sum.tcp_sent += datagrams->value("kernel_sent", int64_t{0});
  }
  return sum;
}

absl::Status AppendSample(const std::string& path, const Sample& sample) {
  std::ofstream file(path, std::ios::app);
  file << nlohmann::json(sample).dump() << std::endl;
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Sample>> ReadSamples(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::vector<Sample> samples;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) return absl::DataLossError(absl::StrCat("not a sample in ", path));
    samples.push_back(json.get<Sample>());
  }
  return samples;
}

}  // namespace xenloop::bench
