// xenloop-parked-simulation: worlds of parked connections from seeds (runs.h has the options).
#include "tests/simulation/parked_world.h"
#include "tests/simulation/runs.h"

namespace xenloop::simulation {
namespace {

bool Show(const ParkedCoverage& coverage, uint64_t steps) {
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
                           {"connections of the kernel's", coverage.ordinary},
                           {"fences", coverage.fences},
                           {"lives taken back", coverage.taken_back},
                           {"sleeps in the kernel's accept", coverage.asleep},
                           {"kicks", coverage.kicks},
                           {"of these, taken away from the program", coverage.phantoms},
                           {"steps in the middle of others", coverage.interruptions}};
  return EverythingHappened(rows, steps);
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) {
  using namespace xenloop::simulation;
  return SimulateFromSeeds<ParkedWorld, ParkedMutant, ParkedCoverage>(argc, argv, Show);
}
