// What the kernel says of a UDP socket before it may send, or receive, by a FIFO.
#pragma once

#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"
#include "preload/side/datagram_side.h"

namespace xenloop {

class Registry;
struct Talk;

struct DatagramEnds {
  Endpoint source;  // its own name
  Endpoint destination;
  UdpName destination_name;
  bool connected = false;
  bool ipv6_only = false;
};

// kNone, or why not. `destination` is set if the socket has one: it is connected, or (of a sender)
// sends to one after the other.
// Before there is an agent no network namespace is ours.
Reason ProbeDatagramSender(int fd, DatagramSide* side, DatagramEnds* ends, bool by_agent = true);
Reason ProbeDatagramReceiver(int fd, DatagramSide* side, DatagramEnds* ends, bool by_agent = true);
// No name is translated on the way from tuple.local to tuple.peer: nothing in this network
// namespace is tracked by the kernel, or it says so itself. Who is not told believes a peer that is
// root, which has asked for itself.
bool NamesAreProof(const Talk& talk, const Tuple& tuple);
// The process of that talk has the socket to which the kernel gives what is sent from `from` to
// `to`, under that number: so the name is its own to use.
bool IsHeldBy(const Talk& talk, uint64_t fd, const Endpoint& from, const Endpoint& to,
              uint32_t* inode = nullptr);
Tuple HintOf(const Endpoint& name);  // under which a receiver is found
// The one name under which sockets are found that are bound to no address, of either family.
Endpoint AnyAddress(uint16_t port);
bool IsAnyAddress(const Endpoint& name);
// Under which a receiver is found.
inline Endpoint PublishedName(const DatagramEnds& ends) {
  return IsAnyAddress(ends.source) ? AnyAddress(ends.source.port) : ends.source;
}
// Is that a name of the machine by which this socket, bound to no address, is reached?
bool IsAnyOf(const DatagramEnds& ends, const Endpoint& name);

// ---- who is there to meet (agent_datagram_seek.cc) ----

// Any thread of a process that has no agent yet: a socket to which that one sends lets itself be
// found, or somebody looks for that one. Else a sender leaves word that it does.
bool IsSomebodyToMeet(DatagramSide* side, uint32_t wants);
bool IsReceiverKnown(Registry& registry, uint32_t uid, const Endpoint& destination);
void SayReceiverIsWanted(Registry& registry, const Endpoint& destination);

// ---- what nobody reads (agent_datagram_unread.cc) ----
uint64_t LookForUnreadDatagrams();  // the pause until the next look
void StartUnreadDatagramLooks();
// Something lies there, and a thread of ours sleeps until something comes: it does not know of
// FIFOs (agent_threads.cc). In an epoll set only where it makes its system calls in line: what such
// a set is to tell of is the program's choice.
bool WaitsUnseen(const DatagramSide* side);

}  // namespace xenloop
