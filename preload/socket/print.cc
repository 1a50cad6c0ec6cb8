// See print.h.
#include "preload/socket/print.h"

#include <stdio.h>
#include <stdlib.h>

#include "preload/libc/errno.h"
#include "preload/libc/real.h"
#include "preload/side/fd_table.h"
#include "preload/socket/transfer.h"

// Exported by glibc; declared by its headers only when the program is fortified. Weak: another libc
// must not fail to load us for what nobody calls there.
extern "C" int __vsnprintf_chk(char* buffer, size_t size, int flag, size_t buffer_size,
                               const char* format, va_list arguments) __attribute__((weak));
extern "C" int __vasprintf_chk(char** text, int flag, const char* format, va_list arguments)
    __attribute__((weak));

namespace xenloop {
namespace {

int WriteAll(int fd, const char* text, int length) {
  for (int done = 0; done < length;) {
    const char* const rest = text + done;
    const auto left = static_cast<size_t>(length - done);
    const iovec source{const_cast<char*>(rest), left};
    const ssize_t written =
        SendOr(fd, FindSide(fd), &source, 1, 0, [=] { return real::write(fd, rest, left); });
    if (written < 0) return -1;
    done += static_cast<int>(written);
  }
  return length;
}

}  // namespace

int Print(int fd, int flag, const char* format, va_list arguments) {
  char text[1024];
  va_list again;
  va_copy(again, arguments);
  const int length = __vsnprintf_chk(text, sizeof text, flag, sizeof text, format, arguments);
  int result = -1;
  if (length >= 0 && static_cast<size_t>(length) < sizeof text) {
    result = WriteAll(fd, text, length);
  } else if (length >= 0) {
    char* long_text = nullptr;
    if (__vasprintf_chk(&long_text, flag, format, again) >= 0) {
      result = WriteAll(fd, long_text, length);
      const KeepErrno keep_errno;
      free(long_text);
    }
  }
  va_end(again);
  return result;
}

}  // namespace xenloop
