// Commands the agents; see switch_command.h.

#include "tools/switch_command.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "tools/agent_answer.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

std::string WhyNot(const AgentAnswer& answer, const SwitchReport& report) {
  if (!report.error.empty()) return absl::StrCat("refused: ", report.error);
  if (answer.outcome == AskOutcome::kComplete) return "gave an answer that makes no sense";
  return DescribeOutcome(answer.outcome);
}

}  // namespace

std::vector<AgentAddress> AgentsThatObey(const std::vector<AgentAddress>& agents, uid_t uid) {
  std::vector<AgentAddress> obeying;
  for (const AgentAddress& agent : agents) {
    if (uid == 0 || agent.claimed_uid == uid) obeying.push_back(agent);
  }
  return obeying;
}

SwitchOutcome TellAgents(const std::vector<AgentAddress>& agents, const std::string& order,
                         const std::string& done, const AskLimits& limits) {
  SwitchOutcome outcome;
  uint64_t obeyed = 0;
  std::set<pid_t> seen;
  for (const AgentAnswer& answer : AskAgents(agents, order, limits)) {
    if (answer.outcome == AskOutcome::kGone) continue;  // its process ended: nothing to switch
    const SwitchReport report = DecodeSwitch(answer);
    if (report.obeyed) {
      // A process that listens in two places was told twice and counts once.
      if (answer.pid <= 0 || seen.insert(answer.pid).second) ++obeyed;
      continue;
    }
    outcome.all_obeyed = false;
    const std::string process = answer.pid > 0 ? absl::StrCat(" (pid ", answer.pid, ")") : "";
    absl::StrAppend(&outcome.text, "agent ", Printable(answer.agent.name, 108), process, " ",
                    WhyNot(answer, report), "\n");
  }
  if (obeyed == 0 && outcome.all_obeyed) {
    outcome.text = "No running process has an agent that you may command.\n";
    return outcome;
  }
  absl::StrAppend(&outcome.text, Counted(obeyed, "process"), " ", done, "\n");
  return outcome;
}

SwitchOutcome SwitchAgents(const std::vector<AgentAddress>& agents, bool on,
                           const AskLimits& limits) {
  return TellAgents(agents, on ? "ON\n" : "OFF\n",
                    on ? "may use shared memory again" : "back on TCP", limits);
}

std::string SwitchMachine(bool on, const std::string& file) {
  std::error_code error;
  const std::filesystem::path path(file);
  if (on) {
    std::filesystem::remove(path, error);
  } else {
    // Before the agents are told: a process that gets its agent meanwhile finds the file.
    std::filesystem::create_directories(path.parent_path(), error);
    if (!error && !std::ofstream(path)) error = std::make_error_code(std::errc::permission_denied);
  }
  if (!error) return "";
  return absl::StrCat(file, ": ", error.message(),
                      on ? "; programs started from now on stay on TCP"
                         : "; programs started from now on are accelerated");
}

int RunSwitch(bool on, const AgentPlaces& places, const AskLimits& limits) {
  const uid_t uid = geteuid();
  if (uid == 0) {
    if (const std::string problem = SwitchMachine(on, kSwitchedOffFile); !problem.empty()) {
      std::fprintf(stderr, "%s\n", problem.c_str());
      return 1;
    }
  }
  const SwitchOutcome outcome =
      SwitchAgents(AgentsThatObey(FindAgents(places, uid), uid), on, limits);
  std::fputs(outcome.text.c_str(), outcome.all_obeyed ? stdout : stderr);
  if (uid == 0) {
    std::fputs(on ? "Programs that are started from now on may use shared memory, too.\n"
                  : "Programs that are started from now on stay on TCP, too, until `xenloop on`.\n",
               stdout);
  }
  return outcome.all_obeyed ? 0 : 1;
}

int RunRealmMove(bool leave, const AgentPlaces& places, const AskLimits& limits) {
  constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool known = fd >= 0 && getsockopt(fd, SOL_SOCKET, kNetnsCookie, &cookie, &size) == 0;
  if (fd >= 0) close(fd);
  if (!known) {
    std::fprintf(stderr, "xenloop: this kernel does not tell network namespaces apart\n");
    return 1;
  }
  const uid_t uid = geteuid();
  const SwitchOutcome outcome = TellAgents(
      AgentsThatObey(FindAgents(places, uid), uid),
      absl::StrCat(leave ? "LEAVE " : "ARRIVE ", cookie, "\n"),
      leave ? "told that this namespace leaves" : "told that this namespace has arrived", limits);
  std::fputs(outcome.text.c_str(), outcome.all_obeyed ? stdout : stderr);
  return outcome.all_obeyed ? 0 : 1;
}

}  // namespace xenloop::tools
