// The keys in XenStore and what stands in them. All parsers are total: whatever a guest writes, the
// answer is a value or "no".
//
//   /local/domain/N/data/xenloop          the guest writes it        "1 INCARNATION"
//   /local/domain/0/backend/vif/N/I/mac   the toolstack writes it    "00:16:3e:..."
//   /local/domain/N/xenloop/peers/M       Dom0's xenloopd writes it  "INCARNATION MAC MAC ..."
//   /local/domain/N/data/xenloop-move/    before N is moved, saved or suspended:
//     prepare                             Dom0 (`xenloop quiesce`) "TOKEN"; removed when it is over
//     ready                               the guest: "TOKEN", nothing of it is shared any more
//     waiting                             any daemon: who has been told to let go and has not
//     answered,
//                                         "DOMID PID:PROGRAM, ...": a process here, and its peer's
//                                         domain
//
// A guest can write below its own data/ and nowhere else here. INCARNATION: 16 hexadecimal digits,
// drawn anew whenever a daemon starts, so that a peer which restarts is another peer.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace xenloop {

inline constexpr char kParticipationKey[] = "data/xenloop";
inline constexpr char kPeersKey[] = "xenloop/peers";
inline constexpr char kPrepareKey[] = "data/xenloop-move/prepare";
inline constexpr char kReadyKey[] = "data/xenloop-move/ready";
inline constexpr char kWaitingKey[] = "data/xenloop-move/waiting";
inline constexpr char kBackendVifs[] = "/local/domain/0/backend/vif";

using Mac = std::array<uint8_t, 6>;

// What Dom0 says about a guest that takes part.
struct Announcement {
  uint64_t incarnation = 0;
  std::vector<Mac> macs;

  bool operator==(const Announcement& other) const {
    return incarnation == other.incarnation && macs == other.macs;
  }
};
using Announcements = std::map<uint32_t, Announcement>;  // by domid

std::string DomainPath(uint32_t domid);
std::optional<uint32_t> ParseDomid(absl::string_view text);

// A station's address: neither a group's nor all zeros.
std::optional<Mac> ParseMac(absl::string_view text);
std::string FormatMac(const Mac& mac);

std::optional<uint64_t> ParseParticipation(absl::string_view text);
std::string FormatParticipation(uint64_t incarnation);
std::optional<Announcement> ParseAnnouncement(absl::string_view text);
std::string FormatAnnouncement(const Announcement& announcement);

// 16 hexadecimal digits, never 0.
std::optional<uint64_t> ParseMoveToken(absl::string_view text);
std::string FormatMoveToken(uint64_t token);

uint64_t DrawIncarnation();

}  // namespace xenloop
