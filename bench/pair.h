// One measurement: a server and a client process over one carrier. The library is in a process only
// where the measurement says so, and what it carried is read from its XENLOOP_STATS lines.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/sample.h"
#include "bench/worker.h"

namespace xenloop::bench {

// What holds for the whole run.
struct Setup {
  std::string program;    // this executable
  std::string library;    // empty: not built
  std::string directory;  // for sockets and stats, emptied by its owner
  std::vector<int> cpus;  // one or two
  int repetitions = 5;
  double warmup_seconds = 0.1;
  double seconds = 0.5;
  bool smoke = false;
};

// A carrier, and which ends have the library.
struct Carrier {
  std::string name;  // in the table
  std::string kind;  // "tcp", "udp", "unix", "ring" or "sockmap"
  bool server_preloaded = false;
  bool client_preloaded = false;
};

inline const Carrier kTcpCarrier = {kTcp, "tcp"};
inline const Carrier kUnixCarrier = {kUnix, "unix"};
inline const Carrier kRingCarrier = {kRing, "ring"};
inline const Carrier kSockmapCarrier = {kSockmap, "sockmap"};
inline const Carrier kUdpCarrier = {kUdp, "udp"};
inline const Carrier kXenloopUdpCarrier = {kXenloop, "udp", true, true};
inline const Carrier kXenloopCarrier = {kXenloop, "tcp", true, true};

struct PairResult {
  nlohmann::json figures;
  RouteBytes routes;
};

// Called where the client says that it has reached a phase; it goes on when this returns.
using PhaseObserver =
    std::function<absl::Status(const std::string& phase, pid_t server, pid_t client)>;

// `config` says the work; carrier, roles, cores and addresses are filled in here.
absl::StatusOr<PairResult> RunPair(const Setup& setup, const Carrier& carrier, bool two_cores,
                                   const WorkerConfig& config,
                                   const PhaseObserver& observer = nullptr);

}  // namespace xenloop::bench
