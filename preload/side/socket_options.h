// Which socket options a FIFO cannot follow (socket_options.def is the list of all): such an option
// is seen when the program sets it, and asked of the kernel where it came another way: from a
// listener, over exec, with a received descriptor, by a system call in line.
#pragma once

#include "discovery/protocol/reasons.h"

namespace xenloop {

enum class OptionTreatment {
  kNothing,   // no byte's way depends on it: the kernel's socket keeps it
  kFollowed,  // socket/options.cc does as the kernel does; read anew at each upgrade
  kKernel,    // TCP for good once it is set
};

// kNone: the option may be set on an accelerated socket.
Reason ReasonAgainstOption(int level, int name);

// Asks the kernel for every option that a FIFO cannot follow: one getsockopt each. kNone: none is
// set. What this kernel does not know is not set.
Reason AskOptions(int fd);

}  // namespace xenloop
