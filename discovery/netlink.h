// A question to the kernel by netlink, and the first piece of its answer.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"

namespace xenloop {

// The length of the answer, or -errno. The kernel answers before the question's call returns.
inline long AskKernel(int protocol, const void* question, size_t length, uint8_t* answer,
                      size_t room) {
  const long fd = sys::MakeDescriptor(SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
  if (fd < 0) return fd;
  long result = sys::Write(static_cast<int>(fd), question, length);
  if (result > 0)
    result = sys::Call(SYS_recvfrom, fd, reinterpret_cast<long>(answer), static_cast<long>(room),
                       MSG_DONTWAIT);
  sys::Close(static_cast<int>(fd));
  return result;
}

}  // namespace xenloop
