// Whose network card answers for an address? The kernel's own neighbour table (rtnetlink), by which
// the bytes of the TCP connection travel too: whoever could lie here gets the connection anyway.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "discovery/daemon/peer_table_writer.h"
#include "discovery/daemon/xenstore/keys.h"

namespace xenloop {

struct Neighbour {
  Address address;
  Mac mac;
};

// The neighbours in one rtnetlink answer, `length` bytes of any content, appended to `found`: valid
// entries of addresses that name one machine (no groups, no link-local ones: those mean another
// machine on each link). *done at the end of a dump.
void ParseNeighbours(const uint8_t* answer, size_t length, std::vector<Neighbour>* found,
                     bool* done);

// Whom each address means. An address that two network cards answer for (isolated networks with the
// same addresses, say) means nobody.
PeerMap PeersOf(const std::vector<Neighbour>& neighbours, const Announcements& guests);

// A netlink socket: dumps the table, and becomes readable when neighbours or links change.
class NeighbourTable {
 public:
  ~NeighbourTable();
  int Open();  // 0 or -errno
  int descriptor() const { return events_; }
  void TakeEvents();
  int Read(std::vector<Neighbour>* neighbours);  // 0 or -errno

 private:
  int events_ = -1;
};

// The MACs of this machine's own cards, the backends of guests' vifs not among them (those all have
// the same, meaningless one).
std::vector<Mac> OwnMacs(const std::string& sysfs = "/sys/class/net");

}  // namespace xenloop
