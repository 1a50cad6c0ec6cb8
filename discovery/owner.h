// Which user owns the other end of a local TCP connection? Asked of the kernel (sock_diag), so that
// an agent that claims to hold it can be checked against SO_PEERCRED.
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

}  // namespace xenloop
