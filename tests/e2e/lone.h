// Numbers that come in order to a program of one thread, which takes hundreds of them in a handler
// above its wait for the first.
#pragma once

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace lone {

inline constexpr uint32_t kInHandler = 600;
inline constexpr uint32_t kAll = 4000;

inline int receiver;
inline uint32_t next_number = 1;
inline bool jumps;
inline sigjmp_buf target;

[[noreturn]] inline void Fail(const char* what) {
  printf("%s at %u\n", what, next_number);
  exit(1);
}

inline void ReceiveNext() {
  uint32_t number = 0;
  if (recv(receiver, &number, sizeof number, 0) != sizeof number) Fail("no number");
  if (number != next_number++) Fail("another number");
}

inline void Handler(int /*signal*/) {
  for (uint32_t i = 0; i < kInHandler; ++i) ReceiveNext();
  usleep(300000);  // the two meet now, if they may
  if (jumps) siglongjmp(target, 1);
}

}  // namespace lone
