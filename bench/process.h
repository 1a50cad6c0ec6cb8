// A child process of the benchmark: started with a chosen environment, spoken with in JSON lines,
// bounded in time, and killed when its owner goes away. Also what the kernel tells about it.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace xenloop::bench {

// This process's environment without LD_PRELOAD, plus `additions` ("NAME=value").
std::vector<std::string> ChildEnvironment(const std::vector<std::string>& additions);

class Child {
 public:
  static absl::StatusOr<Child> Start(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& environment);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  absl::StatusOr<nlohmann::json> ReadLine(absl::Time deadline);
  absl::Status WriteLine();
  absl::Status WaitForExit(absl::Time deadline);  // an error unless the exit code is 0

 private:
  Child(pid_t pid, int input, int output) : pid_(pid), input_(input), output_(output) {}

  pid_t pid_;
  int input_;
  int output_;
  std::string unread_;
};

// Starts and waits for a program without output; its duration.
absl::StatusOr<absl::Duration> TimeProgram(const std::string& path,
                                           const std::vector<std::string>& environment);

// What the kernel knows of a process.
absl::StatusOr<absl::Duration> CpuTime(pid_t pid);  // all threads, user and system
struct MemoryUse {
  double private_kib = 0;  // Pss without shared memory
  double shared_kib = 0;   // Pss of shared memory
};
absl::StatusOr<MemoryUse> MemoryOf(pid_t pid);
double SharedMemoryOfMachineKib();  // Shmem of /proc/meminfo

}  // namespace xenloop::bench
