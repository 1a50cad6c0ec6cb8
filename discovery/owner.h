// Which user owns the other end of a local TCP connection, and which socket a UDP port leads to?
// Asked of the kernel (sock_diag), so that an agent that claims to hold it can be checked against
// SO_PEERCRED.
#pragma once

#include <sys/types.h>

#include "discovery/protocol/tuple.h"

namespace xenloop {

// The owner of the socket whose own view is `tuple`, in the caller's network namespace. 0 and *uid,
// or -errno (-ENOENT: no such socket here).
int OwnerOf(const Tuple& tuple, uid_t* uid);

// What the kernel's answer to that question, `length` bytes, says; any bytes will do. 0 and *uid,
// or -errno.
int ParseOwner(const uint8_t* answer, size_t length, const Tuple& tuple, uid_t* uid);

// What the kernel has at the accepting end of a connection, whose own view is `tuple`: that end,
// or, where there is none, the listener that would get it. `waiting`: connections in that
// listener's queue. 0, or -errno (-ENOENT: neither is in the caller's network namespace).
struct Arrival {
  bool is_listener = false;
  uint8_t state = 0;  // include/net/tcp_states.h
  uint32_t inode = 0;
  uint32_t waiting = 0;
  // It is there, and no program has accepted it. (Once it has been accepted and closed, its state
  // says so.)
  bool WaitsForAccept() const;
};
int ArrivalOf(const Tuple& tuple, Arrival* arrival);
int ParseArrival(const uint8_t* answer, size_t length, const Tuple& tuple, Arrival* arrival);

// The socket to which the kernel gives a datagram from tuple.local to tuple.peer, in the caller's
// network namespace: 0, its owner and its inode, or -errno (-ENOENT: none here, or nobody can
// tell).
struct DatagramSocket {
  uid_t uid = 0;
  uint32_t inode = 0;
};
int ReceiverOfDatagrams(const Tuple& tuple, DatagramSocket* socket);
int ParseDatagramSocket(const uint8_t* answer, size_t length, const Tuple& tuple,
                        DatagramSocket* socket);

// That process, as the caller sees it, has that socket under that number. False also where /proc
// does not show it: a process that has changed its user, or of another namespace.
bool HasSocketAt(int32_t pid, uint32_t fd, uint32_t inode);
// The kernel shows that it has it no more, or is dead. Asks the kernel once, on the caller's stack.
bool IsSocketGone(int32_t pid, uint32_t fd, uint32_t inode);

}  // namespace xenloop
