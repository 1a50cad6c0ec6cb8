// Where and with what a run is made: the machine, the two cores, the builds of the benchmark and of
// the library. Decides whether figures may be published at all.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace xenloop::bench {

struct Machine {
  std::string cpu;
  int cores = 0;
  std::string kernel;
  std::string system;      // the distribution
  std::string hypervisor;  // empty: none seen
  double load = 0;         // one-minute load average at the start
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Machine, cpu, cores, kernel, system, hypervisor,
                                                load)

Machine ThisMachine();
std::string Describe(const Machine& machine);

// Up to two cores this process may use, on different physical cores if there are such.
std::vector<int> TwoCores();

std::string OwnPath();
std::string OwnBuildType();

// The library beside this program; empty if it has not been built.
std::string FindLibrary();
// The build type of a library in a build tree; "unknown" elsewhere.
std::string BuildTypeOf(const std::string& library);
// Whether figures of this build type mean anything.
absl::Status CheckBuildType(const std::string& what, const std::string& build_type);

}  // namespace xenloop::bench
