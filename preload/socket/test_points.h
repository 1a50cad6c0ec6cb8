// The marked points by which tests flip routes: a socket option that no kernel knows.
#pragma once

#include <sys/types.h>

#include "preload/side/datagram_side.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr int kMarkedPoint = 0x786C;
// That and a signal's number: the next wait that is about to sleep gets the signal, 0: none
// (side/interruption.h).
inline constexpr int kSignalPoint = 1000;

// Beside the routes: the connection is a life of a parked pair.
inline constexpr int kLifeOfParked = 4;

// Which directions go by FIFO: 1 sending, 2 receiving.
int RoutesOf(Side* side);
// Upgrades both directions and waits for it, for a while. 0 or -errno.
ssize_t UpgradeNow(int fd, Side* side);
// The same of a UDP socket: 1 it sends by a FIFO, 2 it receives from some.
int DatagramRoutes(DatagramSide* side);
// A connected socket gets a FIFO to its peer; another one lets itself be found.
ssize_t MeetNow(DatagramSide* side);

}  // namespace xenloop
