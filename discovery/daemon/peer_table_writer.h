// The writing end of the peer table (peer_table.h): xenloopd's alone.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "discovery/peer_table.h"

namespace xenloop {

using Address = std::array<uint8_t, 16>;  // network order, IPv4 as ::ffff:a.b.c.d

std::string FormatAddress(const Address& address);

// Whom an address means. `incarnation`: as the peer's own daemon tells it (see xenstore/keys.h); a
// peer that restarts is another one.
struct PeerName {
  uint32_t domid = kNoDomid;
  uint64_t incarnation = 0;

  bool operator==(const PeerName& other) const {
    return domid == other.domid && incarnation == other.incarnation;
  }
};
using PeerMap = std::map<Address, PeerName>;

class PeerTableWriter {
 public:
  ~PeerTableWriter() { Close(); }

  // Takes over the file at `path`, or makes it: readers of a former daemon keep their mapping and
  // see the new one's entries. 0 or -errno.
  int Open(const std::string& path);
  void Close();

  // Makes the table say exactly this. An address whose peer is the same as before keeps its
  // generation. True if anything has changed. Beyond the capacity the last addresses are left out.
  bool Replace(const PeerMap& peers);

  void SetOwnDomid(uint32_t domid);

  // What it says now, for a person.
  std::string ToString() const;

 private:
  PeerTableHeader* header_ = nullptr;
  PeerMap current_;
  std::map<Address, uint32_t> generations_;
  uint32_t last_generation_ = 0;
};

}  // namespace xenloop
