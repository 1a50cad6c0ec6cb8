// xenloop-datagram-simulation: worlds of datagrams from seeds (runs.h has the options).
#include "tests/simulation/datagram_world.h"
#include "tests/simulation/runs.h"

namespace xenloop::simulation {
namespace {

bool Show(const DatagramCoverage& coverage, uint64_t steps) {
  const Happened rows[] = {
      {"datagrams by FIFO", coverage.by_fifo},
      {"datagrams by the kernel", coverage.by_kernel},
      {"dropped by their sender, the queue being full", coverage.dropped_by_sender},
      {"dropped by the receiver", coverage.dropped_by_receiver},
      {"dropped by the kernel", coverage.dropped_by_kernel},
      {"joins", coverage.joins},
      {"datagrams that wake a sleeper", coverage.rings},
      {"FIFOs left with records", coverage.left_with_records},
      {"FIFOs left in doubt", coverage.taken_back},
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
  return EverythingHappened(rows, steps);
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) {
  using namespace xenloop::simulation;
  return SimulateFromSeeds<DatagramWorld, DatagramMutant, DatagramCoverage>(argc, argv, Show);
}
