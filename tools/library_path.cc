// Finds the library; see library_path.h.

#include "tools/library_path.h"

#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace xenloop::tools {

namespace fs = std::filesystem;

std::vector<std::string> LibraryCandidates(const std::string& tool_directory) {
  return {absl::StrCat(tool_directory, "/../lib/", kLibraryName),
          // A Debian-like prefix that was moved as a whole has lib/<architecture>.
          absl::StrCat(tool_directory, "/../", XENLOOP_INSTALL_LIBDIR, "/", kLibraryName),
          absl::StrCat(XENLOOP_INSTALL_FULL_LIBDIR, "/", kLibraryName)};
}

std::string ToolDirectory() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string(".") : self.parent_path().string();
}

absl::StatusOr<std::string> FindLibrary(const std::vector<std::string>& candidates) {
  for (const std::string& candidate : candidates) {
    std::error_code error;
    if (!fs::is_regular_file(candidate, error)) continue;
    // Only the directory is resolved: the file's own name must stay libxenloop.so.
    const fs::path path(candidate);
    const fs::path directory = fs::canonical(path.parent_path(), error);
    if (error) continue;
    return (directory / path.filename()).string();
  }
  return absl::NotFoundError(
      absl::StrCat("cannot find ", kLibraryName, "; looked for ", absl::StrJoin(candidates, ", ")));
}

std::vector<std::string> PreloadEntries(absl::string_view value) {
  return absl::StrSplit(value, absl::ByAnyChar(": \t\n"), absl::SkipEmpty());
}

absl::StatusOr<std::string> PrependPreload(const std::string& library, absl::string_view value) {
  if (library.find_first_of(": \t\n") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path ", library,
                     " holds a blank or a colon, which LD_PRELOAD cannot express: move or link the "
                     "installation to another path"));
  }
  std::vector<std::string> entries = {library};
  for (std::string& entry : PreloadEntries(value)) {
    if (entry != library) entries.push_back(std::move(entry));
  }
  return absl::StrJoin(entries, ":");
}

std::string ExpandLib(absl::string_view path) {
  return absl::StrReplaceAll(
      path, {{"${LIB}", XENLOOP_INSTALL_LIBDIR}, {"$LIB", XENLOOP_INSTALL_LIBDIR}});
}

bool NamesLibrary(absl::string_view path) {
  const size_t slash = path.rfind('/');
  const absl::string_view name = slash == absl::string_view::npos ? path : path.substr(slash + 1);
  return absl::StartsWith(name, kLibraryName);
}

}  // namespace xenloop::tools
