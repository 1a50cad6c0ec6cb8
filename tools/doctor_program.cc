// The doctor's checks of an executable: can the loader preload a library into it, and would its
// socket calls come through libc? See doctor.h.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/doctor.h"
#include "tools/elf_file.h"
#include "tools/environment.h"
#include "tools/library_path.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

namespace fs = std::filesystem;

constexpr int kMostInterpreters = 4;  // the kernel follows five

bool IsExecutableFile(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
}

// The first line of a script without "#!"; empty if `path` is no script.
std::string ScriptLine(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return "";
  char buffer[256];
  const ssize_t got = pread(fd, buffer, sizeof(buffer), 0);
  close(fd);
  const absl::string_view head(buffer, got < 0 ? 0 : static_cast<size_t>(got));
  if (!absl::StartsWith(head, "#!")) return "";
  const absl::string_view line = head.substr(2, head.find('\n') - 2);
  return std::string(absl::StripAsciiWhitespace(line));
}

// What a script is run by: the word after "#!", or what env(1) would find for it.
std::string InterpreterOf(absl::string_view script_line, absl::string_view search_path) {
  const std::vector<std::string> words =
      absl::StrSplit(script_line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.empty()) return "";
  if (!absl::EndsWith(words[0], "/env")) return words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    if (absl::StartsWith(words[i], "-") || absl::StrContains(words[i], "=")) continue;
    return FindProgram(words[i], search_path);
  }
  return "";
}

// The loader of a program that gains privileges ignores LD_PRELOAD (AT_SECURE).
void CheckPrivileges(const std::string& path, const std::string& name, uid_t uid,
                     Findings* findings) {
  constexpr char kRemedy[] =
      "start it directly as the user it is meant for (systemd: User=, AmbientCapabilities=), or "
      "put the library into /etc/ld.so.preload, which the loader obeys in such programs, too";
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != uid) {
    findings->Problem(
        absl::StrCat(name, " is setuid to user ", status.st_uid, ": the loader ignores LD_PRELOAD"),
        kRemedy);
  }
  if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && uid != 0) {
    findings->Problem(absl::StrCat(name, " is setgid to group ", status.st_gid,
                                   ": the loader ignores LD_PRELOAD"),
                      kRemedy);
  }
  if (getxattr(path.c_str(), "security.capability", nullptr, 0) > 0 && uid != 0) {
    findings->Problem(absl::StrCat(name, " has file capabilities: the loader ignores LD_PRELOAD"),
                      kRemedy);
  }
}

void CheckElf(const ElfFile& elf, const std::string& name, Findings* findings) {
  if (!elf.is_64_bit || elf.machine != OwnMachine()) {
    findings->Problem(
        absl::StrCat(name, elf.is_64_bit ? " is made for another kind of machine"
                                         : " is a 32-bit program; the library is 64-bit"),
        "use a build of the program for this architecture");
    return;
  }
  if (elf.written_in_go) {
    findings->Problem(absl::StrCat(name,
                                   " is written in Go: it makes its system calls itself, "
                                   "libc and we never see them"),
                      "none: its connections stay on TCP, which is correct, only not faster");
    return;
  }
  if (elf.IsStatic()) {
    findings->Problem(absl::StrCat(name, " is linked statically: nothing can be preloaded"),
                      "use a dynamically linked build of it");
    return;
  }
  if (!elf.UsesGlibc()) {
    findings->Problem(absl::StrCat(name, " does not use glibc (its loader is ",
                                   Printable(elf.interpreter, 100), ")"),
                      "use a build of it for a glibc system (Debian, Ubuntu, Fedora, ...)");
    return;
  }
  if (elf.has_address_sanitizer) {
    findings->Problem(
        absl::StrCat(name,
                     " is built with AddressSanitizer, whose runtime refuses to start behind "
                     "any preloaded library"),
        "preload the runtime first: LD_PRELOAD=\"$(gcc -print-file-name=libasan.so) LIBRARY\" (for "
        "clang: -shared-libasan and its runtime), or start it with "
        "ASAN_OPTIONS=verify_asan_link_order=0, or without this library");
    return;
  }
  findings->Fine(absl::StrCat(name, " is dynamically linked with glibc"));
}

}  // namespace

std::string FindProgram(const std::string& program, absl::string_view search_path) {
  if (program.empty()) return "";
  if (absl::StrContains(program, "/")) return IsExecutableFile(program) ? program : "";
  if (search_path.empty()) search_path = "/bin:/usr/bin";  // as execvp has it
  for (const absl::string_view directory : absl::StrSplit(search_path, ':')) {
    std::string path =
        directory.empty() ? absl::StrCat("./", program) : absl::StrCat(directory, "/", program);
    if (IsExecutableFile(path)) return path;
  }
  return "";
}

std::string LoaderOfAnotherLibc(const std::string& program, absl::string_view search_path) {
  std::string executable = FindProgram(program, search_path);
  for (int depth = 0; depth < kMostInterpreters; ++depth) {
    const std::string line = ScriptLine(executable);
    if (line.empty()) break;
    executable = InterpreterOf(line, search_path);
  }
  const absl::StatusOr<ElfFile> elf = ReadElf(executable);
  return elf.ok() && !elf->IsStatic() && !elf->UsesGlibc() ? Printable(elf->interpreter, 100) : "";
}

void CheckExecutable(const std::string& path, const std::string& name, uid_t uid,
                     absl::string_view search_path, Findings* findings) {
  std::string executable = path;
  std::string shown = name;
  for (int depth = 0; depth < kMostInterpreters; ++depth) {
    const std::string line = ScriptLine(executable);
    if (line.empty()) break;
    const std::string interpreter = InterpreterOf(line, search_path);
    if (interpreter.empty()) {
      findings->Problem(absl::StrCat(shown, " is a script whose interpreter is not found (#!",
                                     Printable(line, 100), ")"),
                        "install the interpreter");
      return;
    }
    findings->Note(absl::StrCat(shown, " is a script run by ", Printable(interpreter, 200),
                                "; what it starts inherits the library"));
    executable = interpreter;
    shown = Printable(interpreter, 200);
  }
  const absl::StatusOr<ElfFile> elf = ReadElf(executable);
  if (!elf.ok()) {
    findings->Problem(
        absl::StrCat("cannot judge ", shown, ": ", Printable(elf.status().message(), 200)),
        "give a program that this machine can run, and that you may read");
    return;
  }
  CheckElf(*elf, shown, findings);
  CheckPrivileges(executable, shown, uid, findings);
}

void CheckPreloadVariable(const ProgramSurroundings& program, Findings* findings) {
  const std::string value = FindEntry(program.environment, "LD_PRELOAD").value_or("");
  for (const std::string& entry : PreloadEntries(value)) {
    std::error_code error;
    const std::string shown = Printable(entry, 200);
    if (absl::StartsWith(entry, "/") && !fs::exists(program.root + entry, error)) {
      findings->Problem(
          absl::StrCat("LD_PRELOAD names ", shown, ", which does not exist",
                       program.root.empty() ? "" : " in the file system that the process sees"),
          program.root.empty()
              ? "correct LD_PRELOAD, or use `xenloop run`"
              : "in a container: mount or install the library inside it at that path");
    } else if (NamesLibrary(entry)) {
      findings->Fine(absl::StrCat("LD_PRELOAD has ", shown));
    }
  }
}

}  // namespace xenloop::tools
