// "idle": what a thousand connections cost that are open, accelerated and silent. "many": ten
// thousand open at once, every byte checked.
#include "bench/cases_crowd.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/process.h"

namespace xenloop::bench {
namespace {

// A connection is offered to its peer after a number of uses (16 by default) and is accelerated a
// while later: each is used so often that most bytes should go by FIFO.
constexpr int kRoundsOfIdle = 200;
constexpr int kRoundsOfMany = 48;
constexpr int kSpareDescriptors = 200;

// Of both processes and, where shared memory is mapped nowhere, of the machine.
struct MemorySnapshot {
  double private_kib = 0;
  double shared_kib = 0;
  double machine_shared_kib = 0;
};

absl::StatusOr<MemorySnapshot> Look(pid_t server, pid_t client) {
  MemorySnapshot snapshot;
  for (const pid_t pid : {server, client}) {
    const absl::StatusOr<MemoryUse> use = MemoryOf(pid);
    if (!use.ok()) return use.status();
    snapshot.private_kib += use->private_kib;
    snapshot.shared_kib += use->shared_kib;
  }
  snapshot.machine_shared_kib = SharedMemoryOfMachineKib();
  return snapshot;
}

// Shared memory that no process maps any more is seen in the machine's figure only; what other
// programs do in the meantime, too. So the larger of both views counts.
double GrowthKib(const MemorySnapshot& before, const MemorySnapshot& after) {
  return after.private_kib - before.private_kib +
         std::max(after.shared_kib - before.shared_kib,
                  after.machine_shared_kib - before.machine_shared_kib);
}

absl::StatusOr<absl::Duration> CpuTimeOfBoth(pid_t server, pid_t client) {
  const absl::StatusOr<absl::Duration> one = CpuTime(server);
  const absl::StatusOr<absl::Duration> other = CpuTime(client);
  if (!one.ok()) return one.status();
  if (!other.ok()) return other.status();
  return *one + *other;
}

// Watches a crowd from outside: memory before and after, CPU time while it is idle.
class IdleObserver {
 public:
  explicit IdleObserver(absl::Duration idle) : idle_(idle) {}

  absl::Status operator()(const std::string& phase, pid_t server, pid_t client) {
    if (phase == "started") {
      const absl::StatusOr<MemorySnapshot> before = Look(server, client);
      if (before.ok()) before_ = *before;
      return before.status();
    }
    absl::SleepFor(std::min(idle_, absl::Seconds(1)));  // whatever is still finishing up
    const absl::StatusOr<absl::Duration> used_before = CpuTimeOfBoth(server, client);
    absl::SleepFor(idle_);
    const absl::StatusOr<absl::Duration> used_after = CpuTimeOfBoth(server, client);
    const absl::StatusOr<MemorySnapshot> after = Look(server, client);
    if (!used_before.ok()) return used_before.status();
    if (!used_after.ok()) return used_after.status();
    if (!after.ok()) return after.status();
    cpu_ms = absl::ToDoubleMilliseconds(*used_after - *used_before);
    memory_kib = GrowthKib(before_, *after);
    return absl::OkStatus();
  }

  double cpu_ms = 0;
  double memory_kib = 0;

 private:
  absl::Duration idle_;
  MemorySnapshot before_;
};

// How many of `wanted` connections the limit of open files allows, raised as far as it may be.
int AllowedConnections(int wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  // The library needs descriptors of its own; how many is its affair.
  const rlim_t enough = static_cast<rlim_t>(wanted) * 4 + kSpareDescriptors;
  if (limit.rlim_cur < enough) {
    rlimit raised = limit;
    raised.rlim_cur = enough;
    raised.rlim_max = std::max(limit.rlim_max, enough);
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {  // not root: up to the hard limit
      raised.rlim_cur = raised.rlim_max = limit.rlim_max;
      setrlimit(RLIMIT_NOFILE, &raised);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  const auto open_files = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 24));
  return std::min(wanted, open_files - kSpareDescriptors);
}

WorkerConfig Crowd(int connections, int rounds, size_t longest_message) {
  WorkerConfig config;
  config.work = "crowd";
  config.connections = AllowedConnections(connections);
  config.rounds = rounds;
  config.message_bytes = longest_message;
  if (config.connections < connections) {
    std::fprintf(stderr, "The limit of open files allows %d connections instead of %d.\n",
                 config.connections, connections);
  }
  return config;
}

bool TwoCores(const Setup& setup) { return setup.cpus.size() > 1; }

struct IdleCases {
  const char* memory;
  const char* cpu;  // empty: only the memory is of interest
};

void ObserveIdle(const Setup& setup, const Carrier& carrier, const WorkerConfig& config,
                 const IdleCases& cases, const SampleSink& sink) {
  const bool wants_cpu = *cases.cpu != '\0';
  IdleObserver observer(setup.smoke ? absl::Milliseconds(100) : absl::Seconds(5));
  const absl::StatusOr<PairResult> result =
      RunPair(setup, carrier, TwoCores(setup), config, std::ref(observer));
  Sample sample;
  sample.carrier = carrier.name;
  sample.case_id = cases.memory;
  if (result.ok()) {
    sample.routes = result->routes;
    sample.extra["connections"] = config.connections;
    sample.extra["upgraded"] = static_cast<double>(result->routes.upgraded);
    sample.value = observer.memory_kib / config.connections;
  } else {
    sample.problem = std::string(result.status().message());
  }
  sink(sample);
  if (!wants_cpu) return;
  sample.case_id = cases.cpu;
  if (result.ok()) sample.value = observer.cpu_ms;
  sink(sample);
}

}  // namespace

void RunIdle(const Setup& setup, const SampleSink& sink) {
  const int connections = setup.smoke ? 50 : 1000;
  const WorkerConfig light = Crowd(connections, kRoundsOfIdle, 64);
  const WorkerConfig heavy = Crowd(connections, kRoundsOfIdle, 4096);
  // Nothing here depends on chance as times do: fewer repetitions.
  const int repetitions = std::min(setup.repetitions, 3);
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    for (const Carrier& carrier : {kTcpCarrier, kUnixCarrier, kXenloopCarrier}) {
      ObserveIdle(setup, carrier, light, {"idle-memory", "idle-cpu"}, sink);
    }
    if (setup.smoke) continue;
    for (const Carrier& carrier : {kTcpCarrier, kUnixCarrier, kXenloopCarrier}) {
      ObserveIdle(setup, carrier, heavy, {"idle-memory-heavy", ""}, sink);
    }
  }
}

void RunMany(const Setup& setup, const SampleSink& sink) {
  const WorkerConfig config = Crowd(setup.smoke ? 200 : 10'000, kRoundsOfMany, 512);
  const int repetitions = std::min(setup.repetitions, 3);
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    for (const Carrier& carrier : {kTcpCarrier, kUnixCarrier, kXenloopCarrier}) {
      const absl::StatusOr<PairResult> result = RunPair(setup, carrier, TwoCores(setup), config);
      Sample sample;
      sample.case_id = "many";
      sample.carrier = carrier.name;
      if (result.ok()) {
        sample.value = result->figures.value("per_second", 0.0);
        sample.routes = result->routes;
        for (const char* name : {"connections", "lost", "wrong"}) {
          sample.extra[name] = result->figures.value(name, 0.0);
        }
        sample.extra["upgraded"] = static_cast<double>(result->routes.upgraded);
      } else {
        sample.problem = std::string(result.status().message());
      }
      sink(sample);
    }
  }
}

}  // namespace xenloop::bench
