// What agents' packets mean: JSON text from a process we do not trust, turned into plain structs.
// Total over bytes: whatever is missing or of a wrong type is zero or empty, never an error.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace xenloop::tools {

struct AgentAnswer;

// One live stream of a process, as its agent tells it. Strings are printable ASCII.
struct StreamReport {
  uint64_t pid = 0;
  uid_t uid = 0;  // from the kernel, not from the agent
  std::string program;
  uint64_t fd = 0;
  std::string local;
  std::string peer;
  uint64_t peer_pid = 0;
  std::string route_send;
  std::string route_receive;
  uint64_t tcp_sent = 0;
  uint64_t tcp_received = 0;
  uint64_t fifo_sent = 0;
  uint64_t fifo_received = 0;
  uint64_t upgrades = 0;
  uint64_t fallbacks = 0;
  std::string reason;

  bool IsAccelerated() const { return route_send != "tcp" || route_receive != "tcp"; }
};

// What a process with peers in other guests has of Xen's scarce goods.
struct XenReport {
  uint64_t domid = 0;
  uint64_t granted_pages = 0;
  uint64_t may_grant_pages = 0;    // its own share
  uint64_t guest_limit_pages = 0;  // of all processes together
  uint64_t event_channels = 0;
};

// The datagrams of a process, by route.
struct DatagramReport {
  uint64_t fifo_sent = 0;
  uint64_t fifo_received = 0;
  uint64_t kernel_sent = 0;
  uint64_t kernel_received = 0;
  uint64_t dropped = 0;
  uint64_t dropped_by_sender = 0;
  uint64_t dropped_by_receiver = 0;
  uint64_t dropped_by_kernel = 0;
  std::map<std::string, uint64_t> by_kernel;  // sockets that are on no FIFO, by reason
};

struct ProcessReport {
  uint64_t pid = 0;
  uid_t uid = 0;
  std::string program;
  std::string version;
  uint64_t connections = 0;
  uint64_t upgraded = 0;
  std::map<std::string, uint64_t> fallbacks;  // by reason
  DatagramReport datagrams;
  std::map<std::string, uint64_t> not_parked;  // listeners and destinations, by reason
  std::optional<XenReport> xen;
  std::vector<StreamReport> streams;
  bool introduced = false;  // its "process" packet came
  bool complete = false;    // its last packet came
  uint64_t garbled_packets = 0;
  std::string refusal;  // what the agent said if it does not obey this user
};

// Answer to OFF and ON.
struct SwitchReport {
  bool obeyed = false;
  std::string error;  // what the agent said; empty if it said nothing we understand
};

// {"end":true}, {"ok":...} or {"error":...}: nothing follows.
bool IsLastPacket(absl::string_view packet);

ProcessReport DecodeStat(const AgentAnswer& answer);
SwitchReport DecodeSwitch(const AgentAnswer& answer);

// Adds without wrapping round: a hostile counter saturates.
uint64_t SaturatingSum(uint64_t a, uint64_t b);

}  // namespace xenloop::tools
