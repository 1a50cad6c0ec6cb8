// `xenloop doctor --json`: one document to send in with a question. What it must not have: command
// lines, variables of the environment that are not ours, names and addresses of machines and peers.
// See doctor.h.

#include <gnu/libc-version.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tools/config_check.h"
#include "tools/doctor.h"
#include "tools/environment.h"
#include "tools/library_path.h"
#include "tools/snapshot.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

using nlohmann::json;

constexpr size_t kLongestText = 500;

std::vector<std::string> LinesOf(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path, 64u << 10);
  if (!text.ok()) return {};
  return absl::StrSplit(*text, '\n', absl::SkipEmpty());
}

std::string FirstLine(const std::string& path) {
  const std::vector<std::string> lines = LinesOf(path);
  return lines.empty() ? "" : Printable(lines[0], kLongestText);
}

// The value behind "NAME=" or "NAME:"; empty if there is none.
std::string ValueIn(const std::string& path, const std::string& name) {
  for (const std::string& line : LinesOf(path)) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, name)) continue;
    return Printable(
        absl::StripPrefix(absl::StripSuffix(absl::StripAsciiWhitespace(rest), "\""), "\""),
        kLongestText);
  }
  return "";
}

json Machine() {
  utsname system = {};
  uname(&system);
  return {{"kernel", system.release},
          {"architecture", system.machine},
          {"distribution", ValueIn("/etc/os-release", "PRETTY_NAME=")},
          {"libc", absl::StrCat("glibc ", gnu_get_libc_version())},
          {"processors", sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory", ValueIn("/proc/meminfo", "MemTotal:")},
          {"nr_open", FirstLine("/proc/sys/fs/nr_open")},
          {"max_map_count", FirstLine("/proc/sys/vm/max_map_count")},
          {"conntrack", FirstLine("/proc/sys/net/netfilter/nf_conntrack_count")}};
}

json Process(const DoctorPlaces& places) {
  json limits;
  const auto add = [&limits](const char* name, int which) {
    rlimit limit = {};
    getrlimit(static_cast<__rlimit_resource>(which), &limit);
    const auto value = [](rlim_t number) {
      return number == RLIM_INFINITY ? json() : json(number);
    };
    limits[name] = {{"soft", value(limit.rlim_cur)}, {"hard", value(limit.rlim_max)}};
  };
  add("descriptors", RLIMIT_NOFILE);
  add("address_space", RLIMIT_AS);
  add("processes", RLIMIT_NPROC);
  add("locked_memory", RLIMIT_MEMLOCK);
  add("file_size", RLIMIT_FSIZE);
  json namespaces;
  for (const char* name : {"net", "pid", "mnt", "user", "ipc", "cgroup"}) {
    char target[64] = "";
    const ssize_t length =
        readlink(absl::StrCat(places.proc, "/self/ns/", name).c_str(), target, sizeof(target) - 1);
    namespaces[name] = length > 0 ? std::string(target, static_cast<size_t>(length)) : "";
  }
  const std::string status = absl::StrCat(places.proc, "/self/status");
  return {{"uid", geteuid()},
          {"limits", limits},
          {"namespaces", namespaces},
          {"sandbox",
           {{"seccomp", ValueIn(status, "Seccomp:")},
            {"seccomp_filters", ValueIn(status, "Seccomp_filters:")},
            {"no_new_privileges", ValueIn(status, "NoNewPrivs:")},
            {"security_module", FirstLine("/proc/self/attr/current")}}}};
}

json File(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return {{"path", Printable(path, kLongestText)}};
  json file = {{"path", Printable(path, kLongestText)},
               {"owner", status.st_uid},
               {"mode", absl::StrFormat("%o", status.st_mode & 07777)},
               {"bytes", status.st_size}};
  constexpr long kReadOnly = 1;  // ST_RDONLY
  struct statfs system;
  if (S_ISDIR(status.st_mode) && statfs(path.c_str(), &system) == 0) {
    file["bytes"] = static_cast<uint64_t>(system.f_blocks) * static_cast<uint64_t>(system.f_bsize);
    file["free_bytes"] =
        static_cast<uint64_t>(system.f_bavail) * static_cast<uint64_t>(system.f_bsize);
    file["read_only"] = (system.f_flags & kReadOnly) != 0;
  }
  return file;
}

json Settings(const DoctorPlaces& places) {
  json environment = json::object();
  for (const std::string& entry : EnvironmentEntries()) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    if (pair.first == "XENLOOP" || absl::StartsWith(pair.first, "XENLOOP_") ||
        pair.first == "LD_PRELOAD")
      environment[Printable(pair.first, kLongestText)] = Printable(pair.second, kLongestText);
  }
  json lines = json::array();
  const ConfigFile config = ReadConfig(places.config);
  for (const ConfigSetting& setting : config.settings)
    lines.push_back(Printable(absl::StrCat(setting.key, " = ", setting.value), kLongestText));
  json preload = json::array();
  for (const std::string& line : LinesOf(places.preload_file))
    preload.push_back(Printable(line, kLongestText));
  return {{"environment", environment},
          {"configuration", lines},
          {"rules_problem", config.rules.problem == nullptr ? "" : config.rules.problem},
          {"preload_file", preload},
          {"switched_off", access(places.switched_off.c_str(), F_OK) == 0}};
}

json Agents(const DoctorPlaces& places) {
  json processes = json::array();
  const Snapshot snapshot = TakeSnapshot(places.agents, places.limits);
  for (const ProcessReport& process : snapshot.processes) {
    json reasons = json::object();
    size_t accelerated = 0;
    for (const StreamReport& stream : process.streams) {
      if (stream.IsAccelerated()) {
        ++accelerated;
      } else {
        const json before = reasons.value(stream.reason, json(0));
        reasons[stream.reason] = before.get<int>() + 1;
      }
    }
    processes.push_back({{"program", process.program},
                         {"version", process.version},
                         {"uid", process.uid},
                         {"connections", process.connections},
                         {"upgraded", process.upgraded},
                         {"streams", process.streams.size()},
                         {"accelerated", accelerated},
                         {"on_tcp", reasons},
                         {"fallbacks", process.fallbacks}});
  }
  return {{"processes", processes}, {"notes", snapshot.notes}};
}

json Xen(const DoctorPlaces& places) {
  const std::string& folder = places.hypervisor;
  if (FirstLine(absl::StrCat(folder, "/type")) != "xen") return nullptr;
  return {{"version", absl::StrCat(FirstLine(absl::StrCat(folder, "/version/major")), ".",
                                   FirstLine(absl::StrCat(folder, "/version/minor")),
                                   FirstLine(absl::StrCat(folder, "/version/extra")))},
          {"guest_type", FirstLine(absl::StrCat(folder, "/guest_type"))},
          {"capabilities", FirstLine(absl::StrCat(places.proc, "/xen/capabilities"))},
          {"grant_limit", FirstLine("/sys/module/xen_gntalloc/parameters/limit")},
          {"peer_table", File("/run/xenloop/peers")}};
}

}  // namespace

std::string DoctorJson(const Findings& findings, const DoctorPlaces& places) {
  json list = json::array();
  for (const Finding& finding : findings.list()) {
    const char* severity = finding.severity == Severity::kFine   ? "ok"
                           : finding.severity == Severity::kNote ? "note"
                                                                 : "problem";
    list.push_back({{"severity", severity}, {"what", finding.what}, {"remedy", finding.remedy}});
  }
  const absl::StatusOr<std::string> library = FindLibrary(places.library_candidates);
  const std::string realm = RealmDirectory(EnvironmentEntries(), places.config);
  const json document = {{"version", XENLOOP_VERSION},
                         {"library", library.ok() ? File(*library) : json()},
                         {"machine", Machine()},
                         {"process", Process(places)},
                         {"realm", realm.empty() ? json() : File(realm)},
                         {"shared_memory", File(places.shared_memory)},
                         {"settings", Settings(places)},
                         {"agents", Agents(places)},
                         {"xen", Xen(places)},
                         {"findings", list},
                         {"problems", findings.Problems()}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace xenloop::tools
