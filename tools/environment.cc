// Reads variables and small files for the tools; see environment.h.

#include "tools/environment.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace xenloop::tools {

std::optional<std::string> EnvironmentValue(const std::string& name) {
  const char* value = getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

void SetEnvironmentValue(const std::string& name, const std::string& value) {
  setenv(name.c_str(), value.c_str(), /*replace=*/1);
}

std::vector<std::string> EnvironmentEntries() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    entries.emplace_back(*entry);
  }
  return entries;
}

std::optional<std::string> FindEntry(const std::vector<std::string>& entries,
                                     absl::string_view name) {
  const std::string prefix = absl::StrCat(name, "=");
  for (const std::string& entry : entries) {
    if (absl::StartsWith(entry, prefix)) return entry.substr(prefix.size());
  }
  return std::nullopt;
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t limit_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  }
  std::string content;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const absl::Status error = absl::ErrnoToStatus(errno, path);
      close(fd);
      return error;
    }
    if (got == 0) break;
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > limit_bytes) {
      close(fd);
      return absl::OutOfRangeError(absl::StrCat(path, ": longer than ", limit_bytes, " bytes"));
    }
  }
  close(fd);
  return content;
}

}  // namespace xenloop::tools
