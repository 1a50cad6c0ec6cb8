// Children by posix_spawn, with pipes for their standard input and output; see process.h.
#include "bench/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace xenloop::bench {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// The value of "Name:   123 kB" in one of the kernel's files.
absl::StatusOr<double> KibOf(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, absl::StrCat(name, ":"))) continue;
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    double kib = 0;
    if (words.size() >= 2 && absl::SimpleAtod(words[1], &kib)) return kib;
  }
  return absl::NotFoundError(absl::StrCat("no ", name, " in ", path));
}

}  // namespace

std::vector<std::string> ChildEnvironment(const std::vector<std::string>& additions) {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!absl::StartsWith(*variable, "LD_PRELOAD=")) environment.emplace_back(*variable);
  }
  environment.insert(environment.end(), additions.begin(), additions.end());
  return environment;
}

absl::StatusOr<Child> Child::Start(const std::vector<std::string>& arguments,
                                   const std::vector<std::string>& environment) {
  int input[2];
  int output[2];
  if (pipe2(input, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  if (pipe2(output, O_CLOEXEC) != 0) {
    close(input[0]);
    close(input[1]);
    return absl::ErrnoToStatus(errno, "pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  pid_t pid = -1;
  const int failed = posix_spawn(&pid, arguments[0].c_str(), &actions, nullptr,
                                 Pointers(arguments).data(), Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  if (failed != 0) {
    close(input[1]);
    close(output[0]);
    return absl::ErrnoToStatus(failed, absl::StrCat("cannot start ", arguments[0]));
  }
  return Child(pid, input[1], output[0]);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      input_(std::exchange(other.input_, -1)),
      output_(std::exchange(other.output_, -1)),
      unread_(std::move(other.unread_)) {}

Child::~Child() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (input_ >= 0) close(input_);
  if (output_ >= 0) close(output_);
}

absl::StatusOr<nlohmann::json> Child::ReadLine(absl::Time deadline) {
  for (;;) {
    if (const size_t end = unread_.find('\n'); end != std::string::npos) {
      nlohmann::json line = nlohmann::json::parse(unread_.substr(0, end), nullptr, false);
      unread_.erase(0, end + 1);
      if (line.is_discarded()) return absl::DataLossError("not JSON from a worker");
      return line;
    }
    pollfd readable{output_, POLLIN, 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0) return absl::DeadlineExceededError("a worker took too long");
    if (poll(&readable, 1, static_cast<int>(left_ms)) <= 0) continue;
    char buffer[4096];
    const ssize_t received = read(output_, buffer, sizeof(buffer));
    if (received <= 0) return absl::AbortedError("a worker ended without a result");
    unread_.append(buffer, static_cast<size_t>(received));
  }
}

absl::Status Child::WriteLine() {
  if (write(input_, "\n", 1) != 1) return absl::ErrnoToStatus(errno, "a worker's input");
  return absl::OkStatus();
}

absl::Status Child::WaitForExit(absl::Time deadline) {
  int status = 0;
  for (;;) {
    const pid_t ended = waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) break;
    if (absl::Now() > deadline) return absl::DeadlineExceededError("a worker does not end");
    absl::SleepFor(absl::Milliseconds(2));
  }
  pid_ = -1;
  if (WIFSIGNALED(status)) {
    return absl::AbortedError(absl::StrCat("a worker died of signal ", WTERMSIG(status)));
  }
  if (WEXITSTATUS(status) != 0) {
    return absl::AbortedError(absl::StrCat("a worker failed with code ", WEXITSTATUS(status)));
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> TimeProgram(const std::string& path,
                                           const std::vector<std::string>& environment) {
  const std::vector<std::string> arguments = {path};
  const std::vector<char*> argv = Pointers(arguments);
  const std::vector<char*> envp = Pointers(environment);
  timespec start{};
  timespec end{};
  pid_t pid = -1;
  clock_gettime(CLOCK_MONOTONIC, &start);
  const int failed = posix_spawn(&pid, path.c_str(), nullptr, nullptr, argv.data(), envp.data());
  if (failed != 0) return absl::ErrnoToStatus(failed, absl::StrCat("cannot start ", path));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "waitpid");
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  if (status != 0) return absl::AbortedError(absl::StrCat(path, " failed"));
  return absl::DurationFromTimespec(end) - absl::DurationFromTimespec(start);
}

absl::StatusOr<absl::Duration> CpuTime(pid_t pid) {
  clockid_t clock = 0;
  timespec used{};
  if (const int failed = clock_getcpuclockid(pid, &clock); failed != 0) {
    return absl::ErrnoToStatus(failed, "clock_getcpuclockid");
  }
  if (clock_gettime(clock, &used) != 0) return absl::ErrnoToStatus(errno, "clock_gettime");
  return absl::DurationFromTimespec(used);
}

absl::StatusOr<MemoryUse> MemoryOf(pid_t pid) {
  const std::string path = absl::StrCat("/proc/", pid, "/smaps_rollup");
  const absl::StatusOr<double> all = KibOf(path, "Pss");
  const absl::StatusOr<double> shared = KibOf(path, "Pss_Shmem");
  if (!all.ok()) return all.status();
  if (!shared.ok()) return shared.status();
  return MemoryUse{*all - *shared, *shared};
}

double SharedMemoryOfMachineKib() { return KibOf("/proc/meminfo", "Shmem").value_or(0); }

}  // namespace xenloop::bench
