// Talks to agents: sends one request to each of them at the same time and collects what comes back
// within limits of time and memory. An agent may be slow, mute, garbled or an enemy: it costs its
// own answer and nothing else. What the packets mean is decided in agent_answer.h.

#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tools/agent_address.h"

namespace xenloop::tools {

enum class AskOutcome {
  kComplete,    // the last packet came
  kCutShort,    // it hung up, or said more than the limits allow, before its last packet
  kSilent,      // no answer, or no further packet, in time
  kGone,        // nobody listens any more
  kNotAllowed,  // we may not connect
  kImpostor,    // its name says one user, the kernel another: not asked
};

struct AskLimits {
  int silence_ms = 1000;            // between two packets of one agent
  int agent_ms = 5000;              // for the whole answer of one agent
  int total_ms = 10000;             // for all agents together
  size_t agent_bytes = 16u << 20;   // kept of one agent's answer (40,000 streams)
  size_t total_bytes = 256u << 20;  // kept of all answers
  size_t concurrent_agents = 128;
};

struct AgentAnswer {
  AgentAddress agent;
  AskOutcome outcome = AskOutcome::kSilent;
  uid_t uid = static_cast<uid_t>(-1);  // who listens, from the kernel
  pid_t pid = 0;                       // the same; 0 if it is in a namespace we cannot see
  std::vector<std::string> packets;
};

// Answers in the order of `agents`.
std::vector<AgentAnswer> AskAgents(const std::vector<AgentAddress>& agents,
                                   absl::string_view request, const AskLimits& limits);

// For a note to people: "does not answer", "has gone", ...
const char* DescribeOutcome(AskOutcome outcome);

}  // namespace xenloop::tools
