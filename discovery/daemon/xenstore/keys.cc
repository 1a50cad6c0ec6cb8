// See keys.h.
#include "discovery/daemon/xenstore/keys.h"

#include <sys/random.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace xenloop {
namespace {

constexpr size_t kMostMacs = 64;  // what one value can hold, with room to spare

std::optional<uint64_t> ParseHex(absl::string_view text, size_t digits) {
  if (text.size() != digits) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(digit);
  }
  return value;
}

}  // namespace

std::string DomainPath(uint32_t domid) { return absl::StrCat("/local/domain/", domid); }

std::optional<uint32_t> ParseDomid(absl::string_view text) {
  uint32_t domid = 0;
  if (text.empty() || text.size() > 5 || text.find_first_not_of("0123456789") != text.npos ||
      !absl::SimpleAtoi(text, &domid) || domid >= 0x7ff0) {  // DOMID_FIRST_RESERVED
    return std::nullopt;
  }
  return domid;
}

std::optional<Mac> ParseMac(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(text);
  const std::vector<absl::string_view> parts = absl::StrSplit(lower, ':');
  if (parts.size() != 6) return std::nullopt;
  Mac mac = {};
  for (size_t i = 0; i < 6; ++i) {
    const std::optional<uint64_t> byte = ParseHex(parts[i], 2);
    if (!byte) return std::nullopt;
    mac[i] = static_cast<uint8_t>(*byte);
  }
  if ((mac[0] & 1) != 0 || mac == Mac{}) return std::nullopt;
  return mac;
}

std::string FormatMac(const Mac& mac) {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                         mac[5]);
}

std::optional<uint64_t> ParseParticipation(absl::string_view text) {
  if (text.substr(0, 2) != "1 ") return std::nullopt;
  return ParseHex(text.substr(2), 16);
}

std::string FormatParticipation(uint64_t incarnation) {
  return absl::StrFormat("1 %016x", incarnation);
}

std::optional<Announcement> ParseAnnouncement(absl::string_view text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, ' ');
  const std::optional<uint64_t> incarnation = ParseHex(words[0], 16);
  if (!incarnation || words.size() > 1 + kMostMacs) return std::nullopt;
  Announcement announcement;
  announcement.incarnation = *incarnation;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::optional<Mac> mac = ParseMac(words[i]);
    if (!mac) return std::nullopt;
    announcement.macs.push_back(*mac);
  }
  return announcement;
}

std::string FormatAnnouncement(const Announcement& announcement) {
  std::string text = absl::StrFormat("%016x", announcement.incarnation);
  size_t count = 0;
  for (const Mac& mac : announcement.macs) {
    if (++count <= kMostMacs) absl::StrAppend(&text, " ", FormatMac(mac));
  }
  return text;
}

std::optional<uint64_t> ParseMoveToken(absl::string_view text) {
  const std::optional<uint64_t> token = ParseHex(text, 16);
  return token && *token != 0 ? token : std::nullopt;
}
std::string FormatMoveToken(uint64_t token) { return absl::StrFormat("%016x", token); }

uint64_t DrawIncarnation() {
  uint64_t drawn = 0;
  while (getrandom(&drawn, sizeof drawn, 0) != static_cast<ssize_t>(sizeof drawn)) {
  }
  return drawn;
}

}  // namespace xenloop
