// Lines of text that leave this process: into XENLOOP_LOG's file, if there is one, and into that of
// the statistics. Never on the data path, and never to the program's own standard output or error.
#pragma once

#include <cstddef>

namespace xenloop {

void Log(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Appends to `file`, whole or not at all if the kernel agrees; a failure is nobody's business.
void AppendLine(const char* file, const char* text, size_t length);

// As /proc/self/comm has it, fit for a JSON string.
const char* ProgramName();

}  // namespace xenloop
