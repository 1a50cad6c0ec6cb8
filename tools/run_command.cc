// Prepares the environment, runs, reports; see run_command.h.

#include "tools/run_command.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tools/child_process.h"
#include "tools/doctor.h"
#include "tools/environment.h"
#include "tools/library_path.h"
#include "tools/run_statistics.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

constexpr size_t kLongestStatisticsBytes = 64u << 20;

// A file that the program and its children append to; gone with this object.
class StatisticsFile {
 public:
  StatisticsFile() = default;
  StatisticsFile(const StatisticsFile&) = delete;
  StatisticsFile& operator=(const StatisticsFile&) = delete;
  ~StatisticsFile() {
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }

  absl::Status Create() {
    const std::string parent = EnvironmentValue("TMPDIR").value_or("");
    if (parent.empty() || parent[0] != '/' || !MakeDirectory(parent)) {
      if (!MakeDirectory("/tmp")) return absl::ErrnoToStatus(errno, "no temporary directory");
    }
    unsigned char random[16];
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
      return absl::ErrnoToStatus(errno, "getrandom");
    }
    const absl::string_view bytes(reinterpret_cast<const char*>(random), sizeof(random));
    path_ = absl::StrCat(directory_, "/", absl::BytesToHexString(bytes));
    const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return absl::ErrnoToStatus(errno, path_);
    // Workers of a program started by root often give root up (nginx, PostgreSQL) and must still
    // be able to append. The name is the secret: the directory cannot be listed by others.
    if (geteuid() == 0 && (fchmod(fd, 0622) != 0 || chmod(directory_.c_str(), 0711) != 0)) {
      std::fprintf(stderr, "xenloop: processes that give up root cannot report statistics\n");
    }
    close(fd);
    return absl::OkStatus();
  }

  const std::string& path() const { return path_; }

 private:
  bool MakeDirectory(const std::string& parent) {
    std::string name = absl::StrCat(parent, "/xenloop-stats-XXXXXX");
    if (mkdtemp(name.data()) == nullptr) return false;
    directory_ = name;
    return true;
  }

  std::string directory_;
  std::string path_;
};

int ReportFailure(const std::string& program, int error) {
  std::fprintf(stderr, "xenloop: cannot run %s: %s\n", program.c_str(), std::strerror(error));
  return error == ENOENT ? kExitNotFound : kExitCannotExecute;
}

int RunWithStatistics(const RunRequest& request) {
  StatisticsFile file;
  if (const absl::Status created = file.Create(); !created.ok()) {
    std::fprintf(stderr, "xenloop: %s\n", std::string(created.message()).c_str());
    return kExitToolFailed;
  }
  SetEnvironmentValue("XENLOOP_STATS", file.path());
  const ChildEnd end = RunAndWait(request.program);
  if (end.execute_errno != 0) return ReportFailure(request.program[0], end.execute_errno);
  const absl::StatusOr<std::string> lines = ReadSmallFile(file.path(), kLongestStatisticsBytes);
  if (!lines.ok()) {
    std::fprintf(stderr, "xenloop: statistics lost: %s\n",
                 std::string(lines.status().message()).c_str());
    return end.exit_status;
  }
  const RunStatistics statistics = SumStatistics(*lines);
  const std::string program = Printable(request.program[0], 200);
  std::fputs(
      (request.json ? StatisticsJson(statistics) : StatisticsTable(statistics, program)).c_str(),
      stderr);
  return end.exit_status;
}

}  // namespace

int RunProgram(const RunRequest& request) {
  const std::string loader =
      LoaderOfAnotherLibc(request.program[0], EnvironmentValue("PATH").value_or(""));
  if (!loader.empty()) {
    std::fprintf(stderr,
                 "xenloop: %s does not use glibc (its loader is %s): started without the library\n",
                 Printable(request.program[0], 200).c_str(), loader.c_str());
    return ReportFailure(request.program[0], ExecuteProgram(request.program));
  }
  const absl::StatusOr<std::string> preload =
      PrependPreload(request.library, EnvironmentValue("LD_PRELOAD").value_or(""));
  if (!preload.ok()) {
    std::fprintf(stderr, "xenloop: %s\n", std::string(preload.status().message()).c_str());
    return kExitToolFailed;
  }
  SetEnvironmentValue("LD_PRELOAD", *preload);
  SetEnvironmentValue("XENLOOP", "on");
  if (request.stats) return RunWithStatistics(request);
  return ReportFailure(request.program[0], ExecuteProgram(request.program));
}

}  // namespace xenloop::tools
