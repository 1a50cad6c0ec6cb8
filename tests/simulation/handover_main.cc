// xenloop-handover-simulation: worlds of processes that fork and hand connections over (runs.h has
// the options). Each world is a process of its own; `--native` in front: without the library, which
// must find the same expectations right.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/simulation/handover_world.h"
#include "tests/simulation/runs.h"

namespace xenloop::simulation {

const char* NameOf(HandoverMutant mutant) {
  switch (mutant) {
    case HandoverMutant::kSetWithoutDoorbell:
      return "set-without-doorbell";
    case HandoverMutant::kStaysParent:
      return "stays-parent";
    case HandoverMutant::kForkNotCounted:
      return "fork-not-counted";
    case HandoverMutant::kTakeUpShared:
      return "take-up-shared";
    case HandoverMutant::kNone:
    case HandoverMutant::kCount:
      break;
  }
  return "none";
}

namespace {

bool native = false;

// What a world's process tells.
struct Told {
  HandoverCoverage coverage;
  bool failed;
  char why[8192];
};

// Collects the steps, and lives them in a process that ends with the world.
class HandoverRun {
 public:
  HandoverRun(uint64_t seed, HandoverMutant mutant, HandoverCoverage* coverage)
      : seed_(seed), mutant_(mutant), coverage_(coverage) {}
  void Step() { ++steps_; }
  void Settle() {
    void* const memory =
        mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw Failure("no memory");
    auto* const told = new (memory) Told{};
    told->coverage = *coverage_;
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      alarm(20);  // a wrong protocol may never end a call
      Live(told);
      _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    *coverage_ = told->coverage;
    const std::string why = status != 0    ? "the world has died: " + std::to_string(status)
                            : told->failed ? told->why
                                           : "";
    munmap(memory, sizeof(Told));
    if (!why.empty()) throw Failure(why);
  }
  std::string LastSteps() const { return ""; }

 private:
  void Live(Told* told) const {
    HandoverWorld world(seed_, mutant_, native, &told->coverage);
    try {
      for (uint64_t i = 0; i < steps_; ++i) world.Step();
      world.Settle();
    } catch (const Failure& failure) {
      told->failed = true;
      snprintf(told->why, sizeof told->why, "%s\n%s", failure.what(), world.LastSteps().c_str());
    }
  }
  const uint64_t seed_;
  const HandoverMutant mutant_;
  HandoverCoverage* const coverage_;
  uint64_t steps_ = 0;
};

bool Show(const HandoverCoverage& coverage, uint64_t steps) {
  const Happened rows[] = {{"forks", coverage.forks},
                           {"upgrades", coverage.upgrades},
                           {"by a child, of what its parent had", coverage.upgrades_by_child},
                           {"by a stranger, of what he received", coverage.upgrades_by_stranger},
                           {"refused, since others have it", coverage.refused_upgrades},
                           {"bytes by FIFO", coverage.fifo_bytes},
                           {"bytes by TCP", coverage.tcp_bytes},
                           {"receives by a parent's FIFO", coverage.borrowed},
                           {"sleeps in a set", coverage.sleeps},
                           {"sleepers woken", coverage.woken},
                           {"of these, children", coverage.woken_children},
                           {"of these, strangers", coverage.woken_strangers},
                           {"connections passed on", coverage.passed},
                           {"receives by who passed it on", coverage.passed_and_kept},
                           {"closes of what others keep", coverage.closes}};
  return EverythingHappened(rows, native ? 0 : steps * 10);
}

}  // namespace
}  // namespace xenloop::simulation

int main(int argc, char** argv) {
  using namespace xenloop::simulation;
  // The library has read its settings before this.
  if (getenv("XENLOOP_UPGRADE_AFTER") == nullptr) {
    setenv("XENLOOP_UPGRADE_AFTER", "1000000000", 1);
    setenv("XENLOOP_SPIN_US", "0", 1);
    execv("/proc/self/exe", argv);
  }
  if (argc > 1 && strcmp(argv[1], "--native") == 0) {
    native = true;
    argv[1] = argv[0];
    ++argv;
    --argc;
  }
  return SimulateFromSeeds<HandoverRun, HandoverMutant, HandoverCoverage>(argc, argv, Show);
}
