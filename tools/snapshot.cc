// Makes one sorted picture out of all agents' answers; see snapshot.h.

#include "tools/snapshot.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/inside.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

std::string Who(const AgentAnswer& answer) {
  std::string who = absl::StrCat("agent ", Printable(answer.agent.name, 108));
  if (answer.pid > 0) absl::StrAppend(&who, " (pid ", answer.pid, ")");
  return who;
}

// "127.0.0.1:99" before "127.0.0.1:1000": the shorter port is the smaller.
auto AddressOrder(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return std::make_tuple(address, size_t{0}, std::string());
  return std::make_tuple(address.substr(0, colon), address.size() - colon, address.substr(colon));
}

void SortStreams(std::vector<StreamReport>* streams) {
  std::sort(streams->begin(), streams->end(), [](const StreamReport& a, const StreamReport& b) {
    return std::make_tuple(AddressOrder(a.local), AddressOrder(a.peer), a.fd) <
           std::make_tuple(AddressOrder(b.local), AddressOrder(b.peer), b.fd);
  });
}

void SortProcesses(Snapshot* snapshot) {
  std::sort(snapshot->processes.begin(), snapshot->processes.end(),
            [](const ProcessReport& a, const ProcessReport& b) {
              return std::tie(a.program, a.pid) < std::tie(b.program, b.pid);
            });
}

}  // namespace

Snapshot MakeSnapshot(const std::vector<AgentAnswer>& answers) {
  Snapshot snapshot;
  std::set<pid_t> seen;
  uint64_t refusals = 0;
  for (const AgentAnswer& answer : answers) {
    // A socket that nobody listens on is what a killed process leaves in a realm: nothing to say.
    if (answer.outcome == AskOutcome::kGone) continue;
    if (answer.outcome != AskOutcome::kComplete) {
      snapshot.notes.push_back(absl::StrCat(Who(answer), " ", DescribeOutcome(answer.outcome)));
    }
    if (answer.packets.empty()) continue;
    ProcessReport process = DecodeStat(answer);
    if (!process.refusal.empty()) {
      ++refusals;
      continue;
    }
    if (process.garbled_packets > 0) {
      snapshot.notes.push_back(absl::StrCat(
          Who(answer), " sent ", Counted(process.garbled_packets, "packet"), " of garbage"));
    }
    if (!process.introduced && process.streams.empty()) continue;
    if (answer.pid > 0 && !seen.insert(answer.pid).second) continue;
    SortStreams(&process.streams);
    snapshot.processes.push_back(std::move(process));
  }
  if (refusals > 0) {
    snapshot.notes.push_back(
        absl::StrCat(Counted(refusals, "process"), " of other users not shown (root sees all)"));
  }
  SortProcesses(&snapshot);
  return snapshot;
}

void AddUntold(const std::string& proc, Snapshot* snapshot) {
  std::set<pid_t> others;
  for (const pid_t pid : ProcessesWithLibrary(proc)) others.insert(pid);
  const auto add = [&proc](ProcessReport* process) {
    std::optional<std::vector<StreamReport>> untold =
        StreamsInside(proc, static_cast<pid_t>(process->pid), process->streams);
    if (!untold || untold->empty()) return false;
    for (StreamReport& stream : *untold) {
      stream.uid = process->uid;
      process->program = stream.program;
      process->streams.push_back(std::move(stream));
    }
    SortStreams(&process->streams);
    return true;
  };
  for (ProcessReport& process : snapshot->processes) {
    others.erase(static_cast<pid_t>(process.pid));
    if (process.complete) add(&process);
  }
  for (const pid_t pid : others) {
    ProcessReport process;
    process.pid = static_cast<uint64_t>(pid);
    struct stat owner;
    if (stat(absl::StrCat(proc, "/", pid).c_str(), &owner) == 0) process.uid = owner.st_uid;
    process.complete = true;
    if (add(&process)) snapshot->processes.push_back(std::move(process));
  }
  SortProcesses(snapshot);
}

Snapshot TakeSnapshot(const AgentPlaces& places, const AskLimits& limits) {
  Snapshot snapshot = MakeSnapshot(AskAgents(FindAgents(places, geteuid()), "STAT\n", limits));
  if (!places.proc.empty()) AddUntold(places.proc, &snapshot);
  return snapshot;
}

}  // namespace xenloop::tools
