// See pairing.h.
#include "preload/socket/pairing.h"

#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {
namespace {

bool CountsOf(int fd, PairingCounts* counts) {
  tcp_info info;
  if (TcpInfoOf(fd, &info) != 0) return false;
  counts->bytes_sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
  counts->bytes_received = info.tcpi_bytes_received;
  counts->segments_sent = info.tcpi_segs_out;
  counts->data_segments_sent = info.tcpi_data_segs_out;
  counts->segments_received = info.tcpi_segs_in;
  counts->quiet_ms = info.tcpi_last_data_recv;
  return true;
}

// Nobody else must be able to foresee it.
bool TossCoin(Side* side) {
  if (side->coins_left == 0) {
    uint32_t coins = 0;
    if (sys::Call(SYS_getrandom, sys::Word(&coins), sizeof coins, 0) != sizeof coins) return false;
    side->coins = coins;
    side->coins_left = 32;
  }
  --side->coins_left;
  const bool heads = (side->coins & 1) != 0;
  side->coins >>= 1;
  return heads;
}

// Any acknowledgement that the kernel still owes goes out now. How it acknowledges in general
// (interactively or at once) stays as it is.
void AcknowledgeNow(int fd) {
  constexpr int kAtOnce = 1;
  constexpr int kAtOnceAndGoOnDelaying = 2;
  int quick = 0;
  socklen_t length = sizeof quick;
  sys::Call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_QUICKACK, sys::Word(&quick), sys::Word(&length));
  const int value = quick != 0 ? kAtOnce : kAtOnceAndGoOnDelaying;
  sys::Call(SYS_setsockopt, fd, IPPROTO_TCP, TCP_QUICKACK, sys::Word(&value), sizeof value);
}

}  // namespace

void FeedPairing(int fd, Side* side, bool received) {
  if (process_state.sandboxed) return;  // these calls may not be among those that are allowed
  bool concluded = false;
  {
    LockScope scope(side->pairing_lock, CurrentTid());
    // A signal handler inside of this very call: one message less.
    if (scope.result() == LockResult::kReentered) return;
    // Begun and ended under this lock, with the memory of the process that did: perhaps not ours.
    if (side->pairing.running.load(std::memory_order_acquire) == 0 ||
        side->pairing_pid.load(std::memory_order_relaxed) != process_state.pid ||
        FindSide(fd) != side) {
      return;
    }
    PairingCounts counts;
    if (!CountsOf(fd, &counts)) return;
    if (received) {
      if (side->pairing.Received(counts, TossCoin(side))) AcknowledgeNow(fd);
    } else {
      side->pairing.Sent(counts);
    }
    if (side->pairing.verdict.load(std::memory_order_relaxed) != PairingVerdict::kNone) {
      side->pairing.running.store(0, std::memory_order_release);
      concluded = true;
    }
  }
  if (concluded) {
    Arena()->wanted.Add(SlotOf(side));
    Poke(process_state.pid);
  }
}

}  // namespace xenloop
