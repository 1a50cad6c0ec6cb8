// Which measurements there are and how a repetition becomes a sample; see cases.h. The two with
// thousands of connections are in cases_crowd.cc.
#include "bench/cases.h"

#include <sched.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "bench/cases_crowd.h"
#include "bench/catalog.h"
#include "bench/process.h"

namespace xenloop::bench {
namespace {

const std::vector<Carrier> kAllCarriers = {kTcpCarrier, kUnixCarrier, kSockmapCarrier, kRingCarrier,
                                           kXenloopCarrier};
const std::vector<Carrier> kSocketCarriers = {kTcpCarrier, kUnixCarrier, kXenloopCarrier};

// Which figures of a client's result are the sample's value and p99.
struct Figures {
  const char* value;
  const char* p99;
};
constexpr Figures kRoundTrip = {"p50_us", "p99_us"};
constexpr Figures kStream = {"gb_per_s", ""};
constexpr Figures kConnects = {"per_second", ""};

Sample MeasureOnce(const Setup& setup, const std::string& case_id, const Carrier& carrier,
                   bool two_cores, const WorkerConfig& config, const Figures& figures) {
  Sample sample;
  sample.case_id = case_id;
  sample.carrier = carrier.name;
  if (two_cores && setup.cpus.size() < 2) {
    sample.problem = "this process may use one core only";
    return sample;
  }
  const absl::StatusOr<PairResult> result = RunPair(setup, carrier, two_cores, config);
  if (!result.ok()) {
    sample.problem = std::string(result.status().message());
    return sample;
  }
  sample.value = result->figures.value(figures.value, 0.0);
  sample.p99 = result->figures.value(figures.p99, 0.0);
  sample.routes = result->routes;
  if (const auto extra = result->figures.find("extra"); extra != result->figures.end())
    sample.extra = extra->get<std::map<std::string, double>>();
  return sample;
}

void Measure(const Setup& setup, const std::string& case_id, const std::vector<Carrier>& carriers,
             bool two_cores, const WorkerConfig& config, const Figures& figures,
             const SampleSink& sink) {
  for (int repetition = 0; repetition < setup.repetitions; ++repetition) {
    for (const Carrier& carrier : carriers)
      sink(MeasureOnce(setup, case_id, carrier, two_cores, config, figures));
  }
}

WorkerConfig Work(const Setup& setup, const char* work, size_t message_bytes) {
  WorkerConfig config;
  config.work = work;
  config.message_bytes = message_bytes;
  config.warmup_seconds = setup.warmup_seconds;
  config.seconds = setup.seconds;
  return config;
}

void RunRoundTrips(const Setup& setup, const SampleSink& sink) {
  const WorkerConfig config = Work(setup, "rtt", 64);
  Measure(setup, "rtt-two", kAllCarriers, true, config, kRoundTrip, sink);
  Measure(setup, "rtt-one", kAllCarriers, false, config, kRoundTrip, sink);
}

void RunRoundTripsOnTwoCores(const Setup& setup, const SampleSink& sink) {
  Measure(setup, "rtt-two", kAllCarriers, true, Work(setup, "rtt", 64), kRoundTrip, sink);
}

void RunStreams(const Setup& setup, const SampleSink& sink) {
  const WorkerConfig config = Work(setup, "stream", 65536);
  Measure(setup, "stream-two", kAllCarriers, true, config, kStream, sink);
  Measure(setup, "stream-one", kAllCarriers, false, config, kStream, sink);
}

void RunSweep(const Setup& setup, const SampleSink& sink) {
  Setup shorter = setup;
  shorter.seconds = std::min(setup.seconds, 0.3);
  for (const int size : kSweepSizes) {
    if (setup.smoke && size != 64 && size != 65536) continue;
    Measure(shorter, absl::StrCat("sweep-", size), kAllCarriers, true,
            Work(shorter, "stream", static_cast<size_t>(size)), kStream, sink);
  }
}

void RunConnects(const Setup& setup, const SampleSink& sink) {
  WorkerConfig config = Work(setup, "connect", 64);
  config.connections = 12'000;  // of 28,000 ephemeral ports, each resting for a while after use
  Measure(setup, "connect-two", kSocketCarriers, true, config, kConnects, sink);
  Measure(setup, "connect-one", kSocketCarriers, false, config, kConnects, sink);
}

void RunWithoutLibrary(const Setup& setup, const SampleSink& sink) {
  const std::vector<Carrier> carriers = {kTcpCarrier,
                                         {"TCP, client preloaded", "tcp", false, true},
                                         {"TCP, server preloaded", "tcp", true, false}};
  // A difference of 2 % is looked for: shorter and more.
  Setup more = setup;
  if (!setup.smoke) more.repetitions = setup.repetitions * 3;
  const WorkerConfig config = Work(more, "rtt", 64);
  Measure(more, "nolib-two", carriers, true, config, kRoundTrip, sink);
  Measure(more, "nolib-one", carriers, false, config, kRoundTrip, sink);
}

// The load that the kernel's sender makes at full speed, and what of it arrives: a FIFO is offered
// the same.
void RunDatagramLoss(const Setup& setup, const SampleSink& sink) {
  for (int repetition = 0; repetition < setup.repetitions; ++repetition) {
    WorkerConfig work = Work(setup, "udp-stream", 1400);
    const Sample kernel = MeasureOnce(setup, "udp-loss-two", kUdpCarrier, true, work, kStream);
    sink(kernel);
    const auto offered = kernel.extra.find("offered GB/s");
    if (offered == kernel.extra.end() || offered->second <= 0) continue;
    work.interval_ns = static_cast<int>(static_cast<double>(work.message_bytes) / offered->second);
    sink(MeasureOnce(setup, "udp-loss-two", kXenloopUdpCarrier, true, work, kStream));
  }
}

void RunDatagrams(const Setup& setup, const SampleSink& sink) {
  const std::vector<Carrier> carriers = {kUdpCarrier, kXenloopUdpCarrier};
  WorkerConfig round_trip = Work(setup, "udp-rtt", 64);
  round_trip.warmup_messages = 400;  // not hot with fewer
  WorkerConfig burst = Work(setup, "udp-burst", 64);
  burst.warmup_messages = 100;
  Measure(setup, "udp-rtt-two", carriers, true, round_trip, kRoundTrip, sink);
  Measure(setup, "udp-rtt-one", carriers, false, round_trip, kRoundTrip, sink);
  Measure(setup, "udp-burst-one", carriers, false, burst, kRoundTrip, sink);
  Measure(setup, "udp-stream-two", carriers, true, Work(setup, "udp-stream", 1400), kStream, sink);
  RunDatagramLoss(setup, sink);
  const std::vector<Carrier> one_sided = {kUdpCarrier,
                                          {"UDP, client preloaded", "udp", false, true},
                                          {"UDP, server preloaded", "udp", true, false}};
  Setup more = setup;
  if (!setup.smoke) more.repetitions = setup.repetitions * 3;
  Measure(more, "udp-nolib-one", one_sided, false, Work(more, "udp-rtt", 64), kRoundTrip, sink);
}

// Medians of blocks; within a block, with and without the library alternate.
void RunStartup(const Setup& setup, const SampleSink& sink) {
  cpu_set_t before;
  CPU_ZERO(&before);
  sched_getaffinity(0, sizeof(before), &before);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(setup.cpus.front()), &one);
  sched_setaffinity(0, sizeof(one), &one);
  const int pairs = setup.smoke ? 5 : 100;
  const std::vector<std::string> plain = ChildEnvironment({});
  const std::vector<std::string> preloaded =
      ChildEnvironment({absl::StrCat("LD_PRELOAD=", setup.library)});
  for (int block = 0; block < setup.repetitions; ++block) {
    for (int warm = 0; warm < 3; ++warm) (void)TimeProgram("/bin/true", plain);
    std::vector<double> milliseconds[2];
    std::string problem[2];
    if (setup.library.empty()) problem[1] = "library not built";
    for (int pair = 0; pair < pairs; ++pair) {
      for (const int with : {0, 1}) {
        if (with == 1 && setup.library.empty()) continue;
        const absl::StatusOr<absl::Duration> took =
            TimeProgram("/bin/true", with == 1 ? preloaded : plain);
        if (took.ok()) milliseconds[with].push_back(absl::ToDoubleMilliseconds(*took));
        if (!took.ok()) problem[with] = std::string(took.status().message());
      }
    }
    for (const int with : {0, 1}) {
      Sample sample;
      sample.case_id = "startup";
      sample.carrier = with == 1 ? kXenloop : "without";
      sample.problem = problem[with];
      if (!milliseconds[with].empty()) {
        const auto middle =
            milliseconds[with].begin() + static_cast<std::ptrdiff_t>(milliseconds[with].size() / 2);
        std::nth_element(milliseconds[with].begin(), middle, milliseconds[with].end());
        sample.value = *middle;
      }
      sink(sample);
    }
  }
  sched_setaffinity(0, sizeof(before), &before);
}

}  // namespace

const std::vector<CaseGroup>& CaseGroups() {
  static const auto* const groups = new std::vector<CaseGroup>{
      {"rtt", "64 B round trip, two cores and one", &RunRoundTrips},
      {"rtt-two", "only the one on two cores (for bench/demo)", &RunRoundTripsOnTwoCores, true},
      {"stream", "64 KiB writes, two cores and one", &RunStreams},
      {"sweep", "streams of writes from 64 B to 1 MiB, two cores", &RunSweep},
      {"connect", "connect, one request, close", &RunConnects},
      {"nolib", "round trip to a peer without the library", &RunWithoutLibrary},
      {"udp", "UDP: round trips, bursts, a stream, a peer without the library", &RunDatagrams},
      {"startup", "start-up of /bin/true", &RunStartup},
      {"idle", "1,000 idle connections: CPU and memory", &RunIdle},
      {"many", "10,000 connections open at once", &RunMany},
  };
  return *groups;
}

}  // namespace xenloop::bench
