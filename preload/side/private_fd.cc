// See private_fd.h.
#include "preload/side/private_fd.h"

#include <errno.h>
#include <fcntl.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "preload/side/fd_table.h"

namespace xenloop {

int MakePrivate(int fd, int above) {
  if (fd < 0) return fd;
  const long base = sys::DescriptorBase();
  const long moved = sys::MoveUp(fd, above < base ? base : above + 1L);
  if (moved >= 0 && !FdTable::InRange(static_cast<int>(moved))) {
    sys::Close(static_cast<int>(moved));
    return -ENOMEM;
  }
  if (moved >= 0) FdTable::SetPrivate(static_cast<int>(moved));
  return static_cast<int>(moved);
}

int DuplicateForUs(int fd) {
  return static_cast<int>(sys::Call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, sys::DescriptorBase()));
}

void ClosePrivate(int fd) {
  if (FdTable::InRange(fd) && !FdTable::IsPrivate(fd)) return;  // the program has the number now
  FdTable::Clear(fd);
  sys::Close(fd);
}

}  // namespace xenloop
