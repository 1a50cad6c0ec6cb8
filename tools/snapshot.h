// All live streams of this machine at one moment: finds the agents, asks them, sorts what they
// say, and keeps a note about each that could not be understood.

#pragma once

#include <string>
#include <vector>

#include "tools/agent_address.h"
#include "tools/agent_answer.h"
#include "tools/agent_client.h"

namespace xenloop::tools {

struct Snapshot {
  std::vector<ProcessReport> processes;  // sorted by program, pid; their streams by local, peer, fd
  std::vector<std::string> notes;        // about agents whose answer is missing or unusable
};

// The streams that no agent tells of, of processes with an agent or without (inside.h).
void AddUntold(const std::string& proc, Snapshot* snapshot);

// Decodes and sorts. Of two answers by one process (it is in both places) the first counts.
Snapshot MakeSnapshot(const std::vector<AgentAnswer>& answers);

Snapshot TakeSnapshot(const AgentPlaces& places, const AskLimits& limits);

}  // namespace xenloop::tools
