// What several tests of the tools share: a directory of their own and a shell.

#pragma once

#include <string>

namespace xenloop::tools {

// A new directory, removed with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file and returns its path.
  std::string Write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

struct ShellResult {
  int exit_status = -1;
  std::string output;
};
// Runs a command with sh and takes its standard output.
ShellResult Shell(const std::string& command);

}  // namespace xenloop::tools
