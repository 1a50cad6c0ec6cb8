// TCP_CORK and TCP_NODELAY of a connection that sends by FIFO. They say when the kernel sends what
// it has been given, and it is given nothing there, so a change need not be a system call: it is
// held, and the kernel is told before it gets its next byte. What had been given to it before the
// FIFO began may still wait under a cork, though: the first change of each goes to the kernel, and
// so does every one that would let bytes go.
#pragma once

#include <cstdint>

namespace xenloop {

struct Side;

// Guarded by the side's send lock. Zero-initialised: nothing is held.
struct HeldOptions {
  enum class Value : uint8_t { kUnknown, kOff, kOn };
  struct Option {
    Value wanted;     // what the program has set last, since the FIFO began
    Value in_kernel;  // what the kernel has been told since then
  };
  Option cork;
  Option nodelay;
};

// setsockopt(IPPROTO_TCP, name, on) by the program. False: the kernel must be asked, as if we were
// not there; else 0 or -errno in *result.
bool HoldOption(int fd, Side* side, int name, bool on, int* result);
// The kernel sends next, or is asked: it is told what is held.
void TellHeldOptions(int fd, Side* side);
// The kernel keeps the last bytes back until there are enough for a segment: under TCP_CORK for
// 200 ms, and without TCP_NODELAY until all before them are acknowledged. What follows goes by
// FIFO, so that nothing would fill it, and the reader waits for just these bytes: out with them.
void PushHeldBack(int fd);

}  // namespace xenloop
