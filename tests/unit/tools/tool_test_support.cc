// See tool_test_support.h.

#include "tests/unit/tools/tool_test_support.h"

#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace xenloop::tools {

TemporaryDirectory::TemporaryDirectory() {
  std::string name = std::filesystem::temp_directory_path().string() + "/xenloop-test-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) abort();
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::Write(const std::string& name, const std::string& content) const {
  std::string file = path_ + "/" + name;
  std::ofstream(file, std::ios::binary) << content;
  return file;
}

ShellResult Shell(const std::string& command) {
  ShellResult result;
  FILE* const pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) return result;
  char buffer[4096];
  while (const size_t got = fread(buffer, 1, sizeof(buffer), pipe)) {
    result.output.append(buffer, got);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  return result;
}

}  // namespace xenloop::tools
