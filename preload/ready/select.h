// select and pselect on followed sockets.
#pragma once

#include <signal.h>
#include <sys/select.h>
#include <time.h>

#include <cstdint>

namespace xenloop {

bool SelectConcernsUs(int count, const fd_set* read, const fd_set* write, const fd_set* except);
// As that call, but returns -errno; `timeout` is not changed (`remaining`, if not null, gets what
// select(2) leaves).
enum class SelectName : uint8_t { kSelect, kPselect };
int Select(SelectName name, int count, fd_set* read, fd_set* write, fd_set* except,
           const timespec* timeout, timespec* remaining, const sigset_t* mask);

}  // namespace xenloop
