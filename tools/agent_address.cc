// Finds the names of agents' sockets; see agent_address.h.

#include "tools/agent_address.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <tuple>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tools/environment.h"

namespace xenloop::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestSocketTableBytes = 256u << 20;
constexpr size_t kMostAgentsOfARealm = 16384;  // a directory filled by an enemy ends here

bool IsAgentId(absl::string_view text) {
  return text.size() == 16 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

bool ParseUid(absl::string_view text, uid_t* uid) {
  return !text.empty() && text.size() <= 10 && absl::ascii_isdigit(text[0]) &&
         absl::SimpleAtoi(text, uid);
}

bool HasAgentName(const fs::path& path) { return ParseAgentName(path.string()).has_value(); }

}  // namespace

std::optional<socklen_t> AgentAddress::ToSockaddr(sockaddr_un* address) const {
  *address = {};
  address->sun_family = AF_UNIX;
  // An abstract name has no terminator and is exactly as long as it says; a path has one.
  const size_t room = sizeof(address->sun_path) - (abstract ? 0 : 1);
  if (name.empty() || name.size() > room) return std::nullopt;
  std::memcpy(address->sun_path, name.data(), name.size());
  if (abstract) address->sun_path[0] = '\0';
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1));
}

std::optional<AgentAddress> ParseAgentName(absl::string_view name) {
  AgentAddress agent;
  agent.name = std::string(name);
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "@xenloop/")) {
    const size_t slash = rest.find('/');
    if (slash == absl::string_view::npos) return std::nullopt;
    if (!ParseUid(rest.substr(0, slash), &agent.claimed_uid)) return std::nullopt;
    if (!IsAgentId(rest.substr(slash + 1))) return std::nullopt;
    return agent;
  }
  agent.abstract = false;
  if (!absl::StartsWith(rest, "/") || !absl::ConsumeSuffix(&rest, ".sock")) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, '/');
  if (parts.size() < 3 || !IsAgentId(parts.back())) return std::nullopt;
  absl::string_view owner = parts[parts.size() - 2];
  if (!absl::ConsumePrefix(&owner, "xenloop-") || !ParseUid(owner, &agent.claimed_uid)) {
    return std::nullopt;
  }
  return agent;
}

std::vector<AgentAddress> AgentsInSocketTable(absl::string_view table) {
  constexpr uint32_t kAcceptsConnections = 0x10000;  // __SO_ACCEPTCON: it listens
  std::vector<AgentAddress> agents;
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    // Num RefCount Protocol Flags Type St Inode Path: seven words, then the path as it is.
    absl::string_view rest = line;
    absl::string_view words[7];
    for (absl::string_view& word : words) {
      rest = absl::StripLeadingAsciiWhitespace(rest);
      word = rest.substr(0, rest.find(' '));
      rest.remove_prefix(word.size());
    }
    uint32_t flags = 0;
    uint32_t type = 0;
    if (!absl::SimpleHexAtoi(words[3], &flags) || !absl::SimpleHexAtoi(words[4], &type)) continue;
    if ((flags & kAcceptsConnections) == 0 || type != SOCK_SEQPACKET) continue;
    if (auto agent = ParseAgentName(absl::StripLeadingAsciiWhitespace(rest))) {
      agents.push_back(*std::move(agent));
    }
  }
  return agents;
}

std::vector<AgentAddress> AgentsInRealm(const std::string& directory) {
  std::vector<AgentAddress> agents;
  std::error_code error;
  const fs::path realm = fs::absolute(directory, error).lexically_normal();
  for (fs::directory_iterator user(realm, error), end; !error && user != end;
       user.increment(error)) {
    std::error_code inner;
    if (!absl::StartsWith(user->path().filename().string(), "xenloop-")) continue;
    if (!fs::is_directory(user->symlink_status(inner))) continue;
    for (fs::directory_iterator entry(user->path(), inner); !inner && entry != end;
         entry.increment(inner)) {
      std::error_code ignored;
      if (!HasAgentName(entry->path()) || !fs::is_socket(entry->symlink_status(ignored))) continue;
      agents.push_back(*ParseAgentName(entry->path().string()));
      if (agents.size() >= kMostAgentsOfARealm) return agents;
    }
  }
  return agents;
}

std::vector<AgentAddress> FindAgents(const AgentPlaces& places, uid_t own_uid) {
  std::vector<AgentAddress> agents;
  const absl::StatusOr<std::string> table =
      ReadSmallFile(places.proc_net_unix, kLongestSocketTableBytes);
  if (table.ok()) agents = AgentsInSocketTable(*table);
  if (!places.realm_directory.empty()) {
    for (AgentAddress& agent : AgentsInRealm(places.realm_directory)) {
      agents.push_back(std::move(agent));
    }
  }
  const auto order = [own_uid](const AgentAddress& agent) {
    return std::make_tuple(agent.claimed_uid != own_uid, absl::string_view(agent.name));
  };
  std::sort(agents.begin(), agents.end(),
            [&order](const AgentAddress& a, const AgentAddress& b) { return order(a) < order(b); });
  agents.erase(
      std::unique(agents.begin(), agents.end(),
                  [](const AgentAddress& a, const AgentAddress& b) { return a.name == b.name; }),
      agents.end());
  return agents;
}

}  // namespace xenloop::tools
