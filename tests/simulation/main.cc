// xenloop-simulation: runs worlds from seeds until one fails or the steps are done. Prints steps
// per second, and on a failure the seed, the step, the last steps before it and the command that
// shows it again.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/simulation/runs.h"
#include "tests/simulation/world.h"

namespace xenloop::simulation {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t steps = 1000;
  uint64_t runs = 1000;
  bool trace = false;
  bool mutants = false;
  double least_steps_per_second = 0;
};

[[noreturn]] void Usage() {
  fprintf(stderr,
          "usage: xenloop-simulation [--seed N] [--steps N] [--runs N] [--trace] [--mutants] "
          "[--at-least N]\n"
          "  --steps     steps of one run, at most; --runs times as many are taken in all (more, "
          "shorter runs if a\n"
          "              connection ends early); run i has seed + i\n"
          "  --trace     prints every step\n"
          "  --mutants   proves that the simulation can fail: every wrong protocol must be caught\n"
          "  --at-least  fails if there are fewer steps a second than this\n");
  exit(2);
}

bool Run(uint64_t seed, uint64_t steps, Mutant mutant, bool trace, Coverage* coverage,
         uint64_t* taken, std::string* why) {
  World world(seed, mutant, trace, coverage);
  return RunWorld(seed, world, why, [&](uint64_t* step) {
    MeetStrangers(seed, mutant, coverage);
    for (; *step < steps && !world.Over(); ++*step) world.Step();
    *taken += *step;
    world.Settle();
  });
}

// False: something has not been met although there was time for it.
bool Print(const Coverage& coverage, uint64_t steps) {
  const Happened rows[] = {
      {"upgrades", coverage.upgrades},
      {"bytes by FIFO", coverage.fifo_bytes},
      {"bytes by TCP", coverage.tcp_bytes},
      {"full FIFOs", coverage.full_fifos},
      {"readers that stood still", coverage.bypasses},
      {"bytes that lay unread", coverage.unread},
      {"residues that TCP did not take at once", coverage.pending_residues},
      {"receives between switch and offset", coverage.drains},
      {"steps in the middle of others", coverage.interruptions},
      {"shutdowns", coverage.shutdowns},
      {"closes", coverage.closes},
      {"crashes", coverage.crashes},
      {"crashes with bytes in the FIFO", coverage.crashes_with_fifo},
      {"residues read from a dead end's FIFO", coverage.dead_residues},
      {"of these, of a connection closed at both ends", coverage.dead_residues_after_close},
      {"residues given up in doubt", coverage.residues_in_doubt},
      {"threads that died in a flush", coverage.dead_threads},
      {"sleeps on a word of a FIFO", coverage.sleeps},
      {"ends killed in a wake-up", coverage.killed_wakers},
      {"of these, with somebody asleep", coverage.robbed_sleepers},
      {"resets", coverage.resets},
      {"planned moves", coverage.planned_moves},
      {"FIFOs kept privately in a move", coverage.kept},
      {"unplanned moves", coverage.unplanned_moves},
      {"unplanned moves settled by a question", coverage.moves_settled},
      {"unplanned moves that reset it", coverage.moves_that_reset},
      {"ends whose peer was proved", coverage.proved},
      {"ends that met a stranger", coverage.strangers},
      {"ends that another process has taken up", coverage.taken_up}};
  // Too rare to be demanded.
  printf("%12lu ends of killed peers' streams that came too early after an unplanned move\n",
         static_cast<unsigned long>(coverage.unnoticed_losses));
  return EverythingHappened(rows, steps);
}

int Simulate(const char* program, const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  uint64_t taken = 0;
  uint64_t run = 0;
  Coverage coverage;
  for (; taken < options.steps * options.runs; ++run) {
    std::string why;
    if (Run(options.seed + run, options.steps, Mutant::kNone, options.trace, &coverage, &taken,
            &why)) {
      if (options.runs == 1) break;
      continue;
    }
    printf("FAILED at %s\nAgain: %s --seed %lu --steps %lu --runs 1 --trace\n", why.c_str(),
           program, static_cast<unsigned long>(options.seed + run),
           static_cast<unsigned long>(options.steps));
    return 1;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double rate = static_cast<double>(taken) / seconds;
  printf("%lu steps in %lu runs from seed %lu: %.1f s, %.0f steps/s\n",
         static_cast<unsigned long>(taken), static_cast<unsigned long>(run),
         static_cast<unsigned long>(options.seed), seconds, rate);
  if (!Print(coverage, taken)) return 1;
  if (rate < options.least_steps_per_second) {
    printf("FAILED: fewer than %.0f steps/s\n", options.least_steps_per_second);
    return 1;
  }
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const auto number = [&]() -> uint64_t {
      if (i + 1 >= argc) Usage();
      char* end = nullptr;
      const uint64_t value = strtoull(argv[++i], &end, 10);
      if (*end != '\0') Usage();
      return value;
    };
    if (strcmp(argv[i], "--seed") == 0) {
      options.seed = number();
    } else if (strcmp(argv[i], "--steps") == 0) {
      options.steps = number();
    } else if (strcmp(argv[i], "--runs") == 0) {
      options.runs = number();
    } else if (strcmp(argv[i], "--at-least") == 0) {
      options.least_steps_per_second = static_cast<double>(number());
    } else if (strcmp(argv[i], "--trace") == 0) {
      options.trace = true;
    } else if (strcmp(argv[i], "--mutants") == 0) {
      options.mutants = true;
    } else {
      Usage();
    }
  }
  if (!options.mutants) return Simulate(argv[0], options);
  return CatchMutants<Mutant>(
      options.seed, options.runs, [&](uint64_t seed, Mutant mutant, std::string* why) {
        Coverage coverage;
        uint64_t taken = 0;
        return Run(seed, options.steps, mutant, false, &coverage, &taken, why);
      });
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) { return xenloop::simulation::Main(argc, argv); }
