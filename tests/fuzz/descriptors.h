// How many descriptors are open: a target that passes some on must leave as many as it found.
#pragma once

#include <fcntl.h>

#include <initializer_list>

namespace xenloop::fuzz {

// Among the lowest numbers, and among those that the library keeps for its own.
inline int OpenDescriptors() {
  int open = 0;
  for (const int first : {0, 1024}) {
    for (int fd = first; fd < first + 64; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) ++open;
    }
  }
  return open;
}

}  // namespace xenloop::fuzz
