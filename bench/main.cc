// xenloop-bench: what libxenloop gains and costs, beside plain TCP, a UNIX socket and a raw ring in
// shared memory, all in one run. Besides it makes one report of several runs, for bench/demo and
// the scripts beside.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/cases.h"
#include "bench/machine.h"
#include "bench/moves.h"
#include "bench/report.h"
#include "bench/script_parts.h"
#include "bench/svg.h"

ABSL_FLAG(std::vector<std::string>, only, {}, "measure only these (comma-separated); see --list");
ABSL_FLAG(bool, list, false, "list what can be measured, and end");
ABSL_FLAG(int, repetitions, 5, "repetitions, interleaved over the carriers; the median counts");
ABSL_FLAG(double, seconds, 0.5, "length of one repetition");
ABSL_FLAG(std::string, library, "", "libxenloop.so (default: the one built with this program)");
ABSL_FLAG(std::vector<std::string>, cpus, {}, "the two cores to use (default: chosen)");
ABSL_FLAG(bool, smoke, false, "very short, figures without meaning: does everything run?");
ABSL_FLAG(bool, check, false, "end with code 1 if a `must` is missed");
ABSL_FLAG(std::string, json, "", "also write the report as JSON to this file");
ABSL_FLAG(std::string, svg, "", "also draw the report to this file");
ABSL_FLAG(bool, summary, false, "print one line a measurement");
ABSL_FLAG(std::string, title, "libxenloop: measurements", "title of the picture");
ABSL_FLAG(std::string, samples, "", "also append every single sample to this file");

namespace xenloop::bench {
namespace {

constexpr double kBusyLoad = 1.0;  // from here on other programs are in the figures

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "xenloop-bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

// Prints the report and writes the files that were asked for.
absl::Status Publish(const std::vector<Table>& tables, const std::string& library) {
  const Machine machine = ThisMachine();
  const bool summary = absl::GetFlag(FLAGS_summary);
  std::fputs((summary ? FormatSummary(tables) : FormatTables(tables)).c_str(), stdout);
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    const nlohmann::json report = {
        {"machine", machine},
        {"build_type", OwnBuildType()},
        {"library_build_type", library.empty() ? "" : BuildTypeOf(library)},
        {"smoke", absl::GetFlag(FLAGS_smoke)},
        {"tables", TablesToJson(tables)}};
    absl::Status written = WriteFile(path, report.dump(1) + "\n");
    if (!written.ok()) return written;
  }
  if (const std::string path = absl::GetFlag(FLAGS_svg); !path.empty()) {
    return WriteFile(path, DrawTables(tables, absl::GetFlag(FLAGS_title), Describe(machine)));
  }
  return absl::OkStatus();
}

int ReportSamples(const std::string& path) {
  const absl::StatusOr<std::vector<Sample>> samples = ReadSamples(path);
  if (!samples.ok()) return Fail(samples.status());
  std::printf("%s\n", Describe(ThisMachine()).c_str());
  const absl::Status published = Publish(MakeTables(*samples), FindLibrary());
  return published.ok() ? 0 : Fail(published);
}

int ReportMoves(const std::string& path) {
  const absl::StatusOr<std::vector<MoveSample>> samples = ReadMoveSamples(path);
  if (!samples.ok()) return Fail(samples.status());
  const std::vector<MoveTable> tables = MakeMoveTables(*samples);
  const Machine machine = ThisMachine();
  std::printf("%s\n%s", Describe(machine).c_str(), FormatMoveTables(tables).c_str());
  absl::Status written;
  if (const std::string json = absl::GetFlag(FLAGS_json); !json.empty()) {
    const nlohmann::json report = {{"machine", machine},
                                   {"build_type", OwnBuildType()},
                                   {"smoke", absl::GetFlag(FLAGS_smoke)},
                                   {"tables", MoveTablesToJson(tables)}};
    written.Update(WriteFile(json, report.dump(1) + "\n"));
  }
  if (const std::string svg = absl::GetFlag(FLAGS_svg); !svg.empty()) {
    written.Update(WriteFile(
        svg,
        DrawMoves(tables,
                  "A guest arrives beside its peer, stays, and leaves (emulated on one machine)",
                  Describe(machine))));
  }
  if (!written.ok()) return Fail(written);
  if (!AllMoved(tables)) return 1;
  return absl::GetFlag(FLAGS_check) && !AllMoveMustsReached(tables) ? 1 : 0;
}

absl::StatusOr<std::vector<CaseGroup>> ChosenGroups() {
  const std::vector<std::string> only = absl::GetFlag(FLAGS_only);
  std::vector<CaseGroup> chosen;
  for (const CaseGroup& group : CaseGroups()) {
    const bool named = std::find(only.begin(), only.end(), group.name) != only.end();
    if (named || (only.empty() && !group.only_by_name)) chosen.push_back(group);
  }
  if (!only.empty() && chosen.size() != only.size()) {
    return absl::InvalidArgumentError("--only: no such measurement; see --list");
  }
  return chosen;
}

absl::StatusOr<std::vector<int>> ChosenCores() {
  const std::vector<std::string> named = absl::GetFlag(FLAGS_cpus);
  if (named.empty()) return TwoCores();
  std::vector<int> cpus;
  for (const std::string& name : named) {
    int cpu = 0;
    if (!absl::SimpleAtoi(name, &cpu)) return absl::InvalidArgumentError("--cpus: not a number");
    cpus.push_back(cpu);
  }
  return cpus;
}

void PrintSetup(const Setup& setup) {
  const Machine machine = ThisMachine();
  std::printf("%s\n", Describe(machine).c_str());
  if (machine.load > kBusyLoad) {
    std::printf("THE MACHINE IS BUSY (load %.1f): figures will be poor.\n", machine.load);
  }
  std::printf("cores used: %s; benchmark: %s build; library: %s\n",
              absl::StrJoin(setup.cpus, " and ").c_str(), OwnBuildType().c_str(),
              setup.library.empty() ? "not built"
                                    : absl::StrCat(BuildTypeOf(setup.library), " build").c_str());
  std::printf(
      "%d repetitions of %g s after %g s of warm-up, carriers in turn; median, and p99 where a "
      "single operation is timed\nvs: how many times as good, median over the repetitions. by "
      "FIFO: "
      "part of the bytes sent that went through shared memory.\n",
      setup.repetitions, setup.seconds, setup.warmup_seconds);
  if (setup.smoke) std::printf("SMOKE RUN: the figures mean nothing.\n");
  std::fflush(stdout);
}

class Progress {
 public:
  void operator()(const Sample& sample) {
    ++count_;
    if (isatty(STDERR_FILENO) == 0) return;
    std::fprintf(stderr, "\r\033[K%d: %s, %s", count_, sample.case_id.c_str(),
                 sample.carrier.c_str());
  }
  static void End() {
    if (isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r\033[K");
  }

 private:
  int count_ = 0;
};

int MeasureAll() {
  Setup setup;
  setup.smoke = absl::GetFlag(FLAGS_smoke);
  setup.program = OwnPath();
  setup.library = absl::GetFlag(FLAGS_library);
  if (setup.library.empty()) setup.library = FindLibrary();
  setup.repetitions = setup.smoke ? 1 : absl::GetFlag(FLAGS_repetitions);
  setup.seconds = setup.smoke ? 0.02 : absl::GetFlag(FLAGS_seconds);
  if (setup.smoke) setup.warmup_seconds = 0.2;  // time for an upgrade on a busy machine
  if (!setup.smoke) {
    const absl::Status own = CheckBuildType("this benchmark", OwnBuildType());
    if (!own.ok()) return Fail(own);
    if (!setup.library.empty()) {
      const absl::Status library = CheckBuildType("the library", BuildTypeOf(setup.library));
      if (!library.ok()) return Fail(library);
    }
  }
  const absl::StatusOr<std::vector<CaseGroup>> groups = ChosenGroups();
  if (!groups.ok()) return Fail(groups.status());
  const absl::StatusOr<std::vector<int>> cpus = ChosenCores();
  if (!cpus.ok()) return Fail(cpus.status());
  setup.cpus = *cpus;
  std::string directory =
      (std::filesystem::temp_directory_path() / "xenloop-bench-XXXXXX").string();
  if (mkdtemp(directory.data()) == nullptr) return Fail(absl::ErrnoToStatus(errno, "mkdtemp"));
  setup.directory = directory;
  absl::Cleanup remove_directory = [&directory] {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  };

  PrintSetup(setup);
  std::vector<Sample> samples;
  absl::Status kept;
  Progress progress;
  const std::string keep = absl::GetFlag(FLAGS_samples);
  for (const CaseGroup& group : *groups) {
    group.run(setup, [&](const Sample& sample) {
      progress(sample);
      samples.push_back(sample);
      if (!keep.empty()) kept.Update(AppendSample(keep, sample));
    });
  }
  Progress::End();
  if (!kept.ok()) return Fail(kept);
  const std::vector<Table> tables = MakeTables(samples);
  const absl::Status published = Publish(tables, setup.library);
  if (!published.ok()) return Fail(published);
  if (setup.smoke && !setup.library.empty() && !AllMeasured(tables)) return 1;
  return absl::GetFlag(FLAGS_check) && !AllMustsReached(tables) ? 1 : 0;
}

int Main(const std::vector<char*>& words) {
  if (absl::GetFlag(FLAGS_list)) {
    for (const CaseGroup& group : CaseGroups()) {
      std::printf("%-10s %s\n", group.name.c_str(), group.about.c_str());
    }
    return 0;
  }
  if (words.size() == 1) return MeasureAll();
  const std::string command = words[1];
  const std::vector<std::string> rest(words.begin() + 2, words.end());
  if (command == "report" && rest.size() == 1) return ReportSamples(rest[0]);
  if (command == "moves" && rest.size() == 1) return ReportMoves(rest[0]);
  const absl::StatusOr<std::string> printed = RunScriptPart(command, rest);
  if (!printed.ok()) return Fail(printed.status());
  std::fputs(printed->c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace xenloop::bench

int main(int argc, char** argv) {
  // A worker must not depend on flags, and its start is nobody's business but its starter's.
  if (argc == 3 && absl::string_view(argv[1]) == "worker") {
    return xenloop::bench::WorkerMain(argv[2]);
  }
  std::signal(SIGPIPE, SIG_IGN);
  absl::SetProgramUsageMessage(
      "measures libxenloop beside TCP, UNIX sockets and a raw ring.\n"
      "  xenloop-bench [--only=rtt,stream] [--json=FILE] [--svg=FILE]   measure\n"
      "  xenloop-bench report SAMPLES [--json=FILE] [--svg=FILE]        one report of several "
      "runs\n"
      "  xenloop-bench moves SAMPLES [--json=FILE] [--svg=FILE]         the report of "
      "bench/migration\n"
      "  xenloop-bench cores                                            one or two cores for a "
      "pair\n");
  return xenloop::bench::Main(absl::ParseCommandLine(argc, argv));
}
