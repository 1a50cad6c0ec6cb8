// What a process's own library knows of its TCP sockets, read from outside: for connections that no
// agent tells of. It is read from the process's memory (discovery/protocol/bulletin.h), which the
// kernel allows its user and root; where it does not, the reason says so.

#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "discovery/protocol/bulletin.h"
#include "tools/agent_answer.h"

namespace xenloop::tools {

// The established TCP sockets of /proc/PID/fd that are in no stream of `told`, each with the reason
// why it is on TCP. Nothing if the library is not in the process.
std::optional<std::vector<StreamReport>> StreamsInside(const std::string& proc, pid_t pid,
                                                       const std::vector<StreamReport>& told);

// Processes of this network namespace that have the library, as far as we may know.
std::vector<pid_t> ProcessesWithLibrary(const std::string& proc);

// ---- its parts, for tests ----

// Where the library's writable memory lies: the ranges of /proc/PID/maps that may hold a bulletin.
struct Range {
  uint64_t first, end;
};
std::vector<Range> WritableRangesOfLibrary(absl::string_view maps);

// The established connections in the text of /proc/PID/net/tcp or tcp6, by inode.
struct Connection {
  uint64_t inode;
  std::string local, peer;
};
std::vector<Connection> ConnectionsInTable(absl::string_view table);

}  // namespace xenloop::tools
