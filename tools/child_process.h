// Starts a program and waits for it as an invisible parent: whoever signals the tool signals the
// program, and how the program ended is how the tool ends.

#pragma once

#include <string>
#include <vector>

namespace xenloop::tools {

// Replaces this process. Returns only on failure: the errno.
int ExecuteProgram(const std::vector<std::string>& program);

struct ChildEnd {
  int execute_errno = 0;  // not 0: it never ran
  int exit_status = 0;    // as a shell says it: 0..255, or 128 + signal
};
// One child at a time, from a process with one thread.
ChildEnd RunAndWait(const std::vector<std::string>& program);

}  // namespace xenloop::tools
