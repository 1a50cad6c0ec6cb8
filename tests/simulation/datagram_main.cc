// xenloop-datagram-simulation: runs worlds of datagrams from seeds until one fails or the runs are
// done; with --mutants, until each deliberate error has been caught.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/simulation/datagram_world.h"
#include "tests/simulation/runs.h"

namespace xenloop::simulation {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t steps = 1000;
  uint64_t runs = 1000;
  bool mutants = false;
};

bool Run(uint64_t seed, uint64_t steps, DatagramMutant mutant, DatagramCoverage* coverage,
         std::string* why) {
  DatagramWorld world(seed, mutant, coverage);
  return RunWorld(seed, world, why, [&](uint64_t* step) {
    for (; *step < steps; ++*step) world.Step();
    world.Settle();
  });
}

int Simulate(const char* program, const Options& options) {
  DatagramCoverage coverage;
  for (uint64_t run = 0; run < options.runs; ++run) {
    std::string why;
    if (Run(options.seed + run, options.steps, DatagramMutant::kNone, &coverage, &why)) continue;
    printf("FAILED at %s\nAgain: %s --seed %lu --steps %lu --runs 1\n", why.c_str(), program,
           static_cast<unsigned long>(options.seed + run),
           static_cast<unsigned long>(options.steps));
    return 1;
  }
  const Happened rows[] = {
      {"datagrams by FIFO", coverage.by_fifo},
      {"datagrams by the kernel", coverage.by_kernel},
      {"dropped by their sender, the queue being full", coverage.dropped_by_sender},
      {"dropped by the receiver", coverage.dropped_by_receiver},
      {"dropped by the kernel", coverage.dropped_by_kernel},
      {"joins", coverage.joins},
      {"FIFOs left with records", coverage.left_with_records},
      {"returns with records", coverage.returned_with_records},
      {"returns after their sender had gone on", coverage.returns_refused},
      {"pieces of residue that the kernel did not take", coverage.flushes_in_pieces},
      {"receivers closed or killed with records", coverage.closed_with_records},
      {"senders killed", coverage.senders_killed},
      {"receivers killed", coverage.receivers_killed},
      {"kernel's datagrams before a first record", coverage.drains},
      {"threads that died in a receive", coverage.dead_threads},
      {"peeks", coverage.peeks},
      {"steps in the middle of others", coverage.interruptions}};
  return EverythingHappened(rows, options.steps * options.runs) ? 0 : 1;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    uint64_t* const number = strcmp(argv[i], "--seed") == 0    ? &options.seed
                             : strcmp(argv[i], "--steps") == 0 ? &options.steps
                             : strcmp(argv[i], "--runs") == 0  ? &options.runs
                                                               : nullptr;
    if (number != nullptr && i + 1 < argc) {
      *number = strtoull(argv[++i], nullptr, 10);
    } else if (strcmp(argv[i], "--mutants") == 0) {
      options.mutants = true;
    } else {
      fprintf(stderr, "usage: %s [--seed N] [--steps N] [--runs N] [--mutants]\n", argv[0]);
      return 2;
    }
  }
  if (!options.mutants) return Simulate(argv[0], options);
  return CatchMutants<DatagramMutant>(options.seed, options.runs,
                                      [&](uint64_t seed, DatagramMutant mutant, std::string* why) {
                                        DatagramCoverage coverage;
                                        return Run(seed, options.steps, mutant, &coverage, why);
                                      });
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) { return xenloop::simulation::Main(argc, argv); }
