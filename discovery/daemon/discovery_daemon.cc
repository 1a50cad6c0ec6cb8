// See discovery_daemon.h.
#include "discovery/daemon/discovery_daemon.h"

#include <errno.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace xenloop {
namespace {

constexpr std::chrono::milliseconds kRetry{1000};
constexpr std::chrono::milliseconds kPause{20};  // between two refreshes, however many events come
constexpr std::chrono::milliseconds kNeverMind{60000};

}  // namespace

DiscoveryDaemon::DiscoveryDaemon(bool dom0, DaemonPlaces places)
    : dom0_(dom0), places_(std::move(places)), incarnation_(DrawIncarnation()) {}

DiscoveryDaemon::~DiscoveryDaemon() = default;

int DiscoveryDaemon::Open() {
  if (const int error = table_.Open(places_.table); error != 0) {
    places_.log(absl::StrCat(places_.table, ": ", strerror(-error)));
    return error;
  }
  if (const int error = neighbours_.Open(); error != 0) {
    places_.log(absl::StrCat("rtnetlink: ", strerror(-error)));
    return error;
  }
  return 0;
}

void DiscoveryDaemon::LogOnce(const std::string& line) {
  if (line == last_line_) return;
  last_line_ = line;
  places_.log(line);
}

absl::Status DiscoveryDaemon::Connect() {
  absl::StatusOr<std::unique_ptr<XenStore>> store = places_.open_store();
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  if (dom0_) {
    dom0_directory_ = std::make_unique<Dom0Directory>(store_.get(), incarnation_);
    return dom0_directory_->Start();
  }
  guest_directory_ = std::make_unique<GuestDirectory>(store_.get(), incarnation_);
  return guest_directory_->Start();
}

void DiscoveryDaemon::Disconnect(const absl::Status& why) {
  LogOnce(absl::StrCat("no peers: ", why.message()));
  dom0_directory_.reset();
  guest_directory_.reset();
  store_.reset();
  table_.Replace({});
  dirty_ = true;
  next_try_ = Clock::now() + kRetry;
}

absl::Status DiscoveryDaemon::Refresh() {
  const Announcements* guests = nullptr;
  if (dom0_) {
    if (absl::Status status = dom0_directory_->Collate(OwnMacs()); !status.ok()) return status;
    if (!dom0_directory_->problems().empty()) {
      LogOnce(absl::StrJoin(dom0_directory_->problems(), "; "));
    }
    guests = &dom0_directory_->guests();
    table_.SetOwnDomid(0);
  } else {
    if (absl::Status status = guest_directory_->Update(); !status.ok()) return status;
    guests = &guest_directory_->peers();
    table_.SetOwnDomid(guest_directory_->own_domid());
  }
  std::vector<Neighbour> neighbours;
  if (const int error = neighbours_.Read(&neighbours); error != 0) {
    return absl::UnavailableError(absl::StrCat("rtnetlink: ", strerror(-error)));
  }
  if (table_.Replace(PeersOf(neighbours, *guests))) {
    LogOnce(absl::StrCat("peers: ", table_.ToString()));
  }
  return absl::OkStatus();
}

int DiscoveryDaemon::WaitMs(std::chrono::milliseconds limit) const {
  std::chrono::milliseconds wait = std::min(limit, kNeverMind);
  if (dirty_) {
    wait = std::min(wait, std::chrono::duration_cast<std::chrono::milliseconds>(
                              next_try_ - Clock::now() + std::chrono::milliseconds(1)));
  }
  return static_cast<int>(std::max<int64_t>(wait.count(), 0));
}

bool DiscoveryDaemon::Turn(int stop_fd, std::chrono::milliseconds limit) {
  pollfd waits[3] = {{stop_fd, POLLIN, 0},
                     {neighbours_.descriptor(), POLLIN, 0},
                     {store_ ? store_->descriptor() : -1, POLLIN, 0}};
  const int ready = poll(waits, 3, WaitMs(limit));
  if (ready > 0 && waits[0].revents != 0) return false;
  if (ready > 0 && waits[1].revents != 0) {
    neighbours_.TakeEvents();
    dirty_ = true;
  }
  TakeStoreEvents();
  if (!dirty_ || Clock::now() < next_try_) return true;
  dirty_ = false;
  absl::Status status = store_ ? absl::OkStatus() : Connect();
  if (status.ok()) status = Refresh();
  if (!status.ok()) {
    Disconnect(status);
    return true;
  }
  next_try_ = Clock::now() + kPause;
  TakeStoreEvents();  // the answers to our requests may have brought some along
  if (!ready_told_) {
    ready_told_ = true;
    places_.ready();
  }
  return true;
}

void DiscoveryDaemon::TakeStoreEvents() {
  if (!store_) return;
  const absl::StatusOr<int> events = store_->TakeEvents();
  if (!events.ok()) return Disconnect(events.status());
  if (*events > 0) dirty_ = true;
}

void DiscoveryDaemon::Withdraw() {
  if (guest_directory_) guest_directory_->Withdraw();
  if (dom0_directory_) dom0_directory_->Withdraw();
  table_.Close();
}

}  // namespace xenloop
