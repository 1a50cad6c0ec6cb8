// Chooses the checks and prints what they found; see doctor.h.

#include "tools/doctor.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/config_check.h"
#include "tools/elf_file.h"
#include "tools/environment.h"
#include "tools/snapshot.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

bool IsPid(const std::string& subject) {
  return !subject.empty() && std::all_of(subject.begin(), subject.end(), absl::ascii_isdigit);
}

void CheckMachine(const DoctorPlaces& places, const ProgramSurroundings& program,
                  Findings* findings) {
  CheckLibrary(places, findings);
  CheckPreloadFile(places, findings);
  CheckConfiguration(places, program, findings);
  CheckDatagrams(places, program, findings);
  CheckRuntimeDirectory(places, program, findings);
  CheckArchitecture(OwnMachine(), static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), findings);
  CheckKernelObjects(findings);
  CheckSuspension(places, findings);
}

void CheckOwnLimit(Findings* findings) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) CheckDescriptorLimit(limit.rlim_cur, findings);
  if (getrlimit(RLIMIT_AS, &limit) == 0) CheckAddressSpace(limit.rlim_cur, findings);
}

void CheckAgents(const DoctorPlaces& places, Findings* findings) {
  const Snapshot snapshot = TakeSnapshot(places.agents, places.limits);
  for (const std::string& note : snapshot.notes) findings->Note(note);
  if (snapshot.processes.empty()) {
    findings->Note("no process here has had a hot connection yet",
                   "start both ends of a connection with `xenloop run PROGRAM`, then look at "
                   "`xenloop stat`");
    return;
  }
  size_t streams = 0;
  for (const ProcessReport& process : snapshot.processes) streams += process.streams.size();
  findings->Fine(absl::StrCat("agents answer: ", Counted(snapshot.processes.size(), "process"),
                              ", ", Counted(streams, "live stream")));
}

void CheckProgramFile(const std::string& program, const ProgramSurroundings& surroundings,
                      Findings* findings) {
  const std::string search_path = FindEntry(surroundings.environment, "PATH").value_or("");
  const std::string path = FindProgram(program, search_path);
  if (path.empty()) {
    findings->Problem(absl::StrCat(Printable(program, 200), " is not an executable file here"),
                      "give the path of the program, or the pid of a process");
    return;
  }
  const size_t before = findings->Problems();
  CheckExecutable(path, Printable(program, 200), surroundings.uid, search_path, findings);
  CheckPreloadVariable(surroundings, findings);
  if (findings->Problems() != before) return;
  findings->Note(absl::StrCat("to accelerate it: xenloop run ", Printable(program, 200)),
                 "the other end of its connections must run with the library, too");
}

}  // namespace

size_t Findings::Problems() const {
  return static_cast<size_t>(std::count_if(list_.begin(), list_.end(), [](const Finding& finding) {
    return finding.severity == Severity::kProblem;
  }));
}

std::string Findings::ToString() const {
  std::string text;
  for (const Finding& finding : list_) {
    const char* label = finding.severity == Severity::kFine   ? "ok       "
                        : finding.severity == Severity::kNote ? "note     "
                                                              : "PROBLEM  ";
    absl::StrAppend(&text, label, finding.what, "\n");
    if (!finding.remedy.empty()) absl::StrAppend(&text, "         -> ", finding.remedy, "\n");
  }
  const size_t problems = Problems();
  absl::StrAppend(&text, problems == 0 ? "No problem found." : Counted(problems, "problem"),
                  problems == 0 ? "\n" : " found.\n");
  return text;
}

std::string RealmDirectory(const std::vector<std::string>& environment, const std::string& config) {
  if (auto directory = FindEntry(environment, "XENLOOP_RUNTIME_DIR")) {
    if (!directory->empty()) return *directory;
  }
  return ReadConfig(config).Value("runtime_dir").value_or("");
}

int RunDoctor(const std::string& subject, const DoctorPlaces& places, bool as_json) {
  Findings findings;
  if (IsPid(subject)) {
    pid_t pid = 0;
    CheckLibrary(places, &findings);
    CheckPreloadFile(places, &findings);
    CheckKernelObjects(&findings);
    if (absl::SimpleAtoi(subject, &pid)) {
      CheckProcess(places, pid, &findings);
    } else {
      findings.Problem(absl::StrCat("there is no process ", Printable(subject, 30)), "");
    }
  } else {
    ProgramSurroundings surroundings;
    surroundings.uid = geteuid();
    surroundings.environment = EnvironmentEntries();
    surroundings.executable =
        FindProgram(subject, FindEntry(surroundings.environment, "PATH").value_or(""));
    CheckMachine(places, surroundings, &findings);
    CheckOwnLimit(&findings);
    if (subject.empty()) {
      CheckAgents(places, &findings);
    } else {
      CheckProgramFile(subject, surroundings, &findings);
    }
  }
  std::fputs((as_json ? DoctorJson(findings, places) : findings.ToString()).c_str(), stdout);
  return findings.Problems() == 0 ? 0 : 1;
}

}  // namespace xenloop::tools
