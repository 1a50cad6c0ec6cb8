// The tool's main(): understands the command line and calls the one file that does the work.

#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/doctor.h"
#include "tools/environment.h"
#include "tools/help_text.h"
#include "tools/library_path.h"
#include "tools/move_command.h"
#include "tools/run_command.h"
#include "tools/stat_command.h"
#include "tools/switch_command.h"

ABSL_FLAG(bool, stats, false, "run: print what went by which route when the program ends");
ABSL_FLAG(bool, json, false, "run, stat, doctor: print JSON");
ABSL_FLAG(bool, watch, false, "stat: again and again");
ABSL_FLAG(double, interval, 1.0, "stat --watch: seconds between two pictures");

ABSL_FLAG(double, timeout, 10.0, "quiesce, migrate, save, suspend: seconds to wait for the guest");
ABSL_FLAG(bool, force, false, "quiesce, migrate, save, suspend: also if the guest is not ready");

namespace xenloop::tools {
namespace {

constexpr int kExitWrongUsage = 2;
constexpr char kConfigPath[] = "/etc/xenloop.conf";

int WrongUsage(const std::string& message) {
  std::fprintf(stderr, "xenloop: %s\n", message.c_str());
  return kExitWrongUsage;
}

// SplitCommandLine() has let through only options of the subcommand; absl reads their values.
void ParseOptions(const CommandLine& line, char* tool_name) {
  std::vector<std::string> options = line.options;
  std::vector<char*> arguments = {tool_name};
  for (std::string& option : options) arguments.push_back(option.data());
  arguments.push_back(nullptr);
  absl::ParseCommandLine(static_cast<int>(arguments.size()) - 1, arguments.data());
}

AgentPlaces PlacesOfAgents() {
  AgentPlaces places;
  places.proc = "/proc";
  places.realm_directory = RealmDirectory(EnvironmentEntries(), kConfigPath);
  return places;
}

int Run(const CommandLine& line) {
  const absl::StatusOr<std::string> library = FindLibrary(LibraryCandidates(ToolDirectory()));
  if (!library.ok()) {
    std::fprintf(stderr, "xenloop: %s\n", std::string(library.status().message()).c_str());
    return kExitToolFailed;
  }
  RunRequest request;
  request.program = line.operands;
  request.library = *library;
  request.stats = absl::GetFlag(FLAGS_stats);
  request.json = absl::GetFlag(FLAGS_json);
  if (request.json && !request.stats) return WrongUsage("run: --json is for --stats");
  return RunProgram(request);
}

int Stat() {
  StatRequest request;
  request.json = absl::GetFlag(FLAGS_json);
  request.watch = absl::GetFlag(FLAGS_watch);
  request.interval_seconds = absl::GetFlag(FLAGS_interval);
  request.places = PlacesOfAgents();
  if (!(request.interval_seconds >= 0.1 && request.interval_seconds <= 86400)) {
    return WrongUsage("stat: --interval takes 0.1 to 86400 seconds");
  }
  return RunStat(request);
}

int Doctor(const CommandLine& line) {
  DoctorPlaces places;
  places.config = kConfigPath;
  places.library_candidates = LibraryCandidates(ToolDirectory());
  places.agents = PlacesOfAgents();
  return RunDoctor(line.operands.empty() ? "" : line.operands[0], places,
                   absl::GetFlag(FLAGS_json));
}

bool IsMove(const std::string& command) {
  for (const char* move : {"quiesce", "release", "migrate", "save", "suspend", "restore"}) {
    if (command == move) return true;
  }
  return false;
}

int Move(const CommandLine& line) {
  const double seconds = absl::GetFlag(FLAGS_timeout);
  if (!(seconds >= 0 && seconds <= 86400)) return WrongUsage("--timeout takes 0 to 86400 seconds");
  MoveLimits limits;
  limits.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  limits.force = absl::GetFlag(FLAGS_force);
  return RunMoveCommand(line.command, line.operands, limits);
}

int Main(int argc, char** argv) {
  const absl::StatusOr<CommandLine> line =
      SplitCommandLine(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  if (!line.ok()) return WrongUsage(std::string(line.status().message()));
  ParseOptions(*line, argv[0]);
  const std::string& command = line->command;
  if (command == "help") {
    std::fputs(HelpText(line->operands.empty() ? "" : line->operands[0]), stdout);
    return 0;
  }
  if (command == "version") {
    std::printf("xenloop %s\n", XENLOOP_VERSION);
    return 0;
  }
  if (command == "run") return Run(*line);
  if (command == "stat") return Stat();
  if (command == "doctor") return Doctor(*line);
  if (IsMove(command)) return Move(*line);
  if (command == "leave" || command == "arrive")
    return RunRealmMove(command == "leave", PlacesOfAgents(), AskLimits());
  return RunSwitch(/*on=*/command == "on", PlacesOfAgents(), AskLimits());
}

}  // namespace
}  // namespace xenloop::tools

int main(int argc, char** argv) { return xenloop::tools::Main(argc, argv); }
