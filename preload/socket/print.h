// dprintf on a socket that we follow: libc would write by a call that nobody can see.
#pragma once

#include <stdarg.h>

namespace xenloop {

// `flag`: above 0, libc aborts on %n in writable memory. Results are those of libc.
int Print(int fd, int flag, const char* format, va_list arguments);

}  // namespace xenloop
