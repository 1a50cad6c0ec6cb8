// The name of a UDP socket, in one form for sockets of both families, so that two of them can be
// compared: what a program has said in a sockaddr_in to a socket of IPv6 is the mapped address.
#pragma once

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>

#include "discovery/protocol/tuple.h"

namespace xenloop {

// As libc's calls take and give it.
struct SocketName {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  };
  socklen_t length;
  SocketName() : v6{}, length(0) {}
};

struct UdpName {
  uint64_t address[2] = {0, 0};  // bytes in network order; IPv4 as ::ffff:a.b.c.d
  uint32_t scope = 0;
  uint16_t port = 0;  // network order; 0: no name

  bool Known() const { return port != 0; }
  bool operator==(const UdpName& other) const {
    return port == other.port && scope == other.scope && address[0] == other.address[0] &&
           address[1] == other.address[1];
  }
  bool operator!=(const UdpName& other) const { return !(*this == other); }
};

inline Endpoint ToEnd(const UdpName& name) {
  Endpoint end;
  memcpy(end.address, name.address, sizeof end.address);
  end.port = ntohs(name.port);
  return end;
}

inline constexpr socklen_t kLongestSocketName = sizeof(sockaddr_in6);
inline socklen_t NameLengthOf(socklen_t said) {
  return said < kLongestSocketName ? said : kLongestSocketName;
}

// What a socket of that family understands by it; the memory can be read. Not known: the kernel
// alone knows what it means.
inline UdpName ReadUdpName(int family, const void* from, socklen_t length) {
  UdpName name;
  SocketName said;
  if (length < sizeof said.v4) return name;
  memcpy(&said.v4, from, sizeof said.v4);
  if (said.any.sa_family == AF_INET) {
    Endpoint end;
    memset(end.address, 0, 10);
    end.address[10] = end.address[11] = 0xff;
    memcpy(end.address + 12, &said.v4.sin_addr, 4);
    memcpy(name.address, end.address, sizeof name.address);
    name.port = said.v4.sin_port;
  } else if (said.any.sa_family == AF_INET6 && family == AF_INET6 && length >= sizeof said.v6) {
    memcpy(&said.v6, from, sizeof said.v6);
    memcpy(name.address, &said.v6.sin6_addr, sizeof name.address);
    name.scope = said.v6.sin6_scope_id;
    name.port = said.v6.sin6_port;
  }
  return name;
}

// As a socket of that family says it, and is told it.
inline SocketName ToSocketName(const Endpoint& end, int family) {
  SocketName name;
  if (family == AF_INET6) {
    name.v6.sin6_family = AF_INET6;
    name.v6.sin6_port = htons(end.port);
    memcpy(&name.v6.sin6_addr, end.address, sizeof name.v6.sin6_addr);
    name.length = sizeof name.v6;
  } else {
    name.v4.sin_family = AF_INET;
    name.v4.sin_port = htons(end.port);
    memcpy(&name.v4.sin_addr, end.address + 12, sizeof name.v4.sin_addr);
    name.length = sizeof name.v4;
  }
  return name;
}

// Read and written by threads of the program side by side: a name of two halves is one that nobody
// has, or somebody else's, to whom this socket then is offered. What is sent goes by a copy that
// has been made under a lock.
class AtomicUdpName {
 public:
  UdpName Load() const {
    UdpName name;
    name.address[0] = high_.load(std::memory_order_relaxed);
    name.address[1] = low_.load(std::memory_order_relaxed);
    const uint64_t rest = rest_.load(std::memory_order_relaxed);
    name.scope = static_cast<uint32_t>(rest >> 32);
    name.port = static_cast<uint16_t>(rest);
    return name;
  }
  void Store(const UdpName& name) {
    high_.store(name.address[0], std::memory_order_relaxed);
    low_.store(name.address[1], std::memory_order_relaxed);
    rest_.store(uint64_t{name.scope} << 32 | name.port, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> high_, low_, rest_;
};

}  // namespace xenloop
