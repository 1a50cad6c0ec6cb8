// A UDP socket that is on no FIFO: the program's own call, a count, and after each sixty-four
// datagrams a look at the clock. This is what every socket pays whose peer has no library.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "preload/libc/errno.h"
#include "preload/side/datagram_side.h"
#include "preload/side/wait.h"

namespace xenloop {

// A call of the program as it stands; a result of libc's.
class KernelCall {
 public:
  template <class Call>
  explicit KernelCall(const Call& call) : state_(&call), make_(&Make<Call>) {}
  ssize_t operator()() const { return make_(state_); }

 private:
  template <class Call>
  static ssize_t Make(const void* state) {
    return static_cast<ssize_t>((*static_cast<const Call*>(state))());
  }
  const void* state_;
  ssize_t (*make_)(const void*);
};

inline constexpr uint32_t kHotDatagrams = 64;  // within a second

// After each so many: is it hot?
void ManyDatagramsSent(DatagramSide* side, uint32_t count);
void ManyDatagramsReceived(DatagramSide* side, uint32_t count);

inline bool CountTo(std::atomic<uint32_t>& count, std::atomic<uint64_t>& all, uint32_t* n) {
  *n = count.load(std::memory_order_relaxed) + 1;
  count.store(*n, std::memory_order_relaxed);
  all.store(all.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return *n % kHotDatagrams == 0;
}
inline void CountKernelReceive(DatagramSide* side, ssize_t result) {
  uint32_t n;
  if (result >= 0 && CountTo(side->receives, side->kernel_received, &n))
    ManyDatagramsReceived(side, n);
}
// To another destination than the last; so a sender of many never gets hot.
void CountOtherDestination(DatagramSide* side, const UdpName& to);
inline void CountKernelSend(DatagramSide* side, const UdpName& to) {
  if (side->receiving.load(std::memory_order_relaxed) != 0)
    side->error_likely.store(1, std::memory_order_relaxed);
  if (!to.Known() || to != side->destination.Load()) return CountOtherDestination(side, to);
  uint32_t n;
  if (CountTo(side->sends, side->kernel_sent, &n)) ManyDatagramsSent(side, n);
}
// Where it goes, of one that the kernel has taken (its name can be read); not known: nowhere that
// we know.
inline UdpName DestinationOfSent(const DatagramSide* side, const void* to, socklen_t to_length) {
  if (to != nullptr) return ReadUdpName(side->family, to, to_length);
  return side->connected.load(std::memory_order_relaxed) != 0 ? side->destination.Load()
                                                              : UdpName{};
}

// A handler has run since the program's call began, which is to wait in the kernel now: it ends,
// unless there is a datagram.
bool EndsBeforeDatagram(const Interruption& interruption, int fd);

// False: a datagram stands in a FIFO now.
template <class Call>
bool ReceiveByKernel(DatagramSide* side, int fd, bool waits, Call& kernel, ssize_t* result,
                     const Interruption& interruption) {
  if (!waits) {
    *result = kernel();
  } else {
    BeforeLastLook();
    const DatagramSleeper sleeper(side);
    if (!sleeper.MayWait()) return false;
    *result = EndsBeforeDatagram(interruption, fd) ? ReturnToLibc(-EINTR)
                                                   : Cancellable([&kernel] { return kernel(); });
  }
  CountKernelReceive(side, *result);
  return true;
}

}  // namespace xenloop
