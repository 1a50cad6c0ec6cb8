// recvmsg and recvmmsg of what is no side, by whatever call: the messages may bring sockets.
#pragma once

#include "preload/libc/errno.h"
#include "preload/side/lowest_number.h"
#include "preload/socket/passing.h"

namespace xenloop {

template <class KernelCall>
inline auto ReceivedBy(int fd, const msghdr* message, int flags, KernelCall kernel)
    -> decltype(kernel()) {
  BeforeCallOn(fd);
  const auto received = kernel();
  if (received >= 0) {
    const KeepErrno keep_errno;
    AfterReceiving(fd, message, flags);
  }
  return received;
}

template <class KernelCall>
inline auto ReceivedBy(int fd, const mmsghdr* messages, int flags, KernelCall kernel)
    -> decltype(kernel()) {
  BeforeCallOn(fd);
  const auto received = kernel();
  const KeepErrno keep_errno;
  for (int i = 0; i < static_cast<int>(received); ++i)
    AfterReceiving(fd, &messages[i].msg_hdr, flags);
  return received;
}

}  // namespace xenloop
