// The forms of send and receive that take messages: recvmsg, sendmsg and their plurals on a UDP
// socket.
#include <errno.h>
#include <limits.h>

#include "channel/base/time.h"
#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/real.h"
#include "preload/side/wait.h"
#include "preload/socket/datagram.h"

namespace xenloop {

ssize_t ReceiveDatagramMessage(int fd, DatagramSide* side, msghdr* message, int flags,
                               const Interruption& interruption) {
  const auto kernel = [=] { return real::recvmsg(fd, message, flags); };
  const bool waits = (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) == 0 &&
                     side->nonblocking.load(std::memory_order_relaxed) == 0;
  ssize_t by_kernel;
  if (ReceiveBarely(side, waits, kernel, &by_kernel)) return by_kernel;
  if (!MayWrite(message, sizeof *message)) return kernel();
  DatagramNews news;
  const DatagramName name{message->msg_name, &message->msg_namelen};
  const ssize_t received = ReceiveDatagram(fd, side, message->msg_iov, message->msg_iovlen, flags,
                                           name, &news, KernelCall(kernel), interruption);
  if (!news.by_kernel && received >= 0) {
    if (message->msg_name == nullptr) message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = news.message_flags;
  }
  return received;
}

ssize_t SendDatagramMessage(int fd, DatagramSide* side, const msghdr* message, int flags) {
  const auto kernel = [=] { return real::sendmsg(fd, message, flags); };
  if (!MayRead(message, sizeof *message)) return kernel();
  const bool plain = message->msg_control == nullptr || message->msg_controllen == 0;
  const bool named = message->msg_name != nullptr && message->msg_namelen != 0;
  return SendDatagram(fd, side, message->msg_iov, message->msg_iovlen, flags,
                      named ? message->msg_name : nullptr, named ? message->msg_namelen : 0, plain,
                      KernelCall(kernel));
}

int ReceiveDatagramMessages(int fd, mmsghdr* messages, unsigned count, int flags,
                            timespec* timeout) {
  DatagramSide* side = FindDatagram(fd);
  const Interruption interruption;
  // While nothing is on a FIFO, the call is the kernel's as it is: it is one system call.
  if (side == nullptr || side->receiving.load(std::memory_order_acquire) == 0) {
    const auto kernel = [=] { return real::recvmmsg(fd, messages, count, flags, timeout); };
    if (side == nullptr || count == 0) return kernel();
    // Counted as one that sleeps; how many it brings, the count of hot sockets need not know.
    const bool waits =
        (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
    int done = 0;
    bool made = !waits;
    if (!waits) {
      done = kernel();
    } else if (BareWait::IsEnough()) {
      const BareWait wait;
      made = BareWait::IsEnough() && side->receiving.load(std::memory_order_acquire) == 0;
      if (made) done = kernel();
    }
    if (!made) {
      const DatagramSleeper sleeper(side, (flags & MSG_WAITFORONE) != 0 ? 1 : count);
      made = sleeper.MayWait();
      if (made)
        done = EndsBeforeDatagram(interruption, fd) ? ReturnToLibc(-EINTR) : Cancellable(kernel);
    }
    if (made) {
      const KeepErrno keep_errno;
      if (done > 0) DatagramsReceived(side, static_cast<uint32_t>(done));
      return done;
    }
  }
  const uint64_t limit = timeout != nullptr ? ToNs(*timeout) : 0;
  const uint64_t start = timeout != nullptr ? sys::MonotonicNs() : 0;
  unsigned done = 0;
  int one = flags & ~MSG_WAITFORONE;
  while (done < count) {
    if (!MayWrite(&messages[done], sizeof *messages))
      return done != 0 ? static_cast<int>(done) : ReturnToLibc(-EFAULT);
    side = FindDatagram(fd);
    // As the kernel: with something received a handler ends the call, whatever its flags.
    if (done != 0 && interruption.Ends(/*restarts=*/false)) one |= MSG_DONTWAIT;
    const ssize_t received =
        side != nullptr
            ? ReceiveDatagramMessage(fd, side, &messages[done].msg_hdr, one, interruption)
            : real::recvmsg(fd, &messages[done].msg_hdr, one);
    if (received < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done++].msg_len = static_cast<unsigned>(received);
    if ((flags & MSG_WAITFORONE) != 0) one |= MSG_DONTWAIT;
    // As the kernel: the time is looked at after each datagram, never while waiting for one.
    if (timeout == nullptr) continue;
    const uint64_t spent = sys::MonotonicNs() - start;
    *timeout = ToTimespec(spent < limit ? limit - spent : 0);
    if (spent >= limit) break;
  }
  return static_cast<int>(done);
}

int SendDatagramMessages(int fd, mmsghdr* messages, unsigned count, int flags) {
  DatagramSide* const first = FindDatagram(fd);
  // One call while nothing is on a FIFO.
  if (first == nullptr || first->sending.load(std::memory_order_acquire) == 0) {
    const int done = real::sendmmsg(fd, messages, count, flags);
    const KeepErrno keep_errno;
    for (int i = 0; first != nullptr && i < done; ++i) DatagramSent(first, messages[i].msg_hdr);
    return done;
  }
  if (count > IOV_MAX) count = IOV_MAX;
  unsigned done = 0;
  for (; done < count && first != nullptr; ++done) {
    if (!MayWrite(&messages[done], sizeof *messages))
      return done != 0 ? static_cast<int>(done) : ReturnToLibc(-EFAULT);
    DatagramSide* const side = FindDatagram(fd);
    const ssize_t sent = side != nullptr
                             ? SendDatagramMessage(fd, side, &messages[done].msg_hdr, flags)
                             : real::sendmsg(fd, &messages[done].msg_hdr, flags);
    if (sent < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done].msg_len = static_cast<unsigned>(sent);
  }
  return static_cast<int>(done);
}

}  // namespace xenloop
