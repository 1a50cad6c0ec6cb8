// Transport between processes and containers of one kernel. See local_transport.cc.
#pragma once

#include "channel/transport.h"

namespace xenloop {

const Transport& LocalTransport();

}  // namespace xenloop
