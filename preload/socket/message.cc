// See message.h. Ancillary data stays with TCP, but for what TCP_INQ asks for.
#include "preload/socket/message.h"

#include <netinet/tcp.h>
#include <string.h>

#include "preload/libc/program_memory.h"
#include "preload/libc/real.h"
#include "preload/side/each_side.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/socket/passing.h"
#include "preload/socket/socket.h"
#include "preload/socket/transfer.h"

namespace xenloop {

namespace {

// As the kernel does: what there is no room for is cut off. `room`: of the control buffer.
void TellBytesLeft(msghdr* message, size_t room, int left) {
  size_t length = CMSG_LEN(sizeof left);
  if (message->msg_control == nullptr || room < sizeof(cmsghdr) ||
      !MayWrite(message->msg_control, room < length ? room : length)) {
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
  return MayRead(message, sizeof *message) && IsUsable(message->msg_iov, message->msg_iovlen) &&
         !IsEmpty(message->msg_iov, message->msg_iovlen);
}

// What a plural form returns that cannot go on: an error only if it has done nothing yet.
int Ended(unsigned done, ssize_t error) {
  return static_cast<int>(done != 0 ? static_cast<ssize_t>(done) : ReturnToLibc(error));
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

// In a doubt, when a message can take along epoll sets at the most, of which none has anything of
// ours: no pointer can be asked about, but the kernel says EFAULT first. (A side of our parent's
// must be on TCP before it leaves.)
bool LooksAfterwards() {
  bool sides = false;
  if (process_state.in_doubt) EachDescriptor([&sides](int, const Side*) { sides = true; });
  return process_state.in_doubt && !sides;
}

}  // namespace

int MessageFlags(int fd, int flags) {
  constexpr int kMeaningless = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND;  // on a socket
  if ((flags & ~(kMeaningless | RWF_NOWAIT)) != 0)
    FallBackToTcp(fd, Reason::kVectorFlags, TcpFor::kNow, NextWriter::kOurs);
  return (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0;
}

ssize_t ReceiveMessage(int fd, Side* side, msghdr* message, int flags) {
  constexpr int kByKernel = -1;  // it has filled the message
  int message_flags = 0;
  const auto kernel = [=, &message_flags] {
    message_flags = kByKernel;
    return real::recvmsg(fd, message, flags);
  };
  if (!MayWrite(message, sizeof *message)) return ReturnToLibc(-EFAULT);
  if (!IsUsable(message->msg_iov, message->msg_iovlen)) return kernel();
  const size_t room = message->msg_controllen;
  const ssize_t received =
      ReceiveOr(fd, side, message->msg_iov, message->msg_iovlen, flags, &message_flags, kernel);
  if (message_flags != kByKernel && received >= 0) {
    message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = message_flags;
    Side* const now = FindSide(fd);
    const int left = now != nullptr ? BytesLeftToTell(fd, now) : kNothingToTell;
    if (left != kNothingToTell) TellBytesLeft(message, room, left);
  }
  return received;
}

ssize_t SendMessage(int fd, Side* side, const msghdr* message, int flags) {
  const auto kernel = [=] { return real::sendmsg(fd, message, flags); };
  if (side == nullptr) {
    if (FdTable::End() == 0) return kernel();
    if (LooksAfterwards()) {
      const ssize_t sent = kernel();
      if (sent >= 0) BeforePassing(message);
      return sent;
    }
    Passing passing;
    passing.Begin(fd, message);
    const ssize_t sent = kernel();
    if (sent > 0) return sent;
    const KeepErrno keep_errno;
    if (sent < 0 || passing.IsLostWithoutBytes(fd)) passing.Undo();
    return sent;
  }
  if (!HasBytes(message)) return kernel();
  if (message->msg_control != nullptr && message->msg_controllen != 0) {
    FallBackToTcp(fd, Reason::kAncillaryData, TcpFor::kNow, NextWriter::kOurs);
  }
  return SendOr(fd, side, message->msg_iov, message->msg_iovlen, flags, kernel);
}

int ReceiveMessages(int fd, Side* side, mmsghdr* messages, unsigned count, int flags,
                    timespec* timeout) {
  timespec start{};
  const timespec allowed = timeout != nullptr ? *timeout : timespec{};
  if (timeout != nullptr) SetToNow(&start);
  unsigned done = 0;
  int message_flags = flags & ~MSG_WAITFORONE;
  for (; done < count; side = FindSide(fd)) {
    if (!MayWrite(&messages[done], sizeof *messages)) return Ended(done, -EFAULT);
    const ssize_t received = ReceiveMessage(fd, side, &messages[done].msg_hdr, message_flags);
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

int SendMessages(int fd, Side* side, mmsghdr* messages, unsigned count, int flags) {
  if (count > IOV_MAX) count = IOV_MAX;
  if (side == nullptr) {
    const auto look = [=](unsigned end) {
      for (unsigned i = 0; i < end && FdTable::End() != 0; ++i) BeforePassing(&messages[i].msg_hdr);
    };
    const bool afterwards = LooksAfterwards();
    if (!afterwards) look(count);
    const int sent = real::sendmmsg(fd, messages, count, flags);
    if (afterwards && sent > 0) look(static_cast<unsigned>(sent));
    return sent;
  }
  unsigned done = 0;
  for (; done < count; side = FindSide(fd)) {
    if (!MayWrite(&messages[done], sizeof *messages)) return Ended(done, -EFAULT);
    const msghdr& message = messages[done].msg_hdr;
    const ssize_t sent = SendMessage(fd, side, &message, flags);
    if (sent < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done].msg_len = static_cast<unsigned>(sent);
    ++done;
    size_t wanted = 0;
    for (size_t i = 0; i < message.msg_iovlen; ++i) wanted += message.msg_iov[i].iov_len;
    if (static_cast<size_t>(sent) < wanted) break;  // the rest would be out of order
  }
  return static_cast<int>(done);
}

}  // namespace xenloop
