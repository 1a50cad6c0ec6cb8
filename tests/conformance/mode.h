// The mode of a conformance run (environment XENLOOP_CONFORMANCE_MODE) and the marked points: the
// only things by which this program knows of the library. A marked point sits between two ordinary
// calls of a test; what it does depends on the mode and never changes what the test may observe.

#pragma once

#include <atomic>
#include <string>
#include <thread>

namespace conformance {

enum class Mode {
  kNative,     // no library: the kernel itself, the oracle
  kLocal,      // every connection is upgraded when it is made
  kRefused,    // the library is there, but every offer is refused
  kSwitching,  // every marked point changes the route
  kParked,     // short connections are parked; a pair (pair.h) is upgraded, as in kLocal
};

Mode CurrentMode();  // ends the process if the environment names no mode
const char* ModeName();

// Bits of the routes of a connection: 1 sends go by the FIFO, 2 receives come from it, 4 it is a
// life of a parked one; -1 with errno (ENOPROTOOPT) where the library is missing.
constexpr int kSendsByFifo = 1;
constexpr int kReceivesFromFifo = 2;
int Routes(int fd);

// Requests an upgrade of a new connection: in kLocal and kParked it must succeed, in kSwitching it
// may; elsewhere nothing is done. False only for a failure that the test must report.
bool UpgradeIfWanted(int fd);

// In kSwitching: falls back if the connection is on a FIFO, upgrades it if not. Leaves errno alone.
void MarkedPoint(int fd);

// Changes the route of `fd` again and again while it lives (kSwitching only).
class SwitchStorm {
 public:
  explicit SwitchStorm(int fd);
  ~SwitchStorm();

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Counted over all processes of the run.
struct SwitchCounts {
  std::atomic<int> upgrades, fallbacks, upgrades_declined, upgrades_timed_out, library_missing;
};
void PrepareSwitchCounts();
const SwitchCounts& CountedSwitches();

// The seed of random sizes (XENLOOP_CONFORMANCE_SEED, default 1).
unsigned Seed();

}  // namespace conformance
