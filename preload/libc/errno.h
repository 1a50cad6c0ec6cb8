// errno: the one place where a result of ours becomes a result of libc.
#pragma once

#include <errno.h>

namespace xenloop {

template <class Result>
inline Result ReturnToLibc(Result result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// For what runs after the real call, whose errno the program is to see.
class KeepErrno {
 public:
  KeepErrno() : kept_(errno) {}
  ~KeepErrno() { errno = kept_; }
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;

 private:
  const int kept_;
};

// A call of libc's as one of ours: its failure is the result, and errno is what it was. (What a
// cancelled `call` leaves undone here is nothing.)
template <class Call>
auto FromLibc(Call call) -> decltype(call()) {
  const int kept = errno;
  const auto result = call();
  if (result >= 0) return result;
  const int error = errno;
  errno = kept;
  return -error;
}

}  // namespace xenloop
