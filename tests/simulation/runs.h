// What both simulations do with their worlds: run one from a seed and tell what failed, demand that
// each deliberate error is caught, and that everything that can happen has happened.
#pragma once

#include <cstdint>
#include <cstdio>
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

}  // namespace xenloop::simulation
