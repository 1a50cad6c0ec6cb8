// See stats.h.
#include "preload/side/stats.h"

#include <stdio.h>
#include <string.h>

#include "preload/settings/config.h"
#include "preload/side/bulletin.h"
#include "preload/side/datagram_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

using Counts = std::atomic<uint64_t>[kReasonCount];
Counts fallbacks;
Counts never_upgraded;
std::atomic<uint64_t> connections;
std::atomic<uint64_t> upgraded;
std::atomic<uint64_t> tcp_sent;
std::atomic<uint64_t> tcp_received;
std::atomic<uint64_t> fifo_sent;
std::atomic<uint64_t> fifo_received;
std::atomic<uint32_t> written;

void Count(Counts& counts, Reason reason) {
  counts[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
}

void Add(std::atomic<uint64_t>& all, uint64_t more) {
  if (more != 0) all.fetch_add(more, std::memory_order_relaxed);
}

}  // namespace

void CountConnection() { connections.fetch_add(1, std::memory_order_relaxed); }
void CountUpgrade() { upgraded.fetch_add(1, std::memory_order_relaxed); }

void CountFallback(Reason reason) { Count(fallbacks, reason); }
void CountUnfollowed(Reason reason) {
  CountConnection();
  Count(never_upgraded, reason);
}

void TcpBytesOf(int fd, uint64_t* sent, uint64_t* received) {
  tcp_info info;
  *sent = *received = 0;
  if (TcpInfoOf(fd, &info) != 0) return;
  // A FIN that waits to be sent counts as one byte there.
  const bool fin_waits = info.tcpi_notsent_bytes > 0 &&
                         info.tcpi_state != SocketShadow::kTcpEstablished &&
                         info.tcpi_state != SocketShadow::kTcpCloseWait;
  *sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes -
          (fin_waits ? 1 : 0);
  // A FIN that has come counts as one byte there.
  const bool fin = info.tcpi_state != SocketShadow::kTcpEstablished &&
                   info.tcpi_state != SocketShadow::kTcpFinWait1 &&
                   info.tcpi_state != SocketShadow::kTcpFinWait2;
  *received = info.tcpi_bytes_received - (fin && info.tcpi_bytes_received > 0 ? 1 : 0);
}

void CountClosed(int fd, const Side* side) {
  if (side->Connected() && side->upgrades.load(std::memory_order_relaxed) == 0)
    Count(never_upgraded, ReasonOf(side));
  Add(fifo_sent, side->send.FifoBytes());
  Add(fifo_received, side->receive.FifoBytes());
  // A system call that only statistics need.
  if (GetConfig().stats_file[0] == '\0' || process_state.sandboxed) return;
  uint64_t sent;
  uint64_t received;
  TcpBytesOf(fd, &sent, &received);
  tcp_sent.fetch_add(sent, std::memory_order_relaxed);
  tcp_received.fetch_add(received, std::memory_order_relaxed);
}

void CountLife(uint64_t sent, uint64_t received) {
  fifo_sent.fetch_add(sent, std::memory_order_relaxed);
  fifo_received.fetch_add(received, std::memory_order_relaxed);
}

Totals CurrentTotals() {
  return Totals{connections.load(),  upgraded.load(),  tcp_sent.load(),
                tcp_received.load(), fifo_sent.load(), fifo_received.load()};
}

namespace {
size_t Format(const Counts& counts, char* text, size_t capacity) {
  size_t n = 0;
  text[n++] = '{';
  for (size_t number = 0; number < kReasonCount; ++number) {
    const uint64_t count = counts[number].load(std::memory_order_relaxed);
    const char* const words = ReasonText(static_cast<Reason>(number));
    if (count == 0 || n + strlen(words) + 32 > capacity) continue;
    n += static_cast<size_t>(snprintf(text + n, capacity - n, "%s\"%s\":%lu", n > 1 ? "," : "",
                                      words, static_cast<unsigned long>(count)));
  }
  text[n++] = '}';
  text[n] = '\0';
  return n;
}
}  // namespace

size_t FormatFallbacks(char* text, size_t capacity) { return Format(fallbacks, text, capacity); }
size_t FormatNeverUpgraded(char* text, size_t capacity) {
  return Format(never_upgraded, text, capacity);
}

void WriteStats() {
  const Config& config = GetConfig();
  if (config.stats_file[0] == '\0' || process_state.pid == 0 || process_state.sandboxed ||
      written.exchange(1) != 0)
    return;
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    Side* side = FdTable::FindSide(fd);
    if (side != nullptr && side->fd.load(std::memory_order_relaxed) == fd) {
      LockScope send(side->send.lock, CurrentTid());
      LockScope receive(side->receive.lock, CurrentTid());
      CountClosed(fd, side);
    }
  }
  const Totals totals = CurrentTotals();
  const bool datagrams = CountedDatagrams().Any();
  if (totals.connections == 0 && totals.fifo_sent + totals.fifo_received == 0 && !datagrams) return;
  char text[7680];
  int n = snprintf(
      text, sizeof text,
      "{\"pid\":%d,\"program\":\"%s\",\"connections\":%lu,\"upgraded\":%lu,\"tcp_sent\":%lu,"
      "\"tcp_received\":%lu,\"fifo_sent\":%lu,\"fifo_received\":%lu,\"fallbacks\":",
      process_state.pid, ProgramName(), totals.connections, totals.upgraded, totals.tcp_sent,
      totals.tcp_received, totals.fifo_sent, totals.fifo_received);
  n += static_cast<int>(FormatFallbacks(text + n, size_t{3072}));
  n += snprintf(text + n, sizeof text - static_cast<size_t>(n), ",\"never_upgraded\":");
  n += static_cast<int>(FormatNeverUpgraded(text + n, sizeof text - static_cast<size_t>(n) - 1024));
  if (datagrams) {
    n += snprintf(text + n, sizeof text - static_cast<size_t>(n), ",\"datagrams\":");
    n += static_cast<int>(FormatDatagrams(text + n, sizeof text - static_cast<size_t>(n) - 4));
  }
  n += static_cast<int>(FormatParked(text + n, sizeof text - static_cast<size_t>(n) - 4));
  text[n++] = '}';
  text[n++] = '\n';
  AppendLine(config.stats_file, text, static_cast<size_t>(n));
}

void ForgetStats() {
  for (auto* counter :
       {&connections, &upgraded, &tcp_sent, &tcp_received, &fifo_sent, &fifo_received})
    counter->store(0);
  for (std::atomic<uint64_t>& count : fallbacks) count.store(0);
  for (std::atomic<uint64_t>& count : never_upgraded) count.store(0);
  written.store(0);
}

}  // namespace xenloop
