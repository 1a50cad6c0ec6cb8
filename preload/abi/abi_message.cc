// recvmsg, sendmsg and their plural forms. The plural forms are loops over the singular ones, with
// the kernel's rules for when to stop; only sockets that we follow take that way. Ancillary data
// stays with TCP, but for what TCP_INQ asks for.
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>

#include "preload/abi/abi.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/socket/socket.h"

using namespace xenloop;

namespace {

// Whoever receives the descriptor may not have the library.
void GiveUpPassedSockets(const msghdr* message) {
  if (message == nullptr || message->msg_control == nullptr) return;
  auto* const all = const_cast<msghdr*>(message);
  for (cmsghdr* part = CMSG_FIRSTHDR(all); part != nullptr; part = CMSG_NXTHDR(all, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    if (part->cmsg_len < CMSG_LEN(0)) return;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int passed;
      memcpy(&passed, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      if (FindSide(passed) != nullptr) {
        FallBackToTcp(passed, Reason::kPassed, true);
      }
    }
  }
}

// As the kernel does: what there is no room for is cut off. `room`: of the control buffer.
void TellBytesLeft(msghdr* message, size_t room, int left) {
  size_t length = CMSG_LEN(sizeof left);
  if (message->msg_control == nullptr || room < sizeof(cmsghdr)) {
    message->msg_flags |= MSG_CTRUNC;
    return;
  }
  if (room < length) {
    message->msg_flags |= MSG_CTRUNC;
    length = room;
  }
  cmsghdr header{};
  header.cmsg_level = IPPROTO_TCP;
  header.cmsg_type = TCP_CM_INQ;
  header.cmsg_len = length;
  auto* const control = static_cast<char*>(message->msg_control);
  memcpy(control, &header, sizeof header);
  memcpy(control + sizeof header, &left, length - sizeof header);
  message->msg_controllen = room < CMSG_SPACE(sizeof left) ? room : CMSG_SPACE(sizeof left);
}

bool HasBytes(const msghdr* message) {
  return message != nullptr && IsUsable(message->msg_iov, message->msg_iovlen) &&
         !IsEmpty(message->msg_iov, message->msg_iovlen);
}

void SetToNow(timespec* time) { clock_gettime(CLOCK_MONOTONIC, time); }

// `left` becomes what `timeout` leaves of the time since `start`; false once that is nothing.
bool TimeIsLeft(const timespec& start, const timespec& timeout, timespec* left) {
  timespec now;
  SetToNow(&now);
  left->tv_sec = timeout.tv_sec - (now.tv_sec - start.tv_sec);
  left->tv_nsec = timeout.tv_nsec - (now.tv_nsec - start.tv_nsec);
  while (left->tv_nsec < 0) {
    left->tv_nsec += 1000000000;
    --left->tv_sec;
  }
  while (left->tv_nsec >= 1000000000) {
    left->tv_nsec -= 1000000000;
    ++left->tv_sec;
  }
  if (left->tv_sec < 0) *left = {0, 0};
  return left->tv_sec != 0 || left->tv_nsec != 0;
}

}  // namespace

XENLOOP_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  constexpr int kByKernel = -1;  // it has filled the message
  int message_flags = 0;
  const auto kernel = [=, &message_flags] {
    message_flags = kByKernel;
    return real::recvmsg(fd, message, flags);
  };
  if (message == nullptr || !IsUsable(message->msg_iov, message->msg_iovlen) ||
      (flags & MSG_ERRQUEUE) != 0) {
    return kernel();
  }
  const size_t room = message->msg_controllen;
  const ssize_t received =
      ReceiveOr(fd, message->msg_iov, message->msg_iovlen, flags, &message_flags, kernel);
  if (message_flags != kByKernel && received >= 0) {
    message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = message_flags;
    if (const int left = BytesLeftToTell(fd); left != kNothingToTell)
      TellBytesLeft(message, room, left);
  }
  return received;
}

XENLOOP_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  const auto kernel = [=] { return real::sendmsg(fd, message, flags); };
  if (FindSide(fd) == nullptr) {
    GiveUpPassedSockets(message);
    return kernel();
  }
  if (!HasBytes(message)) return kernel();
  if (message->msg_control != nullptr && message->msg_controllen != 0) {
    FallBackToTcp(fd, Reason::kAncillaryData, false);
  }
  return SendOr(fd, message->msg_iov, message->msg_iovlen, flags, kernel);
}

XENLOOP_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags,
                            timespec* timeout) {
  if (FindSide(fd) == nullptr || messages == nullptr || !IsUsable(timeout)) {
    return real::recvmmsg(fd, messages, count, flags, timeout);
  }
  timespec start{};
  const timespec allowed = timeout != nullptr ? *timeout : timespec{};
  if (timeout != nullptr) SetToNow(&start);
  unsigned done = 0;
  int message_flags = flags & ~MSG_WAITFORONE;
  while (done < count) {
    const ssize_t received = recvmsg(fd, &messages[done].msg_hdr, message_flags);
    if (received < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done].msg_len = static_cast<unsigned>(received);
    const bool urgent = (messages[done].msg_hdr.msg_flags & MSG_OOB) != 0;
    ++done;
    if ((flags & MSG_WAITFORONE) != 0) message_flags |= MSG_DONTWAIT;
    // As the kernel: the time is looked at after each message, never while waiting for one.
    if (timeout != nullptr && !TimeIsLeft(start, allowed, timeout)) break;
    if (urgent) break;
  }
  return static_cast<int>(done);
}

XENLOOP_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (messages == nullptr) return real::sendmmsg(fd, messages, count, flags);
  if (count > IOV_MAX) count = IOV_MAX;
  if (FindSide(fd) == nullptr) {
    for (unsigned i = 0; i < count; ++i) GiveUpPassedSockets(&messages[i].msg_hdr);
    return real::sendmmsg(fd, messages, count, flags);
  }
  unsigned done = 0;
  while (done < count) {
    const msghdr& message = messages[done].msg_hdr;
    const ssize_t sent = sendmsg(fd, &message, flags);
    if (sent < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done].msg_len = static_cast<unsigned>(sent);
    ++done;
    size_t wanted = 0;
    for (size_t i = 0; i < message.msg_iovlen; ++i) wanted += message.msg_iov[i].iov_len;
    if (static_cast<size_t>(sent) < wanted) break;  // the rest would be out of order
  }
  return static_cast<int>(done);
}
