// See log.h.
#include "preload/side/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "preload/settings/config.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

char program[32];

}  // namespace

void AppendLine(const char* file, const char* text, size_t length) {
  if (!sys::MayWriteFileOf(1 << 30)) return;
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, reinterpret_cast<long>(file),
                                      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return;
  sys::Write(static_cast<int>(fd), text, length);
  sys::Close(static_cast<int>(fd));
}

const char* ProgramName() {
  if (program[0] == '\0') {
    const long fd = sys::MakeDescriptor(
        SYS_openat, AT_FDCWD, reinterpret_cast<long>("/proc/self/comm"), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      const ssize_t n = sys::Read(static_cast<int>(fd), program, sizeof program - 1);
      sys::Close(static_cast<int>(fd));
      for (ssize_t i = 0; i < n; ++i) {
        const char c = program[i];
        if (c == '\n') program[i] = '\0';
        if (static_cast<unsigned char>(c) < ' ' || c == '"' || c == '\\')
          program[i] = c == '\n' ? '\0' : '?';
      }
    }
  }
  return program;
}

void Log(const char* format, ...) {
  if (GetConfig().log_file[0] == '\0') return;
  char text[512];
  int n = snprintf(text, sizeof text,
                   "%lu %d %s: ", static_cast<unsigned long>(sys::MonotonicNs() / 1000),
                   process_state.pid, ProgramName());
  va_list arguments;
  va_start(arguments, format);
  n += vsnprintf(text + n, sizeof text - static_cast<size_t>(n) - 1, format, arguments);
  va_end(arguments);
  if (n > static_cast<int>(sizeof text) - 2) n = sizeof text - 2;
  text[n++] = '\n';
  AppendLine(GetConfig().log_file, text, static_cast<size_t>(n));
}

}  // namespace xenloop
