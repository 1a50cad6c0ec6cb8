// What both simulations do with their worlds: run one from a seed and tell what failed, demand that
// each deliberate error is caught, and that everything that can happen has happened.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/simulation/random.h"

namespace xenloop::simulation {

// `live` takes the world's steps and counts them. False: it failed, and *why tells.
template <typename World, typename Live>
bool RunWorld(uint64_t seed, World& world, std::string* why, Live live) {
  uint64_t step = 0;
  try {
    live(&step);
    return true;
  } catch (const Failure& failure) {
    *why = "seed " + std::to_string(seed) + ", step " + std::to_string(step) + ": " +
           failure.what() +
           "\nThe last steps (deeper ones happened in the middle of the one after):\n" +
           world.LastSteps();
    return false;
  }
}

// `run(seed, mutant, &why)` as above, from `seed` on until it fails, `runs` times at most; of each
// mutant of the enum but kNone. The exit code.
template <typename Mutant, typename Run>
int CatchMutants(uint64_t seed, uint64_t runs, Run run) {
  int escaped = 0;
  for (int i = 1; i < static_cast<int>(Mutant::kCount); ++i) {
    const auto mutant = static_cast<Mutant>(i);
    std::string why;
    bool caught = false;
    for (uint64_t n = 0; n < runs && !caught; ++n) caught = !run(seed + n, mutant, &why);
    printf("%-28s %s\n", NameOf(mutant),
           caught ? why.substr(0, why.find('\n')).c_str() : "NOT CAUGHT");
    if (!caught) ++escaped;
  }
  return escaped == 0 ? 0 : 1;
}

struct Happened {
  const char* name;
  uint64_t times;
};

// Prints the rows. False: something has not been met although there was time for it.
template <size_t kRows>
bool EverythingHappened(const Happened (&rows)[kRows], uint64_t steps) {
  constexpr uint64_t kStepsForCoverage = 200000;
  bool all = true;
  for (const Happened& row : rows) {
    printf("%12lu %s\n", static_cast<unsigned long>(row.times), row.name);
    all = all && row.times > 0;
  }
  if (steps < kStepsForCoverage || all) return true;
  printf("FAILED: not everything above has happened\n");
  return false;
}

// What `xenloop-...-simulation` does: worlds from seeds until one fails or the runs are done; with
// --mutants, until each deliberate error has been caught. `show(coverage, steps)` prints what has
// happened: EverythingHappened. The exit code.
template <typename World, typename Mutant, typename Coverage, typename Show>
int SimulateFromSeeds(int argc, char** argv, Show show) {
  uint64_t first = 1;
  uint64_t steps = 1000;
  uint64_t runs = 1000;
  bool mutants = false;
  for (int i = 1; i < argc; ++i) {
    uint64_t* const number = strcmp(argv[i], "--seed") == 0    ? &first
                             : strcmp(argv[i], "--steps") == 0 ? &steps
                             : strcmp(argv[i], "--runs") == 0  ? &runs
                                                               : nullptr;
    if (number != nullptr && i + 1 < argc) {
      *number = strtoull(argv[++i], nullptr, 10);
    } else if (strcmp(argv[i], "--mutants") == 0) {
      mutants = true;
    } else {
      fprintf(stderr, "usage: %s [--seed N] [--steps N] [--runs N] [--mutants]\n", argv[0]);
      return 2;
    }
  }
  const auto run = [steps](uint64_t seed, Mutant mutant, Coverage* coverage, std::string* why) {
    World world(seed, mutant, coverage);
    return RunWorld(seed, world, why, [&](uint64_t* step) {
      for (; *step < steps; ++*step) world.Step();
      world.Settle();
    });
  };
  if (mutants) {
    return CatchMutants<Mutant>(first, runs, [&](uint64_t seed, Mutant mutant, std::string* why) {
      Coverage coverage;
      return run(seed, mutant, &coverage, why);
    });
  }
  Coverage coverage;
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    std::string why;
    if (run(seed, Mutant::kNone, &coverage, &why)) continue;
    printf("FAILED at %s\nAgain: %s --seed %lu --steps %lu --runs 1\n", why.c_str(), argv[0],
           static_cast<unsigned long>(seed), static_cast<unsigned long>(steps));
    return 1;
  }
  return show(coverage, steps * runs) ? 0 : 1;
}

}  // namespace xenloop::simulation
