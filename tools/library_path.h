// Where libxenloop.so is, and how its name is put in front of LD_PRELOAD.

#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace xenloop::tools {

inline constexpr char kLibraryName[] = "libxenloop.so";

// Beside the tool first (a build tree, a copied tree), then where CMake installs it.
std::vector<std::string> LibraryCandidates(const std::string& tool_directory);
// The directory of the running executable.
std::string ToolDirectory();
// The first candidate that is a file, as an absolute path without links in its directories.
absl::StatusOr<std::string> FindLibrary(const std::vector<std::string>& candidates);

// An entry of /etc/ld.so.preload as ld.so reads it in a 64-bit program: $LIB is this system's
// directory of libraries, which is where the library is installed.
std::string ExpandLib(absl::string_view path);

// The files that a value of LD_PRELOAD (or a line of /etc/ld.so.preload) names.
std::vector<std::string> PreloadEntries(absl::string_view value);
// `value` with `library` in front, once. Fails if the path holds a blank or a colon, which
// LD_PRELOAD has no way to express.
absl::StatusOr<std::string> PrependPreload(const std::string& library, absl::string_view value);
// Is this the path of our library (by file name)?
bool NamesLibrary(absl::string_view path);

}  // namespace xenloop::tools
