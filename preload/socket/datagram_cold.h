// A UDP socket that is on no FIFO: the program's own call, a count, and after each sixty-four
// datagrams a look at the clock. This is what every socket pays whose peer has no library; each
// instruction is one too many (datagram_hot.cc has what is done now and then).
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "preload/libc/errno.h"
#include "preload/side/bare_wait.h"
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
void ManyDatagramsReceived(DatagramSide* side);
// The destination is looked at: of each where the side is watched, else of one in so many.
void LookAtSend(DatagramSide* side, const void* to, socklen_t to_length, bool many);
void WatchSends(DatagramSide* side);

// True: again so many.
inline bool CountTo(std::atomic<uint64_t>& all) {
  const uint64_t n = all.load(std::memory_order_relaxed) + 1;
  all.store(n, std::memory_order_relaxed);
  return n % kHotDatagrams == 0;
}
inline void CountKernelReceive(DatagramSide* side, ssize_t result) {
  if (result >= 0 && CountTo(side->kernel_received)) ManyDatagramsReceived(side);
}
// `to`: of a datagram that the kernel has taken, so it can be read; null: the peer of the socket.
inline void CountKernelSend(DatagramSide* side, const void* to, socklen_t to_length) {
  if (side->receiving.load(std::memory_order_relaxed) != 0)
    side->error_likely.store(1, std::memory_order_relaxed);
  const bool many = CountTo(side->kernel_sent);
  if (__builtin_expect(many || side->watches.load(std::memory_order_relaxed) != 0, 0))
    LookAtSend(side, to, to_length, many);
}
// Where it goes, of one that the kernel has taken (its name can be read); not known: nowhere that
// we know.
inline UdpName DestinationOfSent(const DatagramSide* side, const void* to, socklen_t to_length) {
  if (to != nullptr) return ReadUdpName(side->family, to, to_length);
  return side->connected.load(std::memory_order_relaxed) != 0 ? side->destination.Load()
                                                              : UdpName{};
}

// What most receives are: nothing of a FIFO is there, and no need to be counted. False: neither.
template <class Call>
bool ReceiveBarely(DatagramSide* side, bool waits, const Call& kernel, ssize_t* result) {
  if (side->receiving.load(std::memory_order_acquire) != 0) return false;
  if (!waits) {
    *result = kernel();
  } else {
    if (!BareWait::IsEnough()) return false;
    const BareWait wait;
    if (!BareWait::IsEnough() || side->receiving.load(std::memory_order_acquire) != 0) return false;
    *result = kernel();
  }
  CountKernelReceive(side, *result);
  return true;
}

// A handler has run since the program's call began, which is to wait in the kernel now: it ends,
// unless there is a datagram.
bool HandlerEndsBeforeDatagram(const Interruption& interruption, int fd);
inline bool EndsBeforeDatagram(const Interruption& interruption, int fd) {
  return __builtin_expect(interruption.Ends(/*restarts=*/false), 0) &&
         HandlerEndsBeforeDatagram(interruption, fd);
}

// False: a datagram stands in a FIFO now.
template <class Call>
bool ReceiveByKernel(DatagramSide* side, int fd, bool waits, const Call& kernel, ssize_t* result,
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
