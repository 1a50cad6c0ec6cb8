// See runtime_directory.h.
#include "discovery/runtime_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <initializer_list>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

// `fd` if it is of that kind and of that user alone; else closed and -EPERM.
int Trusted(long fd, uid_t uid, mode_t kind, Reason otherwise, Reason* reason) {
  struct stat status;
  if (sys::Call(SYS_fstat, fd, sys::Word(&status)) == 0 && (status.st_mode & S_IFMT) == kind &&
      status.st_uid == uid && (status.st_mode & 022) == 0 &&
      (kind == S_IFDIR || status.st_nlink == 1)) {
    return static_cast<int>(fd);
  }
  sys::Close(static_cast<int>(fd));
  *reason = otherwise;
  return -EPERM;
}

}  // namespace

bool RuntimePath(const char* base, uid_t uid, const char* name, char (&path)[160]) {
  char digits[12];
  char* number = digits + sizeof digits - 1;
  *number = '\0';
  do {
    *--number = static_cast<char>('0' + uid % 10);
    uid /= 10;
  } while (uid != 0);
  size_t length = 0;
  for (const char* part :
       {base, "/xenloop-", static_cast<const char*>(number), *name != '\0' ? "/" : "", name}) {
    for (; *part != '\0'; ++part) {
      if (length + 1 == sizeof path) return false;
      path[length++] = *part;
    }
  }
  path[length] = '\0';
  return true;
}

int MakeRuntimeDirectory(const char* base, uid_t uid, Reason* reason) {
  char path[160];
  const long made = RuntimePath(base, uid, "", path)
                        ? sys::Call(SYS_mkdirat, AT_FDCWD, sys::Word(path), 0755)
                        : -ENAMETOOLONG;
  if (made == 0 || made == -EEXIST) return 0;
  *reason = Reason::kDirectoryNotMade;
  return static_cast<int>(made);
}

int OpenRuntimeFile(const char* base, uid_t uid, const char* name, int flags, unsigned mode,
                    Reason* reason) {
  char path[160];
  long fd = RuntimePath(base, uid, "", path)
                ? sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(path),
                                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                : -ENAMETOOLONG;
  if (fd < 0) {
    *reason = Reason::kDirectoryNotOpened;
    return static_cast<int>(fd);
  }
  const int directory = Trusted(fd, uid, S_IFDIR, Reason::kDirectoryNotOurs, reason);
  if (directory < 0) return directory;
  fd = sys::MakeDescriptor(SYS_openat, directory, sys::Word(name),
                           flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
  sys::Close(directory);
  if (fd < 0) {
    *reason = Reason::kHintsNotOpened;
    return static_cast<int>(fd);
  }
  return Trusted(fd, uid, S_IFREG, Reason::kHintsNotOurs, reason);
}

}  // namespace xenloop
