// The doctor's checks of a running process: is the library in it, could it be, does its agent
// answer, and why is each of its streams where it is? See doctor.h.

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "discovery/protocol/reasons.h"
#include "tools/doctor.h"
#include "tools/environment.h"
#include "tools/inside.h"
#include "tools/library_path.h"
#include "tools/snapshot.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestProcFileBytes = 64u << 20;

struct Process {
  std::string directory;  // /proc/PID
  pid_t pid = 0;
  std::string name;
  ProgramSurroundings surroundings;
  bool other_network_namespace = false;
};

// The words after `label` on its line of /proc/PID/status or limits.
std::vector<std::string> WordsAfter(const std::string& text, absl::string_view label) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, label)) {
      return absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    }
  }
  return {};
}

std::string LinkTarget(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

bool IsSecureExecution(const std::string& auxiliary_vector) {
  Elf64_auxv_t entry;
  for (size_t offset = 0; offset + sizeof(entry) <= auxiliary_vector.size();
       offset += sizeof(entry)) {
    std::memcpy(&entry, auxiliary_vector.data() + offset, sizeof(entry));
    if (entry.a_type == AT_SECURE) return entry.a_un.a_val != 0;
  }
  return false;
}

enum class Loaded { kNo, kYes, kReplaced };
Loaded LibraryInMaps(const std::string& maps, std::string* path) {
  for (const absl::string_view line : absl::StrSplit(maps, '\n')) {
    const size_t slash = line.find('/');
    if (slash == absl::string_view::npos || !NamesLibrary(line.substr(slash))) continue;
    absl::string_view file = line.substr(slash);
    const bool replaced = absl::ConsumeSuffix(&file, " (deleted)");
    *path = Printable(file, 200);
    return replaced ? Loaded::kReplaced : Loaded::kYes;
  }
  return Loaded::kNo;
}

void CheckDescriptors(const Process& process, Findings* findings) {
  const absl::StatusOr<std::string> limits =
      ReadSmallFile(process.directory + "/limits", kLongestProcFileBytes);
  if (!limits.ok()) return;
  const std::vector<std::string> words = WordsAfter(*limits, "Max open files");
  uint64_t soft_limit = 0;
  if (words.empty() || !absl::SimpleAtoi(words[0], &soft_limit)) return;  // "unlimited"
  CheckDescriptorLimit(soft_limit, findings);
  const std::vector<std::string> space = WordsAfter(*limits, "Max address space");
  uint64_t space_limit = 0;
  if (!space.empty() && absl::SimpleAtoi(space[0], &space_limit))
    CheckAddressSpace(space_limit, findings);
  uint64_t open_now = 0;
  std::error_code error;
  for (fs::directory_iterator entry(process.directory + "/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    ++open_now;
  }
  if (open_now + 16 > soft_limit) {
    findings->Problem(absl::StrCat("it has ", open_now, " of ", soft_limit,
                                   " descriptors open: new connections stay on TCP"),
                      "raise its limit: ulimit -n, or LimitNOFILE= in the systemd unit");
  }
}

// Why the library is not in the process. The first reasons are those that nothing can cure.
void ExplainAbsence(const DoctorPlaces& places, const Process& process, Findings* findings) {
  const size_t before = findings->Problems();
  CheckExecutable(process.directory + "/exe", process.name, process.surroundings.uid,
                  FindEntry(process.surroundings.environment, "PATH").value_or(""), findings);
  const absl::StatusOr<std::string> auxiliary =
      ReadSmallFile(process.directory + "/auxv", kLongestProcFileBytes);
  if (auxiliary.ok() && IsSecureExecution(*auxiliary)) {
    findings->Problem(
        "it was started with raised privileges (AT_SECURE): the loader ignored "
        "LD_PRELOAD",
        "start it directly as the user it is meant for, or put the library into "
        "/etc/ld.so.preload");
  }
  CheckPreloadVariable(process.surroundings, findings);
  bool asked_for = false;
  const auto preload = FindEntry(process.surroundings.environment, "LD_PRELOAD");
  for (const std::string& entry : PreloadEntries(preload.value_or(""))) {
    asked_for = asked_for || NamesLibrary(entry);
  }
  if (!asked_for && findings->Problems() == before) {
    findings->Problem(absl::StrCat("the library is not in process ", process.pid, " (",
                                   process.name, "): it was started without it"),
                      "restart it with `xenloop run`, or with Environment=LD_PRELOAD=... in its "
                      "systemd unit");
  } else if (findings->Problems() == before) {
    findings->Problem(absl::StrCat("the library is not in process ", process.pid, " (",
                                   process.name, ") although LD_PRELOAD asks for it"),
                      "start it from a shell and read what the loader (ld.so) says");
  }
}

// "splice (for good)"; a reason that only another version knows stands alone.
std::string ReasonAndDuration(const std::string& words) {
  if (words.empty()) return "no reason given";
  const Reason reason = ReasonWithText(words.c_str());
  return reason == Reason::kNone ? words : absl::StrCat(words, " (", ReasonUntil(reason), ")");
}

void ExplainStreams(const ProcessReport& report, const Process& process, Findings* findings) {
  findings->Fine(absl::StrCat("its agent answers (version ", report.version, "): ",
                              Counted(report.connections, "connection"), ", ", report.upgraded,
                              " upgraded, ", Counted(report.streams.size(), "live stream")));
  for (const StreamReport& stream : report.streams) {
    const std::string title =
        absl::StrCat("descriptor ", stream.fd, ": ", stream.local, " - ", stream.peer);
    if (stream.route_send != "tcp" && stream.route_receive != "tcp") {
      findings->Fine(absl::StrCat(title, ": both directions through shared memory"));
      continue;
    }
    const char* what = stream.IsAccelerated() ? ": one direction by TCP: " : ": by TCP: ";
    findings->Note(absl::StrCat(title, what, ReasonAndDuration(stream.reason)),
                   RemedyForReason(stream.reason));
  }
  for (const auto& [reason, count] : report.fallbacks) {
    findings->Note(
        absl::StrCat("on TCP so far because of \"", reason, "\": ", Counted(count, "time")),
        RemedyForReason(reason));
  }
  for (const auto& [reason, count] : report.not_parked) {
    findings->Note(absl::StrCat(count, " of its listeners and destinations of short connections: ",
                                ReasonAndDuration(reason)),
                   RemedyForReason(reason));
  }
}

// What no agent tells of, with the reason that its library has for it.
void ExplainUntold(const DoctorPlaces& places, const Process& process,
                   const std::vector<StreamReport>& told, Findings* findings) {
  const auto untold = StreamsInside(places.proc, process.pid, told);
  if (!untold) return;
  for (const StreamReport& stream : *untold) {
    findings->Note(absl::StrCat("descriptor ", stream.fd, ": ", stream.local, " - ", stream.peer,
                                ": by TCP: ", ReasonAndDuration(stream.reason)),
                   RemedyForReason(stream.reason));
  }
  if (untold->empty() && told.empty()) findings->Fine("it has no TCP connection");
}

void CheckAgent(const DoctorPlaces& places, const Process& process, Findings* findings) {
  AgentPlaces where = places.agents;
  const std::string& root = process.surroundings.root;
  const std::string realm = RealmDirectory(process.surroundings.environment, root + places.config);
  if (!realm.empty()) where.realm_directory = root + realm;
  // Abstract sockets belong to a network namespace: look at the list of the process's own.
  where.proc_net_unix = process.directory + "/net/unix";
  if (process.other_network_namespace && realm.empty()) {
    findings->Note("it lives in another network namespace: its agent cannot be asked from here",
                   absl::StrCat("nsenter -t ", process.pid, " -n xenloop doctor ", process.pid,
                                "; namespaces share memory only if an administrator sets the same "
                                "XENLOOP_RUNTIME_DIR in both"));
    return;
  }
  for (const AgentAnswer& answer :
       AskAgents(FindAgents(where, process.surroundings.uid), "STAT\n", places.limits)) {
    if (answer.pid != process.pid) continue;
    const ProcessReport report = DecodeStat(answer);
    if (!report.refusal.empty()) {
      findings->Problem(absl::StrCat("its agent refuses to answer: ", report.refusal),
                        "run the doctor as that user or as root");
      return;
    }
    if (answer.outcome == AskOutcome::kComplete && report.complete) {
      ExplainStreams(report, process, findings);
      ExplainUntold(places, process, report.streams, findings);
    } else {
      findings->Problem(absl::StrCat("its agent ", DescribeOutcome(answer.outcome)),
                        "the process may be stopped (Ctrl-Z, a debugger) or have no CPU; its "
                        "connections are safe");
    }
    return;
  }
  findings->Note("it has no agent", "what keeps each of its connections on TCP follows");
  ExplainUntold(places, process, {}, findings);
}

std::optional<Process> LookAt(const DoctorPlaces& places, pid_t pid, Findings* findings) {
  Process process;
  process.directory = absl::StrCat(places.proc, "/", pid);
  process.pid = pid;
  const absl::StatusOr<std::string> status =
      ReadSmallFile(process.directory + "/status", kLongestProcFileBytes);
  if (!status.ok()) {
    findings->Problem(absl::StrCat("there is no process ", pid), "look for it with ps or pgrep");
    return std::nullopt;
  }
  const std::vector<std::string> name = WordsAfter(*status, "Name:");
  const std::vector<std::string> uids = WordsAfter(*status, "Uid:");  // real, effective, ...
  process.name = name.empty() ? "?" : Printable(name[0], 32);
  if (uids.size() > 1 && !absl::SimpleAtoi(uids[1], &process.surroundings.uid)) return std::nullopt;
  const absl::StatusOr<std::string> environment =
      ReadSmallFile(process.directory + "/environ", kLongestProcFileBytes);
  if (!environment.ok()) {
    findings->Problem(absl::StrCat("you may not look into process ", pid, " (", process.name,
                                   ") of user ", process.surroundings.uid),
                      "run the doctor as root, outside of a container");
    return std::nullopt;
  }
  process.surroundings.executable = LinkTarget(process.directory + "/exe");
  process.surroundings.environment = absl::StrSplit(*environment, '\0', absl::SkipEmpty());
  const std::string self = places.proc + "/self";
  process.other_network_namespace =
      LinkTarget(process.directory + "/ns/net") != LinkTarget(self + "/ns/net");
  const std::string root = process.directory + "/root";
  if (LinkTarget(process.directory + "/ns/mnt") != LinkTarget(self + "/ns/mnt") ||
      LinkTarget(root) != "/") {
    process.surroundings.root = root;
  }
  const std::vector<std::string> seccomp = WordsAfter(*status, "Seccomp:");
  if (!seccomp.empty() && seccomp[0] != "0") {
    findings->Note("a filter of system calls (seccomp) is on it",
                   "if its connections stay on TCP: the filter must allow memfd_create, eventfd2, "
                   "mmap, socketpair, shutdown and unix sockets");
  }
  return process;
}

}  // namespace

std::string RemedyForReason(const std::string& words) {
  return ReasonRemedy(ReasonWithText(words.c_str()));
}

void CheckProcess(const DoctorPlaces& places, pid_t pid, Findings* findings) {
  const std::optional<Process> process = LookAt(places, pid, findings);
  if (!process) return;
  CheckConfiguration(places, process->surroundings, findings);
  CheckRuntimeDirectory(places, process->surroundings, findings);
  CheckDescriptors(*process, findings);
  const absl::StatusOr<std::string> maps =
      ReadSmallFile(process->directory + "/maps", kLongestProcFileBytes);
  std::string library;
  const Loaded loaded = maps.ok() ? LibraryInMaps(*maps, &library) : Loaded::kNo;
  if (loaded == Loaded::kNo) {
    ExplainAbsence(places, *process, findings);
    return;
  }
  findings->Fine(
      absl::StrCat("process ", pid, " (", process->name, ") has the library: ", library));
  if (loaded == Loaded::kReplaced) {
    findings->Note("that file has been replaced since", "restart the process to use the new one");
  }
  CheckAgent(places, *process, findings);
}

}  // namespace xenloop::tools
