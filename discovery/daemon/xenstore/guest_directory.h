// A guest's part in XenStore: it says that it takes part, and reads what Dom0 tells about the
// others.
#pragma once

#include <optional>
#include <string>

#include "discovery/daemon/xenstore/keys.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

class GuestDirectory {
 public:
  GuestDirectory(XenStore* store, uint64_t incarnation)
      : store_(store), incarnation_(incarnation) {}

  absl::Status Start();

  // Publishes this guest if it is not (the first time; after a restore; after somebody removed the
  // key) and reads the peers; or takes it out, as long as it is about to move. Safe to repeat. On
  // kResourceExhausted the peers are not known either.
  absl::Status Update();

  uint32_t own_domid() const { return own_domid_; }
  const Announcements& peers() const { return peers_; }

  void Withdraw();

 private:
  absl::Status Publish();

  XenStore* store_;
  uint64_t incarnation_;
  uint32_t own_domid_ = 0;
  bool moving_ = false;
  std::optional<uint32_t> published_as_;  // with incarnation_; nothing: not yet
  Announcements peers_;
};

}  // namespace xenloop
