// A time-out as poll(2) and epoll_wait(2) want it: rounded up, since a wait must not end too soon.
#pragma once

#include <limits.h>
#include <time.h>

namespace xenloop {

inline int Milliseconds(const timespec* timeout) {
  if (timeout == nullptr) return -1;
  constexpr time_t kMostSeconds = INT_MAX / 1000 - 1;
  if (timeout->tv_sec > kMostSeconds) return INT_MAX;
  return static_cast<int>(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
}

}  // namespace xenloop
