// Splits the tool's command line: which subcommand, its own options, and what belongs to the
// program to run, of which not one word is touched.

#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace xenloop::tools {

struct CommandLine {
  std::string command;                // "run", "stat", "doctor", "off", "on", "help", "version"
  std::vector<std::string> options;   // "--json", "--interval=2": for absl's flag parser
  std::vector<std::string> operands;  // for run: the program and its arguments
};

// `arguments` is argv without argv[0]. An option of ours stands before the first operand; with
// `run`, "--" and everything from the first operand on is the program's.
// --help anywhere among our options makes the command "help" with the subcommand as operand.
// An error's message is for the user, and names the help to look at.
absl::StatusOr<CommandLine> SplitCommandLine(const std::vector<std::string>& arguments);

}  // namespace xenloop::tools
