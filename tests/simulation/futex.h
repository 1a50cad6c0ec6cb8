// A futex of the simulation's own beneath the streams: who sleeps on a word, and what may happen
// between taking a sleeper's request away and waking him, is the world's business. To be included
// in place of channel/stream.h.
#pragma once

#define FutexWakeAll KernelsFutexWakeAll
#include "channel/base/sys.h"
#undef FutexWakeAll

namespace xenloop::sys {
int FutexWakeAll(const volatile void* word, bool of_this_process = false);
}  // namespace xenloop::sys

#include "channel/stream.h"
