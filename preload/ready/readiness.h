// Is a side readable, writable? The FIFO's part of the answer for poll, select and epoll; the
// kernel gives the rest (end of stream, errors, bytes still in TCP).
#pragma once

#include <cstdint>

#include "preload/settings/config.h"
#include "preload/side/fd_table.h"
#include "preload/side/side.h"

namespace xenloop {

struct FifoReadiness {
  bool in;               // the FIFO holds at least the low-water mark, or a seal is to be noticed
  bool ended;            // by the life of a parked connection: the other end sends nothing more
  bool out;              // a send would take bytes
  bool out_from_kernel;  // sends go by TCP: ask the shadow socket
  uint64_t published;    // the incoming FIFO's producer index: changes when data arrive
  // The same as a word, bit of the seal and all, if the FIFO was open and empty: as long as it
  // holds `published`, it is. Else nullptr.
  const std::atomic<uint64_t>* empty;
};

// `want_room`: evaluate `out` too, and have the doorbell rung when there is room again.
FifoReadiness ReadinessOf(int fd, Side* side, bool want_room, Self self);

// Whoever waits for the descriptor in a bare wait (side/bare_wait.h) waits for the kernel only.
inline bool IsTheKernels(int fd) {
  const FdTable::Meaning meaning = FdTable::Find(fd);
  if (const Side* const side = meaning.OfSide())
    // poll tells the parking of connections that it has seen the side.
    return side->IsCold() && !GetConfig().park;
  return meaning.OfEpollSet() == nullptr;
}
// Bytes of the side go by FIFOs now, or may from one moment to the next.
bool IsOnFifo(const Side* side);
// Before this process waits for the side in poll or epoll. The FIFOs of a side that another process
// of the family has attached (our parent, before the fork) ring that one's doorbell and not ours:
// such a side goes by TCP. True: it was one.
bool FallBackUnlessOurs(int fd, Side* side);

// Room in the shadow socket's send buffer now?
bool KernelWritable(int fd);

// What poll(2) says of the shadow socket now. For one that is accelerated and has something to say:
// we are woken by the doorbell at the very moment when the kernel ends the connection, and may see
// it half-way (a FIN that is readable and not yet an end of stream), as no sleeper in the kernel
// would.
short KernelEvents(int fd, Side* side, short events);

}  // namespace xenloop
