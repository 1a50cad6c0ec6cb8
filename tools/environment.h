// The tools' one door to the environment and to small files. Nothing else here reads a variable
// or slurps a file: whoever needs one gets it from main() or from these functions.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace xenloop::tools {

std::optional<std::string> EnvironmentValue(const std::string& name);
void SetEnvironmentValue(const std::string& name, const std::string& value);

// This process's environment as "NAME=value" entries, the form /proc/PID/environ has too.
std::vector<std::string> EnvironmentEntries();
// The value of `name` among such entries; the first one counts, as in the C library.
std::optional<std::string> FindEntry(const std::vector<std::string>& entries,
                                     absl::string_view name);

// The first `limit_bytes` of a regular file (a longer one is OutOfRange, a pipe or a directory
// FailedPrecondition). Never blocks, also on a FIFO that somebody put in the file's place.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t limit_bytes);

}  // namespace xenloop::tools
