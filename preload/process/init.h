// Start and end of the library in a process.
#pragma once

#include "preload/ready/lent_bell.h"

namespace xenloop {

void InstallForkHandlers();
void PollForkedChild();  // poll.cc: the parent's descriptors are not ours to sleep on

}  // namespace xenloop
