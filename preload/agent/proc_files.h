// What the agent reads of /proc: files as text, folders whose entries are numbers.
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

#include "channel/base/descriptor.h"
#include "channel/base/number.h"
#include "channel/base/sys.h"

namespace xenloop {

// How much of the file is in `text`, which a zero ends; -errno.
long ReadProc(const char* path, char* text, size_t capacity);

// Calls `look` with each number in the folder until it says true. 0, or -errno: not all were seen.
template <typename Look>
long EachNumberIn(const char* folder, Look look) {
  struct Entry {  // of getdents64
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
  };
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(folder),
                                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fd;
  alignas(8) char entries[4096];
  bool done = false;
  long n = 0;
  while (!done && (n = sys::Call(SYS_getdents64, fd, sys::Word(entries), sizeof entries)) > 0) {
    for (long at = 0; !done && at < n;) {
      const auto* const entry = reinterpret_cast<const Entry*>(entries + at);
      if (entry->name[0] >= '0' && entry->name[0] <= '9')
        done = look(static_cast<uint32_t>(NumberAt(entry->name, 10)));
      at += entry->length;
    }
  }
  sys::Close(static_cast<int>(fd));
  return n < 0 ? n : 0;
}

}  // namespace xenloop
