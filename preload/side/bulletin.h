// Why connections of this process are on TCP, for those who look from outside: see
// discovery/protocol/bulletin.h.
#pragma once

#include "discovery/protocol/bulletin.h"
#include "preload/side/side.h"

namespace xenloop {

extern Bulletin bulletin;

// The reason that a person is told: what keeps the whole program on TCP before "not hot yet".
Reason ReasonOf(const Side* side);

}  // namespace xenloop
