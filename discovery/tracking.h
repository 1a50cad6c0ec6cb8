// Does the kernel translate the addresses of a pair of UDP sockets on their way? Asked of its
// connection tracking, which tells only who may administer the network namespace (CAP_NET_ADMIN).
#pragma once

#include <cstddef>
#include <cstdint>

#include "discovery/protocol/tuple.h"

namespace xenloop {

// True: the kernel has an entry for datagrams from tuple.local to tuple.peer (the default zone of
// the caller's network namespace), and neither name is translated there, nor in the answers' way.
// False: it is, or there is none, or we are not told.
bool IsTrackedUntranslated(const Tuple& tuple);

// What the kernel's answer to that question says; any bytes will do.
bool ParseTracking(const uint8_t* answer, size_t length);

}  // namespace xenloop
