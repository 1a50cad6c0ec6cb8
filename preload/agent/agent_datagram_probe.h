// What the kernel says of a UDP socket before it may send, or receive, by a FIFO.
#pragma once

#include <netinet/in.h>

#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"
#include "preload/side/datagram_side.h"

namespace xenloop {

struct Talk;

struct DatagramEnds {
  Endpoint source;  // its own name
  Endpoint destination;
  uint64_t destination_word = 0;
  bool connected = false;
};

// kNone, or why not. `destination` is set if the socket has one: it is connected, or (of a sender)
// sends to one after the other.
Reason ProbeDatagramSender(int fd, DatagramSide* side, DatagramEnds* ends);
Reason ProbeDatagramReceiver(int fd, DatagramSide* side, DatagramEnds* ends);
// Nothing in this network namespace is tracked by the kernel, so no name is translated.
bool NamesAreProof();
// The process of that talk has the socket to which the kernel gives what is sent from `from` to
// `to`, under that number: so the name is its own to use.
bool IsHeldBy(const Talk& talk, uint64_t fd, const Endpoint& from, const Endpoint& to);
Tuple HintOf(const Endpoint& name);  // under which a receiver is found
Endpoint AnyAddress(uint16_t port);
Endpoint ToEnd(const sockaddr_in& name);
sockaddr_in ToSocketName(const Endpoint& name);

}  // namespace xenloop
