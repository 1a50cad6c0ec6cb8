// One line of text into XENLOOP_LOG's file, if there is one. Never called on the data path.
#pragma once

namespace xenloop {

void Log(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace xenloop
