// Starting, listening to and ending the two workers of a measurement; see pair.h.
#include "bench/pair.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/process.h"
#include "bench/raw_ring.h"
#include "bench/sockmap.h"

namespace xenloop::bench {
namespace {

// Beyond what a measurement should take; then something hangs.
constexpr absl::Duration kPatience = absl::Seconds(60);

absl::StatusOr<Child> StartWorker(const Setup& setup, bool preloaded, const std::string& stats,
                                  const WorkerConfig& config) {
  std::vector<std::string> additions;
  if (preloaded) {
    additions = {absl::StrCat("LD_PRELOAD=", setup.library), absl::StrCat("XENLOOP_STATS=", stats)};
    if (config.carrier == "udp") additions.push_back("XENLOOP_UDP=on");
  }
  return Child::Start({setup.program, "worker", nlohmann::json(config).dump()},
                      ChildEnvironment(additions));
}

absl::StatusOr<int> MakeRings() {
  // Inherited by the workers, hence not close-on-exec.
  const int fd = memfd_create("xenloop-bench-ring", 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  if (ftruncate(fd, sizeof(RawRingPair)) != 0) {
    close(fd);
    return absl::ErrnoToStatus(errno, "ftruncate");
  }
  return fd;
}

}  // namespace

absl::StatusOr<PairResult> RunPair(const Setup& setup, const Carrier& carrier, bool two_cores,
                                   const WorkerConfig& config, const PhaseObserver& observer) {
  const bool preloaded = carrier.server_preloaded || carrier.client_preloaded;
  if (preloaded && setup.library.empty()) return absl::NotFoundError("library not built");
  const absl::Time deadline = absl::Now() + kPatience;
  const std::string stats = absl::StrCat(setup.directory, "/stats");
  std::remove(stats.c_str());

  WorkerConfig server_config = config;
  server_config.server = true;
  server_config.carrier = carrier.kind;
  server_config.path = absl::StrCat(setup.directory, "/socket");
  server_config.cpu = setup.cpus.front();
  server_config.ring_yields = !two_cores;
  absl::Cleanup close_rings = [&server_config] {
    if (server_config.ring_fd >= 0) close(server_config.ring_fd);
  };
  if (carrier.kind == "ring") {
    const absl::StatusOr<int> rings = MakeRings();
    if (!rings.ok()) return rings.status();
    server_config.ring_fd = *rings;
  }
  Sockmaps maps;
  const absl::Cleanup close_maps = [&maps] { CloseSockmaps(maps); };
  if (carrier.kind == "sockmap") {
    const absl::StatusOr<Sockmaps> made = MakeSockmaps();
    if (!made.ok()) return made.status();
    maps = *made;
    server_config.own_sockmap = maps.server_map;
    server_config.peer_sockmap = maps.client_map;
  }
  absl::StatusOr<Child> server = StartWorker(setup, carrier.server_preloaded, stats, server_config);
  if (!server.ok()) return server.status();
  const absl::StatusOr<nlohmann::json> ready = server->ReadLine(deadline);
  if (!ready.ok()) return ready.status();

  WorkerConfig client_config = server_config;
  client_config.server = false;
  std::swap(client_config.own_sockmap, client_config.peer_sockmap);
  client_config.port = ready->value("ready", 0);
  client_config.cpu = two_cores ? setup.cpus.back() : setup.cpus.front();
  absl::StatusOr<Child> client = StartWorker(setup, carrier.client_preloaded, stats, client_config);
  if (!client.ok()) return client.status();

  PairResult result;
  while (result.figures.is_null()) {
    const absl::StatusOr<nlohmann::json> line = client->ReadLine(deadline);
    if (!line.ok()) return line.status();
    if (line->contains("result")) {
      result.figures = line->at("result");
      break;
    }
    if (observer) {
      const absl::Status seen = observer(line->value("phase", ""), server->pid(), client->pid());
      if (!seen.ok()) return seen;
    }
    if (const absl::Status told = client->WriteLine(); !told.ok()) return told;
  }
  // Both must end by themselves: the library writes its line at exit.
  if (const absl::Status ended = client->WaitForExit(deadline); !ended.ok()) return ended;
  if (const absl::Status ended = server->WaitForExit(deadline); !ended.ok()) return ended;
  result.routes = SumStats(stats);
  return result;
}

}  // namespace xenloop::bench
