// Prints pictures of the live streams; see stat_command.h.

#include "tools/stat_command.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "discovery/protocol/reasons.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

// "; dropped, since a queue was full: 3 by senders, 1 by the kernel", or nothing.
std::string DropsOf(const DatagramReport& datagrams) {
  std::string text;
  const auto add = [&text](uint64_t count, absl::string_view by) {
    if (count == 0) return;
    absl::StrAppend(&text, text.empty() ? "; dropped, since a queue was full: " : ", ", count, by);
  };
  add(datagrams.dropped_by_sender, " by senders to a FIFO");
  add(datagrams.dropped_by_receiver, " by receivers from several FIFOs");
  add(datagrams.dropped_by_kernel, " by the kernel");
  return text;
}

using nlohmann::json;

uint64_t TotalBytes(const StreamReport& stream) {
  return SaturatingSum(SaturatingSum(stream.tcp_sent, stream.tcp_received),
                       SaturatingSum(stream.fifo_sent, stream.fifo_received));
}

std::string RouteCell(const StreamReport& stream) {
  if (stream.route_send == stream.route_receive) return stream.route_send;
  return absl::StrCat(stream.route_send, "/", stream.route_receive);
}

std::string PidCell(uint64_t pid) { return pid == 0 ? "-" : absl::StrCat(pid); }

std::string Summary(const Snapshot& snapshot) {
  uint64_t streams = 0;
  uint64_t accelerated = 0;
  uint64_t fifo = 0;
  uint64_t tcp = 0;
  for (const ProcessReport& process : snapshot.processes) {
    for (const StreamReport& stream : process.streams) {
      ++streams;
      if (stream.IsAccelerated()) ++accelerated;
      fifo = SaturatingSum(fifo, SaturatingSum(stream.fifo_sent, stream.fifo_received));
      tcp = SaturatingSum(tcp, SaturatingSum(stream.tcp_sent, stream.tcp_received));
    }
  }
  if (snapshot.processes.empty()) {
    return "No process of this network namespace that has the library has a TCP connection.\n";
  }
  return absl::StrCat(Counted(streams, "stream"), " of ",
                      Counted(snapshot.processes.size(), "process"), ", ", accelerated,
                      " through shared memory; ", HumanBytes(fifo), " by FIFO, ", HumanBytes(tcp),
                      " by TCP\n");
}

json StreamJson(const StreamReport& stream) {
  return {{"pid", stream.pid},
          {"uid", stream.uid},
          {"program", stream.program},
          {"fd", stream.fd},
          {"local", stream.local},
          {"peer", stream.peer},
          {"peer_pid", stream.peer_pid},
          {"route_send", stream.route_send},
          {"route_receive", stream.route_receive},
          {"tcp_sent", stream.tcp_sent},
          {"tcp_received", stream.tcp_received},
          {"fifo_sent", stream.fifo_sent},
          {"fifo_received", stream.fifo_received},
          {"upgrades", stream.upgrades},
          {"fallbacks", stream.fallbacks},
          {"reason", stream.reason},
          {"until", ReasonUntil(ReasonWithText(stream.reason.c_str()))}};
}

}  // namespace

RateMeter::StreamKey RateMeter::KeyOf(const StreamReport& stream) {
  return {stream.pid, stream.fd, stream.local, stream.peer};
}

void RateMeter::Update(const Snapshot& snapshot, double seconds_since_last) {
  std::map<StreamKey, uint64_t> totals;
  rates_.clear();
  for (const ProcessReport& process : snapshot.processes) {
    for (const StreamReport& stream : process.streams) {
      const uint64_t now = TotalBytes(stream);
      const StreamKey key = KeyOf(stream);
      totals[key] = now;
      const auto before = totals_.find(key);
      if (before == totals_.end() || now < before->second || seconds_since_last <= 0) continue;
      rates_[key] =
          static_cast<uint64_t>(static_cast<double>(now - before->second) / seconds_since_last);
    }
  }
  totals_ = std::move(totals);
}

uint64_t RateMeter::RateOf(const StreamReport& stream) const {
  const auto rate = rates_.find(KeyOf(stream));
  return rate == rates_.end() ? 0 : rate->second;
}

std::string SnapshotTable(const Snapshot& snapshot, const RateMeter* rates) {
  std::vector<std::string> header = {"PROGRAM", "PID",      "FD",    "LOCAL",
                                     "PEER",    "PEER-PID", "ROUTE", "FIFO-OUT",
                                     "FIFO-IN", "TCP-OUT",  "TCP-IN"};
  if (rates != nullptr) header.push_back("RATE");
  header.push_back("REASON");
  const size_t columns = header.size();
  TextTable table(std::move(header));
  for (const size_t column : {1, 2, 5, 7, 8, 9, 10}) table.RightAlign(column);
  if (rates != nullptr) table.RightAlign(columns - 2);
  bool any = false;
  for (const ProcessReport& process : snapshot.processes) {
    for (const StreamReport& stream : process.streams) {
      any = true;
      std::vector<std::string> row = {stream.program,
                                      PidCell(stream.pid),
                                      absl::StrCat(stream.fd),
                                      stream.local,
                                      stream.peer,
                                      PidCell(stream.peer_pid),
                                      RouteCell(stream),
                                      HumanBytes(stream.fifo_sent),
                                      HumanBytes(stream.fifo_received),
                                      HumanBytes(stream.tcp_sent),
                                      HumanBytes(stream.tcp_received)};
      if (rates != nullptr) row.push_back(absl::StrCat(HumanBytes(rates->RateOf(stream)), "/s"));
      row.push_back(stream.reason);
      table.AddRow(std::move(row));
    }
  }
  std::string text = any ? table.ToString() : "";
  absl::StrAppend(&text, Summary(snapshot));
  for (const ProcessReport& process : snapshot.processes) {
    const DatagramReport& datagrams = process.datagrams;
    if (datagrams.fifo_sent + datagrams.fifo_received + datagrams.by_kernel.size() == 0) continue;
    absl::StrAppend(&text, process.program, " (", process.pid,
                    ") datagrams by FIFO: ", datagrams.fifo_sent, " out, ", datagrams.fifo_received,
                    " in; by the kernel: ", datagrams.kernel_sent, " out, ",
                    datagrams.kernel_received, " in", DropsOf(datagrams), "\n");
    for (const auto& [reason, sockets] : datagrams.by_kernel)
      absl::StrAppend(&text, "  ", Counted(sockets, "UDP socket"), " with the kernel: ", reason,
                      "\n");
  }
  for (const ProcessReport& process : snapshot.processes) {
    for (const auto& [reason, count] : process.not_parked)
      absl::StrAppend(&text, process.program, " (", process.pid, ") ", count,
                      " of its listeners and destinations of short connections: ", reason, "\n");
  }
  for (const ProcessReport& process : snapshot.processes) {
    if (!process.xen) continue;
    absl::StrAppend(&text, process.program, " (", process.pid, ") grants ",
                    process.xen->granted_pages, " of its ", process.xen->may_grant_pages,
                    " pages (the guest's limit: ", process.xen->guest_limit_pages, ") and has ",
                    Counted(process.xen->event_channels, "event channel"), "\n");
  }
  for (const std::string& note : snapshot.notes) absl::StrAppend(&text, "note: ", note, "\n");
  return text;
}

std::string SnapshotJson(const Snapshot& snapshot, bool indented) {
  json processes = json::array();
  for (const ProcessReport& process : snapshot.processes) {
    json streams = json::array();
    for (const StreamReport& stream : process.streams) streams.push_back(StreamJson(stream));
    json xen = nullptr;
    if (process.xen) {
      xen = {{"domid", process.xen->domid},
             {"granted_pages", process.xen->granted_pages},
             {"may_grant_pages", process.xen->may_grant_pages},
             {"guest_limit_pages", process.xen->guest_limit_pages},
             {"event_channels", process.xen->event_channels}};
    }
    processes.push_back({{"pid", process.pid},
                         {"uid", process.uid},
                         {"program", process.program},
                         {"version", process.version},
                         {"connections", process.connections},
                         {"upgraded", process.upgraded},
                         {"fallbacks", process.fallbacks},
                         {"not_parked", process.not_parked},
                         {"datagrams",
                          {{"fifo_sent", process.datagrams.fifo_sent},
                           {"fifo_received", process.datagrams.fifo_received},
                           {"kernel_sent", process.datagrams.kernel_sent},
                           {"kernel_received", process.datagrams.kernel_received},
                           {"dropped", process.datagrams.dropped},
                           {"dropped_by_sender", process.datagrams.dropped_by_sender},
                           {"dropped_by_receiver", process.datagrams.dropped_by_receiver},
                           {"dropped_by_kernel", process.datagrams.dropped_by_kernel},
                           {"by_kernel", process.datagrams.by_kernel}}},
                         {"complete", process.complete},
                         {"xen", std::move(xen)},
                         {"streams", std::move(streams)}});
  }
  const json picture = {{"processes", std::move(processes)}, {"notes", snapshot.notes}};
  return picture.dump(indented ? 2 : -1) + "\n";
}

int RunStat(const StatRequest& request) {
  using Clock = std::chrono::steady_clock;
  const bool clear_screen = request.watch && !request.json && isatty(STDOUT_FILENO) == 1;
  RateMeter rates;
  Clock::time_point last = Clock::now();
  Clock::time_point next = last;
  for (;;) {
    const Snapshot snapshot = TakeSnapshot(request.places, request.limits);
    const Clock::time_point now = Clock::now();
    rates.Update(snapshot, std::chrono::duration<double>(now - last).count());
    last = now;
    const std::string text = request.json
                                 ? SnapshotJson(snapshot, /*indented=*/!request.watch)
                                 : SnapshotTable(snapshot, request.watch ? &rates : nullptr);
    if (clear_screen) std::fputs("\033[H\033[2J", stdout);
    std::fputs(text.c_str(), stdout);
    // Who does not die of SIGPIPE (it may be blocked or ignored) ends here; what fputs has met,
    // fflush does not say again.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return 1;
    if (!request.watch) return 0;
    next = std::max(next + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(request.interval_seconds)),
                    Clock::now());
    std::this_thread::sleep_until(next);
  }
}

}  // namespace xenloop::tools
