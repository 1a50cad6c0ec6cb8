// `xenloop run`: starts a program with the library in front of LD_PRELOAD. Without --stats the tool
// becomes the program; with it the tool waits, passes signals on and prints what went by which
// route.

#pragma once

#include <string>
#include <vector>

namespace xenloop::tools {

// As env(1), nohup(1) and the shell have them.
inline constexpr int kExitToolFailed = 125;
inline constexpr int kExitCannotExecute = 126;
inline constexpr int kExitNotFound = 127;

struct RunRequest {
  std::vector<std::string> program;  // and its arguments
  std::string library;
  bool stats = false;
  bool json = false;
};

// Returns the exit status for the tool: the program's own, or 128 + the signal that ended it.
int RunProgram(const RunRequest& request);

}  // namespace xenloop::tools
