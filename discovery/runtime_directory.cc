// See runtime_directory.h.
#include "discovery/runtime_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

bool NameOf(const char* base, uid_t uid, char (&path)[160]) {
  const int n = snprintf(path, sizeof path, "%s/xenloop-%u", base, uid);
  return n > 0 && static_cast<size_t>(n) < sizeof path;
}

// `fd` if it is of that kind and of that user alone; else closed and -EPERM.
int Trusted(long fd, uid_t uid, mode_t kind, const char* otherwise, const char** reason) {
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

int MakeRuntimeDirectory(const char* base, uid_t uid, const char** reason) {
  char path[160];
  const long made =
      NameOf(base, uid, path) ? sys::Call(SYS_mkdirat, AT_FDCWD, sys::Word(path), 0755) : -ENAMETOOLONG;
  if (made == 0 || made == -EEXIST) return 0;
  *reason = "runtime directory cannot be made";
  return static_cast<int>(made);
}

int OpenRuntimeFile(const char* base, uid_t uid, const char* name, int flags, unsigned mode,
                    const char** reason) {
  char path[160];
  long fd = NameOf(base, uid, path)
                ? sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(path),
                                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                : -ENAMETOOLONG;
  if (fd < 0) {
    *reason = "runtime directory cannot be opened";
    return static_cast<int>(fd);
  }
  const int directory =
      Trusted(fd, uid, S_IFDIR, "runtime directory belongs to somebody else", reason);
  if (directory < 0) return directory;
  fd = sys::MakeDescriptor(SYS_openat, directory, sys::Word(name),
                           flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
  sys::Close(directory);
  if (fd < 0) {
    *reason = "hints file cannot be opened";
    return static_cast<int>(fd);
  }
  return Trusted(fd, uid, S_IFREG, "hints file is not ours", reason);
}

}  // namespace xenloop
