// What xenloopd does all day: waits for XenStore, the neighbour table and signals, and keeps the
// peer table. Everything is soft state: after any doubt (the store is gone, a quota, a restore) it
// starts over, and until then the table is empty, which means TCP.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "discovery/daemon/neighbours.h"
#include "discovery/daemon/peer_table_writer.h"
#include "discovery/daemon/xenstore/dom0_directory.h"
#include "discovery/daemon/xenstore/guest_directory.h"

namespace xenloop {

struct DaemonPlaces {
  std::string table = kPeerTablePath;
  // How to reach XenStore; again after each loss.
  std::function<absl::StatusOr<std::unique_ptr<XenStore>>()> open_store;
  std::function<void(const std::string&)> log;
  std::function<void()> ready;  // once, when the table says the truth for the first time
};

class DiscoveryDaemon {
 public:
  DiscoveryDaemon(bool dom0, DaemonPlaces places);
  ~DiscoveryDaemon();

  // 0, or -errno with a line in the log.
  int Open();

  // One turn: waits for an event, `stop_fd` readable, or at most `limit`; then brings the table up
  // to date. False when stop_fd has become readable.
  bool Turn(int stop_fd, std::chrono::milliseconds limit);

  // Takes this guest (or, in Dom0, all announcements) out of XenStore.
  void Withdraw();

  const PeerTableWriter& table() const { return table_; }

 private:
  using Clock = std::chrono::steady_clock;

  absl::Status Connect();
  absl::Status Refresh();
  void TakeStoreEvents();
  void Disconnect(const absl::Status& why);
  void LogOnce(const std::string& line);
  int WaitMs(std::chrono::milliseconds limit) const;

  const bool dom0_;
  const DaemonPlaces places_;
  const uint64_t incarnation_;
  PeerTableWriter table_;
  NeighbourTable neighbours_;
  std::unique_ptr<XenStore> store_;
  std::unique_ptr<Dom0Directory> dom0_directory_;
  std::unique_ptr<GuestDirectory> guest_directory_;
  bool dirty_ = true;
  bool ready_told_ = false;
  Clock::time_point next_try_;  // of connecting, or of a refresh that failed
  std::string last_line_;
};

}  // namespace xenloop
