// Event channels of the daemon's own links, by libxenevtchn; grants by the kernel's drivers. Why
// the one and not the other: channel/PORTING.md.
#pragma once

#include "channel/xen/xen_calls.h"

namespace xenloop {

// KernelXenCalls with the event channels by libxenevtchn, or nothing where that is not installed.
const XenCalls* DaemonXenCalls();
// As UseXenDescriptors, for these calls.
void UseDaemonXenDescriptors(const int (&descriptors)[kXenDescriptors]);

}  // namespace xenloop
