// Decodes agents' packets; see agent_answer.h.

#include "tools/agent_answer.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "tools/agent_client.h"
#include "tools/json_reading.h"

namespace xenloop::tools {
namespace {

using nlohmann::json;

constexpr size_t kLongestLastPacket = 1024;
constexpr size_t kLongestProgram = 32;
constexpr size_t kLongestAddress = 64;
constexpr size_t kLongestRoute = 8;
constexpr size_t kLongestReason = 120;

StreamReport DecodeStream(const json& packet) {
  StreamReport stream;
  stream.pid = NumberAt(packet, "pid");
  stream.program = TextAt(packet, "program", kLongestProgram);
  stream.fd = NumberAt(packet, "fd");
  stream.local = TextAt(packet, "local", kLongestAddress);
  stream.peer = TextAt(packet, "peer", kLongestAddress);
  stream.peer_pid = NumberAt(packet, "peer_pid");
  stream.route_send = TextAt(packet, "route_send", kLongestRoute);
  stream.route_receive = TextAt(packet, "route_receive", kLongestRoute);
  stream.tcp_sent = NumberAt(packet, "tcp_sent");
  stream.tcp_received = NumberAt(packet, "tcp_received");
  stream.fifo_sent = NumberAt(packet, "fifo_sent");
  stream.fifo_received = NumberAt(packet, "fifo_received");
  stream.upgrades = NumberAt(packet, "upgrades");
  stream.fallbacks = NumberAt(packet, "fallbacks");
  stream.reason = TextAt(packet, "reason", kLongestReason);
  return stream;
}

void DecodeProcess(const json& packet, ProcessReport* process) {
  process->introduced = true;
  process->pid = NumberAt(packet, "pid");
  process->program = TextAt(packet, "program", kLongestProgram);
  process->version = TextAt(packet, "version", kLongestProgram);
  process->connections = NumberAt(packet, "connections");
  process->upgraded = NumberAt(packet, "upgraded");
  AddCountsAt(packet, "fallbacks", &process->fallbacks);
  AddCountsAt(packet, "not_parked", &process->not_parked);
  const auto datagrams = packet.find("datagrams");
  if (datagrams != packet.end() && datagrams->is_object()) {
    process->datagrams = DatagramReport{NumberAt(*datagrams, "fifo_sent"),
                                        NumberAt(*datagrams, "fifo_received"),
                                        NumberAt(*datagrams, "kernel_sent"),
                                        NumberAt(*datagrams, "kernel_received"),
                                        NumberAt(*datagrams, "dropped"),
                                        NumberAt(*datagrams, "dropped_by_sender"),
                                        NumberAt(*datagrams, "dropped_by_receiver"),
                                        NumberAt(*datagrams, "dropped_by_kernel"),
                                        {}};
    AddCountsAt(*datagrams, "by_kernel", &process->datagrams.by_kernel);
  }
  const auto xen = packet.find("xen");
  if (xen == packet.end() || !xen->is_object()) return;
  process->xen = XenReport{NumberAt(*xen, "domid"), NumberAt(*xen, "granted_pages"),
                           NumberAt(*xen, "may_grant_pages"), NumberAt(*xen, "guest_limit_pages"),
                           NumberAt(*xen, "event_channels")};
}

}  // namespace

uint64_t SaturatingSum(uint64_t a, uint64_t b) {
  return b > std::numeric_limits<uint64_t>::max() - a ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

bool IsLastPacket(absl::string_view packet) {
  // Looked at before it is parsed: a stream's packet, of which there are many, has no such key.
  if (packet.size() > kLongestLastPacket) return false;
  if (packet.find("\"end\"") == absl::string_view::npos &&
      packet.find("\"ok\"") == absl::string_view::npos &&
      packet.find("\"error\"") == absl::string_view::npos) {
    return false;
  }
  const json object = ParseObject(packet);
  if (object.is_discarded()) return false;
  return TrueAt(object, "end") || object.contains("ok") || object.contains("error");
}

ProcessReport DecodeStat(const AgentAnswer& answer) {
  ProcessReport process;
  for (const std::string& packet : answer.packets) {
    const json object = ParseObject(packet);
    if (object.is_discarded()) {  // NOLINT(bugprone-branch-clone)
      ++process.garbled_packets;
    } else if (TrueAt(object, "end")) {
      process.complete = true;
      break;
    } else if (object.contains("error")) {
      process.refusal = TextAt(object, "error", kLongestReason);
      if (process.refusal.empty()) process.refusal = "no reason given";
    } else if (object.contains("process") && object["process"].is_object()) {
      DecodeProcess(object["process"], &process);
    } else if (object.contains("route_send")) {
      process.streams.push_back(DecodeStream(object));
    } else {
      ++process.garbled_packets;
    }
  }
  // The kernel's word counts, not the agent's; but a pid it cannot express here is the agent's.
  if (answer.pid > 0) process.pid = static_cast<uint64_t>(answer.pid);
  process.uid = answer.uid;
  for (StreamReport& stream : process.streams) {
    stream.pid = process.pid;
    stream.uid = process.uid;
    if (stream.program.empty()) stream.program = process.program;
  }
  return process;
}

SwitchReport DecodeSwitch(const AgentAnswer& answer) {
  SwitchReport report;
  if (answer.packets.empty()) return report;
  const json object = ParseObject(answer.packets.back());
  if (object.is_discarded()) return report;
  report.error = TextAt(object, "error", kLongestReason);
  report.obeyed = TrueAt(object, "ok") && report.error.empty();
  return report;
}

}  // namespace xenloop::tools
