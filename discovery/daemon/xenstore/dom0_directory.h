// The collation in Dom0: which guests take part, which vifs are theirs, and telling each of them
// about the others. What a guest says about itself is only that it takes part; its MACs come from
// keys that the toolstack alone writes.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "discovery/daemon/xenstore/keys.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

class Dom0Directory {
 public:
  // `store` outlives this; one object for one connection.
  Dom0Directory(XenStore* store, uint64_t own_incarnation)
      : store_(store), own_incarnation_(own_incarnation) {}

  absl::Status Start();

  // Reads all and writes the differences. After a change of the store or of Dom0's own MACs;
  // calling it once too often is harmless. Fails only when the store is gone; what goes wrong with
  // one guest's keys leaves out that guest and is told in problems().
  absl::Status Collate(const std::vector<Mac>& own_macs);

  // Who takes part, Dom0 among them, as of the last collation.
  const Announcements& guests() const { return guests_; }
  const std::vector<std::string>& problems() const { return problems_; }

  // The guests learn that Dom0's daemon ends: nobody is coresident any more.
  void Withdraw();

 private:
  using Values = std::map<std::string, std::string>;  // domid of a peer -> what was written

  absl::Status ReadGuests(const std::vector<Mac>& own_macs);
  absl::StatusOr<std::vector<Mac>> ReadMacs(uint32_t domid);
  void DropAmbiguousMacs();
  absl::Status Announce(uint32_t domid);
  absl::Status Clear(uint32_t domid);
  // Keeps `status` only if it means that the store is gone; notes all else as a problem.
  absl::Status Note(uint32_t domid, const absl::Status& status);

  XenStore* store_;
  uint64_t own_incarnation_;
  Announcements guests_;
  std::set<uint32_t> watched_;
  std::map<uint32_t, Values> written_;
  std::set<uint32_t> cleared_;  // do not take part, and nothing is left in their keys
  std::vector<std::string> problems_;
};

}  // namespace xenloop
