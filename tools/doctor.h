// `xenloop doctor`: why is, or isn't, a program accelerated, and what to do about it. Each check
// looks at one thing and adds findings; none changes anything. The checks of the machine are in
// doctor_machine.cc, of an executable in doctor_program.cc, of a running process in
// doctor_process.cc.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tools/agent_address.h"
#include "tools/agent_client.h"

namespace xenloop::tools {

enum class Severity { kFine, kNote, kProblem };

struct Finding {
  Severity severity = Severity::kFine;
  std::string what;
  std::string remedy;  // what to do, in plain words; empty if nothing
};

class Findings {
 public:
  void Fine(std::string what) { list_.push_back({Severity::kFine, std::move(what), ""}); }
  void Note(std::string what, std::string remedy = "") {
    list_.push_back({Severity::kNote, std::move(what), std::move(remedy)});
  }
  void Problem(std::string what, std::string remedy) {
    list_.push_back({Severity::kProblem, std::move(what), std::move(remedy)});
  }

  const std::vector<Finding>& list() const { return list_; }
  size_t Problems() const;
  // "ok", "note" or "PROBLEM" before each, remedies indented, a verdict at the end.
  std::string ToString() const;

 private:
  std::vector<Finding> list_;
};

// What a program is, or would be, started with.
struct ProgramSurroundings {
  uid_t uid = 0;
  std::vector<std::string> environment;  // "NAME=value"
  std::string executable;                // the file that runs, or would; empty: none is known
  std::string root;  // what to put before its paths: "", or /proc/PID/root if it is in a container
};

// Where the checks look. The defaults are the real machine; tests put their own.
struct DoctorPlaces {
  std::vector<std::string> library_candidates;
  std::string config = "/etc/xenloop.conf";
  std::string switched_off = "/run/xenloop/off";
  std::string preload_file = "/etc/ld.so.preload";
  std::string shared_memory = "/dev/shm";
  std::string proc = "/proc";
  std::string hypervisor = "/sys/hypervisor";
  AgentPlaces agents;
  AskLimits limits;
};

// The realm directory in force (environment before configuration); empty if there is none.
std::string RealmDirectory(const std::vector<std::string>& environment, const std::string& config);

// doctor_machine.cc
void CheckLibrary(const DoctorPlaces& places, Findings* findings);
void CheckPreloadFile(const DoctorPlaces& places, Findings* findings);
// Of UDP: notes only.
void CheckDatagrams(const DoctorPlaces& places, const ProgramSurroundings& program,
                    Findings* findings);
void CheckConfiguration(const DoctorPlaces& places, const ProgramSurroundings& program,
                        Findings* findings);
void CheckRuntimeDirectory(const DoctorPlaces& places, const ProgramSurroundings& program,
                           Findings* findings);
// `machine` as in an ELF header. What has not been tried on it.
void CheckArchitecture(uint16_t machine, uint64_t page_bytes, Findings* findings);
void CheckKernelObjects(Findings* findings);
void CheckDescriptorLimit(uint64_t soft_limit, Findings* findings);
void CheckAddressSpace(uint64_t soft_limit, Findings* findings);  // bytes

// doctor_xen.cc: what a suspension without notice would do here
void CheckSuspension(const DoctorPlaces& places, Findings* findings);

// doctor_program.cc
// LD_PRELOAD in the program's environment.
void CheckPreloadVariable(const ProgramSurroundings& program, Findings* findings);
// Finds `program` in $PATH as a shell would. Empty if it is not there.
std::string FindProgram(const std::string& program, absl::string_view search_path);
// The loader of a program (or of its script's interpreter) that uses another libc than glibc; empty
// if it uses glibc, or none, or is not there.
std::string LoaderOfAnotherLibc(const std::string& program, absl::string_view search_path);
// The executable itself; a script's interpreter in its stead. `name` is what to call it.
void CheckExecutable(const std::string& path, const std::string& name, uid_t uid,
                     absl::string_view search_path, Findings* findings);

// doctor_process.cc
void CheckProcess(const DoctorPlaces& places, pid_t pid, Findings* findings);
// What to do about a reason that an agent gives in these words; empty if only another version of
// the library knows it.
std::string RemedyForReason(const std::string& words);

// doctor_json.cc: the findings, and what somebody else needs to know of this machine to judge them.
std::string DoctorJson(const Findings& findings, const DoctorPlaces& places);

// `subject` is empty, a program or a pid. Exit status 0 if all is fine, 1 if there is a problem.
int RunDoctor(const std::string& subject, const DoctorPlaces& places, bool as_json);

}  // namespace xenloop::tools
