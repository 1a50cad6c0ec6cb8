// A TCP connection as one of its ends sees it, in one form for IPv4 and IPv6 (IPv4 is v4-mapped).
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace xenloop {

struct Endpoint {
  uint8_t address[16] = {};  // network order; IPv4 as ::ffff:a.b.c.d
  uint16_t port = 0;         // host order

  bool IsV4() const {
    static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(address, kMapped, 12) == 0;
  }
};

struct Tuple {
  Endpoint local;
  Endpoint peer;
};

inline bool SameEndpoint(const Endpoint& a, const Endpoint& b) {
  return a.port == b.port && memcmp(a.address, b.address, 16) == 0;
}
inline bool SameTuple(const Tuple& a, const Tuple& b) {
  return SameEndpoint(a.local, b.local) && SameEndpoint(a.peer, b.peer);
}
inline Tuple Reversed(const Tuple& tuple) { return Tuple{tuple.peer, tuple.local}; }

// The end that makes the offer: of two ends of a connection exactly one says true.
inline bool MakesTheOffer(const Tuple& tuple) {
  if (tuple.local.port != tuple.peer.port) return tuple.local.port < tuple.peer.port;
  return memcmp(tuple.local.address, tuple.peer.address, 16) < 0;
}

inline bool ToEndpoint(const sockaddr_storage& from, Endpoint* to) {
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    memset(to->address, 0, 10);
    to->address[10] = to->address[11] = 0xff;
    memcpy(to->address + 12, &v4.sin_addr, 4);
    to->port = ntohs(v4.sin_port);
    return true;
  }
  if (from.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    memcpy(to->address, &v6.sin6_addr, 16);
    to->port = ntohs(v6.sin6_port);
    return true;
  }
  return false;
}

// FNV-1a with a final mix: spreads neighbouring ports; not a secret, hints are verified anyway.
inline uint64_t HashOf(const Tuple& tuple) {
  uint64_t hash = 0xcbf29ce484222325ull;
  const auto add = [&hash](const uint8_t* bytes, size_t n) {
    for (size_t i = 0; i < n; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
  };
  for (const Endpoint* end : {&tuple.local, &tuple.peer}) {
    add(end->address, 16);
    const uint8_t port[2] = {static_cast<uint8_t>(end->port >> 8), static_cast<uint8_t>(end->port)};
    add(port, 2);
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdull;
  return hash ^ (hash >> 33);
}

}  // namespace xenloop
