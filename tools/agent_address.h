// Where the agents of this machine listen: the names of their sockets, found in /proc/net/unix
// (this network namespace) and in a realm directory (several namespaces joined by the
// administrator). Names are claims: anybody may bind one. AskAgents() learns who really listens.

#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace xenloop::tools {

struct AgentAddress {
  std::string name;       // for people: "@xenloop/1000/0123456789abcdef" or a path
  uid_t claimed_uid = 0;  // the user in the name
  bool abstract = true;

  // The socket address; nothing if the path does not fit in one.
  std::optional<socklen_t> ToSockaddr(sockaddr_un* address) const;
};

// Where to look. The defaults are the real machine; tests put their own.
struct AgentPlaces {
  std::string proc_net_unix = "/proc/net/unix";
  std::string realm_directory;  // empty: none
  std::string proc;  // where processes are looked into that no agent tells of; empty: nowhere
};

// "@xenloop/<uid>/<16 hex>" or "DIR/xenloop-<uid>/<16 hex>.sock"; nothing for any other name.
std::optional<AgentAddress> ParseAgentName(absl::string_view name);

// The listening SOCK_SEQPACKET sockets with an agent's name in the text of /proc/net/unix.
std::vector<AgentAddress> AgentsInSocketTable(absl::string_view table);
// The sockets with an agent's name in DIR/xenloop-*/. A link is not followed.
std::vector<AgentAddress> AgentsInRealm(const std::string& directory);

// Both, each agent once, those of `own_uid` first (they are asked first).
std::vector<AgentAddress> FindAgents(const AgentPlaces& places, uid_t own_uid);

}  // namespace xenloop::tools
