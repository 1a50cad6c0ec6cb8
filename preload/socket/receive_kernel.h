// A receive's dealings with the kernel: what is read from the shadow socket, counted, and made good
// where a FIFO has ended with bytes in it.
#pragma once

#include <sys/types.h>

#include "channel/base/iov_cursor.h"
#include "preload/side/side.h"

namespace xenloop {

// What a receive whose route went back to TCP in the middle still takes from there: at least
// `target` bytes if it may wait, at most `limit`.
ssize_t ReceiveRestFromKernel(int fd, const IovCursor& cursor, size_t target, size_t limit,
                              int flags);

// What a receive from the kernel has taken out of TCP's queue.
void CountTaken(Side* side, int flags, ssize_t received);

// The stream ended without a seal: the peer died. If it left bytes of ours unread, TCP would have
// reset the connection. The unread bytes go to TCP now, whose reset tells the rest; the kernel's
// error is ours to report then.
bool ResetByDeadPeer(int fd, Side* side);

// Bytes that were readable in a FIFO are on their way by TCP: waits for them, for a moment.
void AwaitOwed(int fd);

}  // namespace xenloop
