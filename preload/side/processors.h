// How many processors there are for us and our peers.
#pragma once

#include <cstdint>

namespace xenloop {

// Those of the machine, as far as the kernel says: not those that this thread may use. A program
// pins its threads after it was loaded, and so does its peer, to other processors.
uint32_t CountProcessors();

}  // namespace xenloop
