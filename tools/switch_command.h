// `xenloop off` and `xenloop on` (and `leave`, `arrive`): tells every agent this user may command
// to fall back to TCP, or that it may upgrade again.

#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/agent_address.h"
#include "tools/agent_client.h"

namespace xenloop::tools {

// Agents obey their own user and root.
std::vector<AgentAddress> AgentsThatObey(const std::vector<AgentAddress>& agents, uid_t uid);

struct SwitchOutcome {
  std::string text;  // one line an agent, and a summary
  bool all_obeyed = true;
};
SwitchOutcome SwitchAgents(const std::vector<AgentAddress>& agents, bool on,
                           const AskLimits& limits);

// Any order; `done` says what has become of those who obey.
SwitchOutcome TellAgents(const std::vector<AgentAddress>& agents, const std::string& order,
                         const std::string& done, const AskLimits& limits);

// Root's word is for the whole machine and outlives the processes that hear it: a file that says so
// is made or removed. Empty, or what went wrong.
inline constexpr char kSwitchedOffFile[] = "/run/xenloop/off";
std::string SwitchMachine(bool on, const std::string& file);

// Exit status 0 if every agent obeyed (or there was none), 1 otherwise.
int RunSwitch(bool on, const AgentPlaces& places, const AskLimits& limits);

// `xenloop leave` and `arrive`: the agents in this network namespace, which is about to be moved to
// another realm or has been. As RunSwitch.
int RunRealmMove(bool leave, const AgentPlaces& places, const AskLimits& limits);

}  // namespace xenloop::tools
