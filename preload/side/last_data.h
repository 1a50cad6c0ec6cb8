// How long ago the last bytes went by FIFO, in one direction, for who asks TCP_INFO. No clock is
// read when they go; so of bytes that went since the last question the time of this one counts.
#pragma once

#include <cstdint>

namespace xenloop {

struct LastData {
  uint64_t bytes = 0;  // that had gone by FIFO when somebody last asked
  uint64_t since_ns = 0;

  static constexpr uint64_t kNever = UINT64_MAX;
  // `now_bytes`: that have gone by FIFO since the connection was made. CLOCK_MONOTONIC, ns.
  uint64_t AgeNs(uint64_t now_bytes, uint64_t now_ns) {
    if (now_bytes == 0) return kNever;
    if (now_bytes != bytes) {
      bytes = now_bytes;
      since_ns = now_ns;
    }
    return now_ns > since_ns ? now_ns - since_ns : 0;
  }
};

}  // namespace xenloop
