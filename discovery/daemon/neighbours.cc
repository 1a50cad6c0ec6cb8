// See neighbours.h.
#include "discovery/daemon/neighbours.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

namespace xenloop {
namespace {

constexpr uint16_t kUsable = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;

bool NamesOneMachine(const Address& address) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (memcmp(address.data(), kMapped, 12) == 0) {
    const uint8_t first = address[12];
    return first != 0 && first != 127 && first < 224 && !(first == 169 && address[13] == 254);
  }
  const bool link_local = address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
  const bool unspecified_or_loopback =
      std::all_of(address.begin(), address.end() - 1, [](uint8_t byte) { return byte == 0; });
  return address[0] != 0xff && !link_local && !unspecified_or_loopback;
}

bool ParseOne(const uint8_t* message, size_t length, Neighbour* neighbour) {
  ndmsg about;
  if (length < sizeof about) return false;
  memcpy(&about, message, sizeof about);
  if ((about.ndm_state & kUsable) == 0) return false;
  const size_t address_length = about.ndm_family == AF_INET    ? 4
                                : about.ndm_family == AF_INET6 ? 16
                                                               : 0;
  if (address_length == 0) return false;
  bool has_address = false, has_mac = false;
  for (size_t at = NLMSG_ALIGN(sizeof about);
       length >= sizeof(rtattr) && at <= length - sizeof(rtattr);) {
    rtattr attribute;
    memcpy(&attribute, message + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > length - at) return false;
    const uint8_t* value = message + at + sizeof attribute;
    const size_t value_length = attribute.rta_len - sizeof attribute;
    if (attribute.rta_type == NDA_DST && value_length == address_length) {
      neighbour->address = {};
      if (address_length == 4) neighbour->address[10] = neighbour->address[11] = 0xff;
      memcpy(neighbour->address.data() + 16 - address_length, value, address_length);
      has_address = true;
    } else if (attribute.rta_type == NDA_LLADDR && value_length == neighbour->mac.size()) {
      memcpy(neighbour->mac.data(), value, neighbour->mac.size());
      has_mac = true;
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
  return has_address && has_mac && NamesOneMachine(neighbour->address);
}

}  // namespace

void ParseNeighbours(const uint8_t* answer, size_t length, std::vector<Neighbour>* found,
                     bool* done) {
  size_t at = 0;
  while (at < length && length - at >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    memcpy(&header, answer + at, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > length - at) break;
    if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) *done = true;
    Neighbour neighbour;
    if (header.nlmsg_type == RTM_NEWNEIGH &&
        ParseOne(answer + at + NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN, &neighbour)) {
      found->push_back(neighbour);
    }
    at += NLMSG_ALIGN(header.nlmsg_len);
  }
}

PeerMap PeersOf(const std::vector<Neighbour>& neighbours, const Announcements& guests) {
  std::map<Mac, PeerName> by_mac;
  for (const auto& [domid, guest] : guests) {
    for (const Mac& mac : guest.macs) by_mac[mac] = PeerName{domid, guest.incarnation};
  }
  std::map<Address, Mac> answering;
  std::vector<Address> ambiguous;
  for (const Neighbour& neighbour : neighbours) {
    const auto [entry, first] = answering.try_emplace(neighbour.address, neighbour.mac);
    if (!first && entry->second != neighbour.mac) ambiguous.push_back(neighbour.address);
  }
  for (const Address& address : ambiguous) answering.erase(address);
  PeerMap peers;
  for (const auto& [address, mac] : answering) {
    const auto peer = by_mac.find(mac);
    if (peer != by_mac.end()) peers[address] = peer->second;
  }
  return peers;
}

NeighbourTable::~NeighbourTable() {
  if (events_ >= 0) close(events_);
}

int NeighbourTable::Open() {
  events_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (events_ < 0) return -errno;
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_NEIGH | RTMGRP_LINK;
  return bind(events_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : -errno;
}

void NeighbourTable::TakeEvents() {
  char buffer[8192];
  // ENOBUFS, too many events at once, is an event as well.
  while (recv(events_, buffer, sizeof buffer, 0) > 0 || errno == ENOBUFS || errno == EINTR) {
  }
}

int NeighbourTable::Read(std::vector<Neighbour>* neighbours) {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct {
    nlmsghdr header;
    ndmsg about;
  } query = {};
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = RTM_GETNEIGH;
  query.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  query.about.ndm_family = AF_UNSPEC;
  bool done = false;
  int error = send(fd, &query, sizeof query, 0) == sizeof query ? 0 : -errno;
  std::vector<uint8_t> answer(65536);
  while (error == 0 && !done) {
    const ssize_t n = recv(fd, answer.data(), answer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      error = n == 0 ? -EPROTO : -errno;
    } else {
      ParseNeighbours(answer.data(), static_cast<size_t>(n), neighbours, &done);
    }
  }
  close(fd);
  return error;
}

std::vector<Mac> OwnMacs(const std::string& sysfs) {
  std::vector<Mac> macs;
  std::error_code ignored;
  for (const auto& card : std::filesystem::directory_iterator(sysfs, ignored)) {
    std::string text;
    std::getline(std::ifstream(card.path() / "address"), text);
    const std::optional<Mac> mac = ParseMac(text);
    if (mac && *mac != Mac{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}) macs.push_back(*mac);
  }
  std::sort(macs.begin(), macs.end());
  macs.erase(std::unique(macs.begin(), macs.end()), macs.end());
  return macs;
}

}  // namespace xenloop
