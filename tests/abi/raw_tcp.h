// What the kernel says of a TCP socket, asked by a call that no library sees: whether bytes have
// gone past TCP.
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

// Bytes that this end has received by TCP, or -1.
static inline int64_t RawBytesReceived(int fd) {
  struct {
    uint8_t before[128];
    int64_t bytes_received;  // as in the kernel's tcp_info
    uint8_t after[128];
  } info = {{0}, 0, {0}};
  unsigned length = sizeof info;
  long result = SYS_getsockopt;
  register void* value __asm__("r10") = &info;
  register unsigned* size __asm__("r8") = &length;
  enum { kTcpInfo = 11 };
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"((long)fd), "S"((long)IPPROTO_TCP), "d"((long)kTcpInfo), "r"(value),
                     "r"(size)
                   : "rcx", "r11", "memory");
  return result == 0 ? info.bytes_received : -1;
}
