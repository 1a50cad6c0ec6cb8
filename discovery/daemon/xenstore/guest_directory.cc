// See guest_directory.h.
#include "discovery/daemon/xenstore/guest_directory.h"

#include "absl/strings/str_cat.h"

namespace xenloop {
namespace {

constexpr uint32_t kNobody = ~uint32_t{0};

}  // namespace

absl::Status GuestDirectory::Start() {
  for (const char* path : {kPeersKey, kParticipationKey, kPrepareKey}) {
    if (absl::Status status = store_->Watch(path); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GuestDirectory::Publish() {
  const absl::StatusOr<std::string> prepare = store_->Read(kPrepareKey);
  if (absl::IsUnavailable(prepare.status())) return prepare.status();
  moving_ = prepare.ok() && ParseMoveToken(*prepare);
  if (moving_) {
    published_as_ = kNobody;
    // As a rule it is there; a removal without need would be a change to look at.
    const bool there = !absl::IsNotFound(store_->Read(kParticipationKey).status());
    return there ? store_->Remove(kParticipationKey) : absl::OkStatus();
  }
  // Whoever comes back, or has been put somewhere else, is another peer, also under the same domid:
  // nobody may go by what he knew of the former.
  if (published_as_ && *published_as_ != own_domid_) incarnation_ = DrawIncarnation();
  const std::string value = FormatParticipation(incarnation_);
  published_as_ = own_domid_;
  const absl::StatusOr<std::string> present = store_->Read(kParticipationKey);
  if (present.ok() && *present == value) return absl::OkStatus();
  if (absl::IsUnavailable(present.status())) return present.status();
  return store_->Write(kParticipationKey, value);
}

absl::Status GuestDirectory::Update() {
  const absl::StatusOr<std::string> domid = store_->Read("domid");  // another one after a migration
  if (!domid.ok()) return domid.status();
  const std::optional<uint32_t> parsed = ParseDomid(*domid);
  if (!parsed) return absl::InternalError("XenStore names no domid of ours");
  own_domid_ = *parsed;
  if (absl::Status status = Publish(); !status.ok()) {
    peers_.clear();
    return status;
  }

  if (moving_) {
    peers_.clear();
    return absl::OkStatus();
  }
  Announcements peers;
  const absl::StatusOr<std::vector<std::string>> names = store_->List(kPeersKey);
  if (!names.ok() && !absl::IsNotFound(names.status()) &&
      !absl::IsPermissionDenied(names.status())) {
    return names.status();
  }
  if (names.ok()) {
    for (const std::string& name : *names) {
      const std::optional<uint32_t> peer = ParseDomid(name);
      if (!peer || *peer == own_domid_) continue;
      const absl::StatusOr<std::string> text = store_->Read(absl::StrCat(kPeersKey, "/", name));
      if (absl::IsUnavailable(text.status())) return text.status();
      std::optional<Announcement> announcement;
      if (text.ok()) announcement = ParseAnnouncement(*text);
      if (announcement) peers[*peer] = *std::move(announcement);
    }
  }
  peers_ = std::move(peers);
  return absl::OkStatus();
}

void GuestDirectory::Withdraw() {
  static_cast<void>(store_->Remove(kParticipationKey));
  peers_.clear();
}

}  // namespace xenloop
