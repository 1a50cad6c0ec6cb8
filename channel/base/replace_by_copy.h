// A private copy of mapped pages, in their place. Other threads may read and write there meanwhile
// (what they write is in the copy or it is not): at no moment is there a hole.
#pragma once

#include <string.h>
#include <sys/mman.h>

#include "channel/base/sys.h"

namespace xenloop {

// Of the first `worth` bytes of them; the rest is zero. 0; or -errno, and nothing has changed.
inline int ReplaceByCopy(void* at, size_t bytes, size_t worth) {
  const long length = static_cast<long>(bytes);
  const long copy =
      sys::Call(SYS_mmap, 0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy < 0 && copy > -4096) return static_cast<int>(copy);
  memcpy(reinterpret_cast<void*>(copy), at, worth);
  const long moved = sys::Call(SYS_mremap, copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
                               reinterpret_cast<long>(at));
  if (moved >= 0 || moved <= -4096) return 0;
  sys::Call(SYS_munmap, copy, length);
  return static_cast<int>(moved);
}

}  // namespace xenloop
