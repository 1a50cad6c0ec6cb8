// A transport whose tickets are numbers and whose memory is the process's own: for tests in one
// process, and as the smallest example of what a transport is.
#pragma once

#include "channel/transport.h"

namespace xenloop {

const Transport& InProcessTransport();

}  // namespace xenloop
