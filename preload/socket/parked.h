// What connect, accept, close and setsockopt mean where connections are parked (side/parked.h;
// channel/PARKING.md): without `park = on` each of these says kUseKernel, or does nothing, at once.
#pragma once

#include <sys/socket.h>

#include "preload/settings/config.h"
#include "preload/side/side.h"
#include "preload/socket/socket.h"

namespace xenloop {

struct ListenerQueue;

// ---- parked_connect.cc ----

// 0 or -EINPROGRESS: connected, by a parked connection. kUseKernel: make the real call.
ssize_t ConnectParked(int fd, const sockaddr* address, socklen_t length);

// After the kernel's connect() to there succeeded, or is under way.
void ConnectedByKernel(int fd, const sockaddr* address, socklen_t length);

// ---- parked_accept.cc ----

// Before accept4 on a listener that has a virtual queue. A new descriptor, -errno, or kUseKernel.
ssize_t AcceptParked(Side* listener, sockaddr* address, socklen_t* length, int flags);
// It was the kernel's turn, and the kernel has nothing: whether the virtual queue is to be asked.
bool MayAcceptParked(const Side* listener);
// The listener has brought this: is it a connection that agents have made, to be parked? Then it is
// taken, and another is to be accepted.
bool IsToBeParked(int fd);
bool ExpectsToPark();
// Around the kernel's accept, on a listener that may block. After the first, which says whether
// that is so, the virtual queue is looked at once more.
bool MaySleepInAccept(const Side* listener);
void HasSleptInAccept(const Side* listener);
// A connection was accepted there.
void AcceptedByKernel(Side* listener);

// ---- parked_close.cc ----

// Before the last close of a side. True: its life is over, and it is parked or waits for the other
// end's close; the number only is to be closed.
bool CloseParked(int fd, Side* side);
// After a send by FIFO: if the other end has closed meanwhile, nobody will read it there. By TCP it
// is answered by a reset.
void SentInALife(int fd, Side* side);
// The program has asked for that option.
void OptionIsSet(Side* side, int level, int name);

inline bool Parks() { return GetConfig().park; }

}  // namespace xenloop
