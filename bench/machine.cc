// What /proc, /sys and the build tree say; see machine.h.
#include "bench/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace xenloop::bench {
namespace {

// What follows `separator` in the first line that begins with `name`.
std::string ValueOf(const std::string& path, const std::string& name, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, name)) continue;
    const size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    return std::string(absl::StripSuffix(
        absl::StripPrefix(absl::StripLeadingAsciiWhitespace(absl::string_view(line).substr(at + 1)),
                          "\""),
        "\""));
  }
  return "";
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string Hypervisor() {
  if (std::string type = FirstLine("/sys/hypervisor/type"); !type.empty()) return type;
  if (std::string product = FirstLine("/sys/class/dmi/id/product_name"); !product.empty()) {
    return product;
  }
  const std::string flags = ValueOf("/proc/cpuinfo", "flags", ':');
  return absl::StrContains(flags, " hypervisor") ? "some" : "";
}

}  // namespace

Machine ThisMachine() {
  Machine machine;
  machine.cpu = ValueOf("/proc/cpuinfo", "model name", ':');
  machine.cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  utsname names{};
  if (uname(&names) == 0) machine.kernel = absl::StrCat(names.release, " ", names.machine);
  machine.system = ValueOf("/etc/os-release", "PRETTY_NAME", '=');
  machine.hypervisor = Hypervisor();
  double load = 0;
  if (getloadavg(&load, 1) == 1) machine.load = load;
  return machine;
}

std::string Describe(const Machine& machine) {
  return absl::StrFormat("%s, %d cores%s, Linux %s, %s, load %.1f", machine.cpu, machine.cores,
                         machine.hypervisor.empty() ? "" : ", virtual", machine.kernel,
                         machine.system, machine.load);
}

std::vector<int> TwoCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof(allowed), &allowed);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) cpus.push_back(cpu);
  }
  const auto core_of = [](int cpu) {
    return FirstLine(
        absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
  };
  for (size_t i = 1; i < cpus.size(); ++i) {
    if (core_of(cpus[i]) != core_of(cpus[0])) return {cpus[0], cpus[i]};
  }
  if (cpus.size() > 2) cpus.resize(2);  // only hardware threads of one core: better than nothing
  return cpus;
}

std::string OwnPath() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

std::string OwnBuildType() {
  std::string type = XENLOOP_BUILD_TYPE;
#ifndef __OPTIMIZE__
  type += " without optimisation";
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  type += " with sanitizers";
#endif
  return type;
}

std::string FindLibrary() {
  const std::filesystem::path here = std::filesystem::path(OwnPath()).parent_path();
  for (const char* place : {"../lib/libxenloop.so", "libxenloop.so"}) {
    std::error_code error;
    const std::filesystem::path library = std::filesystem::weakly_canonical(here / place, error);
    if (std::filesystem::exists(library, error)) return library.string();
  }
  return "";
}

std::string BuildTypeOf(const std::string& library) {
  const std::filesystem::path tree = std::filesystem::absolute(library).parent_path().parent_path();
  const std::string type = ValueOf((tree / "CMakeCache.txt").string(), "CMAKE_BUILD_TYPE:", '=');
  return type.empty() ? "unknown" : type;
}

absl::Status CheckBuildType(const std::string& what, const std::string& build_type) {
  if (build_type == "Release" || build_type == "RelWithDebInfo" || build_type == "unknown") {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(what, " is a ", build_type,
                   " build: its figures mean nothing. Build with"
                   " `cmake --workflow --preset release`, or use --smoke."));
}

}  // namespace xenloop::bench
