// See dom0_directory.h.
#include "discovery/daemon/xenstore/dom0_directory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace xenloop {
namespace {

std::string PeersPath(uint32_t domid) { return absl::StrCat(DomainPath(domid), "/", kPeersKey); }
std::string ParticipationPath(uint32_t domid) {
  return absl::StrCat(DomainPath(domid), "/", kParticipationKey);
}

}  // namespace

absl::Status Dom0Directory::Start() {
  // A domain's coming and going, and its vifs'. Its data/xenloop gets a watch of its own (Collate):
  // one on all of /local/domain would wake us for each key that any guest writes.
  for (const char* path : {"@introduceDomain", "@releaseDomain", kBackendVifs}) {
    if (absl::Status status = store_->Watch(path); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Dom0Directory::Note(uint32_t domid, const absl::Status& status) {
  if (status.ok() || absl::IsUnavailable(status)) return status;
  problems_.push_back(absl::StrCat("domain ", domid, ": ", status.message()));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Mac>> Dom0Directory::ReadMacs(uint32_t domid) {
  std::vector<Mac> macs;
  const std::string vifs = absl::StrCat(kBackendVifs, "/", domid);
  const absl::StatusOr<std::vector<std::string>> names = store_->List(vifs);
  if (!names.ok()) {
    if (absl::IsUnavailable(names.status())) return names.status();
    return macs;  // a guest without vifs
  }
  for (const std::string& name : *names) {
    const absl::StatusOr<std::string> text = store_->Read(absl::StrCat(vifs, "/", name, "/mac"));
    if (absl::IsUnavailable(text.status())) return text.status();
    const std::optional<Mac> mac = text.ok() ? ParseMac(*text) : std::nullopt;
    if (mac) macs.push_back(*mac);
  }
  return macs;
}

absl::Status Dom0Directory::ReadGuests(const std::vector<Mac>& own_macs) {
  guests_.clear();
  const absl::StatusOr<std::vector<std::string>> names = store_->List("/local/domain");
  if (!names.ok()) return names.status();
  std::set<uint32_t> present;
  for (const std::string& name : *names) {
    const std::optional<uint32_t> domid = ParseDomid(name);
    if (!domid || *domid == 0) continue;
    present.insert(*domid);
    if (watched_.count(*domid) == 0) {
      absl::Status status = Note(*domid, store_->Watch(ParticipationPath(*domid)));
      if (!status.ok()) return status;
      watched_.insert(*domid);
    }
    const absl::StatusOr<std::string> text = store_->Read(ParticipationPath(*domid));
    if (absl::IsUnavailable(text.status())) return text.status();
    if (!text.ok()) continue;
    const std::optional<uint64_t> incarnation = ParseParticipation(*text);
    if (!incarnation) {
      problems_.push_back(
          absl::StrCat("domain ", *domid, ": data/xenloop says nothing that is known"));
      continue;
    }
    absl::StatusOr<std::vector<Mac>> macs = ReadMacs(*domid);
    if (!macs.ok()) return macs.status();
    guests_[*domid] = Announcement{*incarnation, *std::move(macs)};
  }
  for (auto it = watched_.begin(); it != watched_.end();) {
    if (present.count(*it) != 0) {
      ++it;
      continue;
    }
    absl::Status status = store_->Unwatch(ParticipationPath(*it));
    if (absl::IsUnavailable(status)) return status;
    written_.erase(*it);  // the toolstack has removed the keys with the domain
    cleared_.erase(*it);
    it = watched_.erase(it);
  }
  guests_[0] = Announcement{own_incarnation_, own_macs};
  return absl::OkStatus();
}

void Dom0Directory::DropAmbiguousMacs() {
  std::map<Mac, int> holders;
  for (const auto& [domid, guest] : guests_) {
    for (const Mac& mac : std::set<Mac>(guest.macs.begin(), guest.macs.end())) ++holders[mac];
  }
  // Two isolated bridges may well carry the same MAC: then it names nobody.
  for (auto& [domid, guest] : guests_) {
    std::vector<Mac>& macs = guest.macs;
    macs.erase(std::remove_if(macs.begin(), macs.end(),
                              [&holders](const Mac& mac) { return holders[mac] > 1; }),
               macs.end());
    std::sort(macs.begin(), macs.end());
    macs.erase(std::unique(macs.begin(), macs.end()), macs.end());
  }
}

absl::Status Dom0Directory::Announce(uint32_t domid) {
  const auto [entry, first_time] = written_.try_emplace(domid);
  Values& written = entry->second;
  if (first_time) {  // what a former daemon has left
    const absl::StatusOr<std::vector<std::string>> names = store_->List(PeersPath(domid));
    if (absl::IsUnavailable(names.status())) return names.status();
    if (names.ok()) {
      for (const std::string& name : *names) written[name] = "";
    }
  }
  Values wanted;
  for (const auto& [peer, announcement] : guests_) {
    if (peer != domid) wanted[absl::StrCat(peer)] = FormatAnnouncement(announcement);
  }
  for (auto it = written.begin(); it != written.end();) {
    if (wanted.count(it->first) != 0) {
      ++it;
      continue;
    }
    absl::Status status = store_->Remove(absl::StrCat(PeersPath(domid), "/", it->first));
    if (!status.ok()) return status;
    it = written.erase(it);
  }
  for (const auto& [peer, value] : wanted) {
    if (written.count(peer) != 0 && written[peer] == value) continue;
    const std::string path = absl::StrCat(PeersPath(domid), "/", peer);
    absl::Status status = store_->Write(path, value);
    // Dom0's own, readable for this guest and nobody else.
    const std::vector<std::string> permissions = {"n0", absl::StrCat("r", domid)};
    if (status.ok() && written.empty()) {
      status = store_->SetPermissions(PeersPath(domid), permissions);
    }
    if (status.ok() && written.count(peer) == 0) status = store_->SetPermissions(path, permissions);
    if (!status.ok()) return status;
    written[peer] = value;
  }
  return absl::OkStatus();
}

absl::Status Dom0Directory::Clear(uint32_t domid) {
  written_.erase(domid);
  if (absl::Status status = store_->Remove(absl::StrCat(DomainPath(domid), "/xenloop"));
      !status.ok()) {
    return status;
  }
  // We may have written just after the toolstack had removed a dead domain's keys: then ours were
  // the only ones, and the empty directory is our doing.
  const absl::StatusOr<std::vector<std::string>> rest = store_->List(DomainPath(domid));
  return rest.ok() && rest->empty() ? store_->Remove(DomainPath(domid)) : absl::OkStatus();
}

absl::Status Dom0Directory::Collate(const std::vector<Mac>& own_macs) {
  problems_.clear();
  if (absl::Status status = ReadGuests(own_macs); !status.ok()) return status;
  DropAmbiguousMacs();
  for (const uint32_t domid : watched_) {
    const bool takes_part = guests_.count(domid) != 0;
    if (!takes_part && cleared_.count(domid) != 0) continue;
    absl::Status status = Note(domid, takes_part ? Announce(domid) : Clear(domid));
    if (!status.ok()) return status;
    if (takes_part) {
      cleared_.erase(domid);
    } else {
      cleared_.insert(domid);
    }
  }
  return absl::OkStatus();
}

void Dom0Directory::Withdraw() {
  for (const uint32_t domid : watched_) static_cast<void>(Clear(domid));
  guests_.clear();
}

}  // namespace xenloop
