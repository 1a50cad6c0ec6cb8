// Is a side readable, writable? The FIFO's part of the answer for poll, select and epoll; the
// kernel gives the rest (end of stream, errors, bytes still in TCP).
#pragma once

#include <cstdint>

#include "preload/self.h"
#include "preload/side.h"

namespace xenloop {

struct FifoReadiness {
  bool in;               // the FIFO holds at least the low-water mark, or a seal is to be noticed
  bool out;              // a send would take bytes
  bool out_from_kernel;  // sends go by TCP: ask the shadow socket
  uint64_t published;    // the incoming FIFO's producer index: changes when data arrive
};

// `want_room`: evaluate out (and ask for the doorbell if there is none).
FifoReadiness ReadinessOf(int fd, Side* side, bool want_room, Self self);

// Room in the shadow socket's send buffer now?
bool KernelWritable(int fd);

}  // namespace xenloop
