// xenloop-parked-simulation: runs worlds of parked connections from seeds until one fails or the
// runs are done; with --mutants, until each deliberate error has been caught.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/simulation/parked_world.h"
#include "tests/simulation/runs.h"

namespace xenloop::simulation {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t steps = 1000;
  uint64_t runs = 1000;
  bool mutants = false;
};

bool Run(uint64_t seed, uint64_t steps, ParkedMutant mutant, ParkedCoverage* coverage,
         std::string* why) {
  ParkedWorld world(seed, mutant, coverage);
  return RunWorld(seed, world, why, [&](uint64_t* step) {
    for (; *step < steps; ++*step) world.Step();
    world.Settle();
  });
}

int Simulate(const char* program, const Options& options) {
  ParkedCoverage coverage;
  for (uint64_t run = 0; run < options.runs; ++run) {
    std::string why;
    if (Run(options.seed + run, options.steps, ParkedMutant::kNone, &coverage, &why)) continue;
    printf("FAILED at %s\nAgain: %s --seed %lu --steps %lu --runs 1\n", why.c_str(), program,
           static_cast<unsigned long>(options.seed + run),
           static_cast<unsigned long>(options.steps));
    return 1;
  }
  const Happened rows[] = {{"lives", coverage.lives},
                           {"parked", coverage.parked},
                           {"really closed", coverage.really_closed},
                           {"accepted when they had fallen back already", coverage.accepted_dead},
                           {"bytes by FIFO", coverage.fifo_bytes},
                           {"bytes by TCP", coverage.tcp_bytes},
                           {"residues", coverage.residues},
                           {"bytes taken from a dead sender's FIFO", coverage.dead_residues},
                           {"ends of a stream", coverage.ends},
                           {"resets", coverage.resets},
                           {"claims that came too early or too late", coverage.lost_claims},
                           {"idle closes", coverage.idle_closes},
                           {"listeners closed", coverage.listeners_closed},
                           {"processes killed", coverage.killed},
                           {"of these, in the middle of a step", coverage.killed_inside},
                           {"threads of a former life", coverage.stale_threads},
                           {"lies", coverage.hostile_words},
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
  return CatchMutants<ParkedMutant>(options.seed, options.runs,
                                    [&](uint64_t seed, ParkedMutant mutant, std::string* why) {
                                      ParkedCoverage coverage;
                                      return Run(seed, options.steps, mutant, &coverage, why);
                                    });
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) { return xenloop::simulation::Main(argc, argv); }
