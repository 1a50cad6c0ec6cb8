// `xenloop stat`: the live streams of this machine as a table or as JSON, once or again and again.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "tools/agent_address.h"
#include "tools/agent_client.h"
#include "tools/snapshot.h"

namespace xenloop::tools {

// Bytes a second since the picture before, by stream; for --watch.
class RateMeter {
 public:
  // Call once for each picture, then RateOf() for its streams.
  void Update(const Snapshot& snapshot, double seconds_since_last);
  // 0 for a stream that is new.
  uint64_t RateOf(const StreamReport& stream) const;

 private:
  // The same descriptor with the same peer: the same stream, for a person who watches.
  using StreamKey = std::tuple<uint64_t, uint64_t, std::string, std::string>;
  static StreamKey KeyOf(const StreamReport& stream);

  std::map<StreamKey, uint64_t> totals_;
  std::map<StreamKey, uint64_t> rates_;
};

// `rates` may be null: then there is no RATE column.
std::string SnapshotTable(const Snapshot& snapshot, const RateMeter* rates);
// {"processes":[{..., "streams":[...]}], "notes":[...]}, on one line or indented.
std::string SnapshotJson(const Snapshot& snapshot, bool indented);

struct StatRequest {
  bool json = false;
  bool watch = false;
  double interval_seconds = 1;
  AgentPlaces places;
  AskLimits limits;
};

int RunStat(const StatRequest& request);

}  // namespace xenloop::tools
