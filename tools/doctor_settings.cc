// The doctor's checks of what has been set for a program: the configuration, its rules, and the
// variables; see doctor.h.

#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "discovery/protocol/reasons.h"
#include "tools/config_check.h"
#include "tools/doctor.h"
#include "tools/environment.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

void CheckSettings(const std::vector<std::string>& environment, const ConfigFile& config,
                   const std::string& config_path, Findings* findings) {
  // The environment before the file; a value that is not understood counts as not given.
  const auto in_force = [&](const char* variable, std::string* where) -> std::string {
    const std::string key = KeyOfVariable(variable).value_or("");
    if (const auto value = FindEntry(environment, variable)) {
      *where = absl::StrCat("the environment (", variable, "=", Printable(*value, 40), ")");
      if (!ProblemOfValue(key, *value)) return *value;
    }
    *where = absl::StrCat(config_path, " (", key, ")");
    return config.Value(key).value_or("");
  };
  std::string where;
  if (OnOrOff(in_force("XENLOOP", &where)) == false) {
    findings->Problem(absl::StrCat("acceleration is switched off by ", where),
                      "set it to `on` or remove it; `xenloop run` switches it on for one program");
  }
  if (in_force("XENLOOP_OFFERS", &where) == "refuse") {
    findings->Problem(absl::StrCat("every offer is refused because of ", where),
                      "set it to `accept`, or remove it");
  }
  const std::string switch_every = in_force("XENLOOP_SWITCH_EVERY", &where);
  if (!switch_every.empty() && switch_every != "0") {
    findings->Note(absl::StrCat("streams fall back again and again because of ", where),
                   "meant for tests: remove it for speed");
  }
}

// The rules of the configuration that a program as a whole meets. (Addresses and ports belong to
// connections: those say so themselves.)
void CheckRules(const ConfigFile& config, const std::string& config_path,
                const ProgramSurroundings& program, Findings* findings) {
  if (config.rules.problem != nullptr) return;  // said already
  const auto forbidden = [&](Reason rule) {
    if (rule == Reason::kNone) return;
    findings->Problem(
        absl::StrCat("not accelerated by a rule of ", config_path, ": ", ReasonText(rule)),
        ReasonRemedy(rule));
  };
  if (!program.executable.empty())
    forbidden(RuleAgainstProgram(config.rules, program.executable.c_str()));
  forbidden(RuleAgainstUser(config.rules, program.uid, (program.root + "/etc/passwd").c_str()));
}

// Variables of the project's own tests, which the library does not look at.
bool BelongsToTests(absl::string_view variable) {
  for (const char* known : {"XENLOOP_BUILD", "XENLOOP_CI", "XENLOOP_NO_APT"}) {
    if (variable == known) return true;
  }
  return absl::StartsWith(variable, "XENLOOP_CONFORMANCE_");
}

}  // namespace

void CheckConfiguration(const DoctorPlaces& places, const ProgramSurroundings& program,
                        Findings* findings) {
  const ConfigFile config = ReadConfig(program.root + places.config);
  for (const ConfigProblem& problem : config.problems) {
    const std::string line = problem.line > 0 ? absl::StrCat(" line ", problem.line) : "";
    findings->Problem(absl::StrCat(places.config, line, ": ", problem.text),
                      "correct it; until then it counts as not written");
  }
  std::error_code error;
  if (std::filesystem::exists(program.root + places.switched_off, error)) {
    findings->Problem(
        absl::StrCat("switched off for the whole machine (", places.switched_off, " is there)"),
        "xenloop on, as root");
  }
  if (config.exists && config.problems.empty()) {
    findings->Fine(absl::StrCat("configuration ", places.config, " (",
                                Counted(config.settings.size(), "setting"), ")"));
  }
  for (const std::string& entry : program.environment) {
    const std::string variable = entry.substr(0, entry.find('='));
    const std::optional<std::string> key = KeyOfVariable(variable);
    if (!key) {
      if (absl::StartsWith(variable, "XENLOOP_") && !BelongsToTests(variable)) {
        findings->Note(absl::StrCat("the variable ", Printable(variable, 60), " means nothing"));
      }
      continue;
    }
    if (*key == "stats" || *key == "log") continue;  // a relative path is right in a variable
    const std::string value = FindEntry(program.environment, variable).value_or("");
    if (const std::optional<std::string> wrong = ProblemOfValue(*key, value)) {
      findings->Problem(absl::StrCat("the variable ", variable, ": ", *wrong),
                        "correct it; until then it counts as not set");
    }
  }
  CheckSettings(program.environment, config, places.config, findings);
  CheckRules(config, places.config, program, findings);
}

}  // namespace xenloop::tools
