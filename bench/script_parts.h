// What the shell scripts beside this program need and a shell cannot do well without more tools.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace xenloop::bench {

// Runs the command "cores"; what it prints.
absl::StatusOr<std::string> RunScriptPart(const std::string& command,
                                          const std::vector<std::string>& arguments);

}  // namespace xenloop::bench
