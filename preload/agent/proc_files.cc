// See proc_files.h.
#include "preload/agent/proc_files.h"

#include "channel/base/descriptor.h"

namespace xenloop {

long ReadProc(const char* path, char* text, size_t capacity) {
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  size_t length = 0;
  ssize_t n = 1;
  while (n > 0 && length < capacity - 1) {
    n = sys::Read(static_cast<int>(fd), text + length, capacity - 1 - length);
    if (n > 0) length += static_cast<size_t>(n);
  }
  sys::Close(static_cast<int>(fd));
  text[length] = '\0';
  return static_cast<long>(length);
}

}  // namespace xenloop
