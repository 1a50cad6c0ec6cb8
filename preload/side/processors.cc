// See processors.h.
#include "preload/side/processors.h"

#include <fcntl.h>
#include <sched.h>

#include "channel/base/descriptor.h"
#include "channel/base/number.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

// "0-3,5": ranges of numbers. 0: no such list.
uint32_t CountOf(const char* list) {
  uint32_t count = 0;
  while (*list >= '0' && *list <= '9') {
    const uint64_t first = ReadNumber(&list, 10);
    uint64_t last = first;
    if (*list == '-') {
      ++list;
      last = ReadNumber(&list, 10);
    }
    if (last < first) return 0;
    count += static_cast<uint32_t>(last - first + 1);
    if (*list != ',') return count;
    ++list;
  }
  return count;
}

}  // namespace

uint32_t CountProcessors() {
  char list[256];
  const long fd = sys::MakeDescriptor(
      SYS_openat, AT_FDCWD, sys::Word("/sys/devices/system/cpu/online"), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    const ssize_t length = sys::Read(static_cast<int>(fd), list, sizeof list - 1);
    sys::Close(static_cast<int>(fd));
    list[length > 0 ? length : 0] = '\0';
    if (const uint32_t online = CountOf(list); online != 0) return online;
  }
  cpu_set_t mine;
  CPU_ZERO(&mine);
  return sys::Call(SYS_sched_getaffinity, 0, sizeof mine, sys::Word(&mine)) > 0
             ? static_cast<uint32_t>(CPU_COUNT(&mine))
             : 1;
}

}  // namespace xenloop
