// recvmsg, sendmsg and their plural forms. What is sent goes to socket/message.h in any case: it
// may carry sockets of ours.
#include "preload/abi/abi_message.h"

#include "preload/abi/abi.h"
#include "preload/side/fd_table.h"
#include "preload/socket/datagram.h"
#include "preload/socket/message.h"

using namespace xenloop;

XENLOOP_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  Side* const side = FindSide(fd);
  if (side == nullptr) {
    DatagramSide* const datagrams = FindDatagram(fd);
    return datagrams != nullptr
               ? ReceiveDatagramMessage(fd, datagrams, message, flags)
               : ReceivedBy(fd, message, flags, [=] { return real::recvmsg(fd, message, flags); });
  }
  return ReceiveMessage(fd, side, message, flags);
}

XENLOOP_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  DatagramSide* const datagrams = FindDatagram(fd);
  if (datagrams != nullptr) return SendDatagramMessage(fd, datagrams, message, flags);
  BeforeCallOn(fd);
  return SendMessage(fd, FindSide(fd), message, flags);
}

XENLOOP_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags,
                            timespec* timeout) {
  Side* const side = FindSide(fd);
  if (FindDatagram(fd) != nullptr && IsUsable(timeout))
    return ReceiveDatagramMessages(fd, messages, count, flags, timeout);
  if (side == nullptr || !IsUsable(timeout)) {
    return ReceivedBy(fd, messages, flags,
                      [=] { return real::recvmmsg(fd, messages, count, flags, timeout); });
  }
  return ReceiveMessages(fd, side, messages, count, flags, timeout);
}

XENLOOP_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (FindDatagram(fd) != nullptr) return SendDatagramMessages(fd, messages, count, flags);
  BeforeCallOn(fd);
  return SendMessages(fd, FindSide(fd), messages, count, flags);
}
