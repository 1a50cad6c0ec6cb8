// This process's totals, written as one JSON line into XENLOOP_STATS's file when it ends.
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/side/side.h"

namespace xenloop {

void CountConnection();
void CountUpgrade();  // a connection's first upgrade
void CountFallback(Reason reason);
// A connection that has no side, and this is why.
void CountUnfollowed(Reason reason);
// Before the last close: its bytes by route.
void CountClosed(int fd, const Side* side)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(side->send.lock, side->receive.lock);
// A life of a parked connection has ended: its bytes by FIFO.
void CountLife(uint64_t sent, uint64_t received);
void WriteStats();   // at the end of the process; only the first call counts
void ForgetStats();  // in a forked child

struct Totals {
  uint64_t connections, upgraded, tcp_sent, tcp_received, fifo_sent, fifo_received;
};
Totals CurrentTotals();
// {"reason":n,...} into `text`; the length. Every fallback; every connection that ended without
// ever having been upgraded.
size_t FormatFallbacks(char* text, size_t capacity);
size_t FormatNeverUpgraded(char* text, size_t capacity);
// Bytes that the side's shadow socket has carried.
void TcpBytesOf(int fd, uint64_t* sent, uint64_t* received);

}  // namespace xenloop
