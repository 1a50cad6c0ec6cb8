// A listener of the programs that hold or fork both ends of a connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

// On 127.0.0.1, at a port that the kernel chooses and that stands in *address; -1 with errno.
static inline int ListenOnLoopback(struct sockaddr_in* address) {
  socklen_t length = sizeof *address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  memset(address, 0, sizeof *address);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int good = listener >= 0 && bind(listener, (struct sockaddr*)address, length) == 0 &&
                   listen(listener, 1) == 0 &&
                   getsockname(listener, (struct sockaddr*)address, &length) == 0;
  return good ? listener : -1;
}
