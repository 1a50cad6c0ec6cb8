// Pointers that a program hands over, before we follow them ourselves: the kernel would answer
// EFAULT, and we must not die instead. One mechanism for everything that is not bulk data; asked
// only where a descriptor of ours is concerned, since the kernel looks for itself everywhere else.
// Bulk data get a look at their addresses only (channel/base/iov_cursor.h).
#pragma once

#include <cstddef>

namespace xenloop {

// Whether the program's memory is there. A page that was found once is not looked for again: a
// program that takes it away later and then passes it once more meets a fault.
bool MayRead(const void* first, size_t bytes);
bool MayWrite(void* first, size_t bytes);
// Where no system call may be made to find out (before the first socket is followed, under a filter
// that no agent has tried, and in sandboxes) every pointer is believed.
void BelieveProgramMemory(bool believe);
bool IsProgramMemoryBelieved();

}  // namespace xenloop
