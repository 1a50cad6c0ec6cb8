// See agent_datagram_probe.h.
#include "preload/agent/agent_datagram_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "channel/base/descriptor.h"
#include "discovery/owner.h"
#include "discovery/tracking.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_asks.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

// Each asks the kernel for more than datagrams, or changes which come or how they are sent; and
// what getsockopt says of a socket that nobody has set it on. Numbers where the headers are older.
constexpr struct {
  int level, name, unset;
} kOptions[] = {
    {SOL_SOCKET, 29, 0},  // SO_TIMESTAMP
    {SOL_SOCKET, 35, 0},  // SO_TIMESTAMPNS
    {SOL_SOCKET, 37, 0},  // SO_TIMESTAMPING
    {SOL_SOCKET, 63, 0},  // the same for times after 2038
    {SOL_SOCKET, 64, 0},
    {SOL_SOCKET, 65, 0},
    {SOL_SOCKET, 40, 0},   // SO_RXQ_OVFL
    {SOL_SOCKET, 42, -1},  // SO_PEEK_OFF
    {SOL_SOCKET, 60, 0},   // SO_ZEROCOPY
    {SOL_SOCKET, 62, 0},   // SO_BINDTOIFINDEX
    {SOL_SOCKET, 75, 0},   // SO_RCVMARK
    {SOL_SOCKET, 82, 0},   // SO_RCVPRIORITY
    {SOL_SOCKET, SO_MARK, 0},
    {SOL_SOCKET, SO_DONTROUTE, 0},
    {IPPROTO_IP, 6, 0},  // IP_RECVOPTS
    {IPPROTO_IP, 7, 0},  // IP_RETOPTS
    {IPPROTO_IP, IP_PKTINFO, 0},
    {IPPROTO_IP, IP_RECVERR, 0},
    {IPPROTO_IP, IP_RECVTTL, 0},
    {IPPROTO_IP, IP_RECVTOS, 0},
    {IPPROTO_IP, 18, 0},  // IP_PASSSEC
    {IPPROTO_IP, IP_TRANSPARENT, 0},
    {IPPROTO_IP, 20, 0},   // IP_RECVORIGDSTADDR
    {IPPROTO_IP, 23, 0},   // IP_CHECKSUM
    {IPPROTO_IP, 25, 0},   // IP_RECVFRAGSIZE
    {IPPROTO_IPV6, 2, 0},  // IPV6_2292PKTINFO and its like of RFC 2292
    {IPPROTO_IPV6, 3, 0},
    {IPPROTO_IPV6, 4, 0},
    {IPPROTO_IPV6, 5, 0},
    {IPPROTO_IPV6, 8, 0},
    {IPPROTO_IPV6, 11, 0},  // IPV6_FLOWINFO
    {IPPROTO_IPV6, 25, 0},  // IPV6_RECVERR
    {IPPROTO_IPV6, 33, 0},  // IPV6_FLOWINFO_SEND
    {IPPROTO_IPV6, 49, 0},  // IPV6_RECVPKTINFO
    {IPPROTO_IPV6, 51, 0},  // IPV6_RECVHOPLIMIT
    {IPPROTO_IPV6, 53, 0},  // IPV6_RECVHOPOPTS
    {IPPROTO_IPV6, 56, 0},  // IPV6_RECVRTHDR
    {IPPROTO_IPV6, 58, 0},  // IPV6_RECVDSTOPTS
    {IPPROTO_IPV6, 60, 0},  // IPV6_RECVPATHMTU
    {IPPROTO_IPV6, 62, 0},  // IPV6_DONTFRAG
    {IPPROTO_IPV6, 66, 0},  // IPV6_RECVTCLASS
    {IPPROTO_IPV6, 74, 0},  // IPV6_RECVORIGDSTADDR
    {IPPROTO_IPV6, 75, 0},  // IPV6_TRANSPARENT
    {IPPROTO_IPV6, 77, 0},  // IPV6_RECVFRAGSIZE
    {IPPROTO_UDP, 1, 0},    // UDP_CORK
    {IPPROTO_UDP, 100, 0},  // UDP_ENCAP
    {IPPROTO_UDP, 103, 0},  // UDP_SEGMENT
    {IPPROTO_UDP, 104, 0},  // UDP_GRO
};

long Ask(int fd, int level, int name, int* value) {
  socklen_t length = sizeof *value;
  return sys::Call(SYS_getsockopt, fd, level, name, sys::Word(value), sys::Word(&length));
}
bool Is(int fd, int name, int expected) {
  int value = ~expected;
  return Ask(fd, SOL_SOCKET, name, &value) == 0 && value == expected;
}

bool HasFilter(int fd) {
  uint32_t instructions = 0;
  const long result =
      sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_GET_FILTER, 0, sys::Word(&instructions));
  return result == -EACCES || (result == 0 && instructions != 0);
}

Reason ProbeEither(int fd, int family, bool by_agent) {
  if (fd < 3) return Reason::kStandardStream;
  if (!Is(fd, SO_DOMAIN, family) || !Is(fd, SO_TYPE, SOCK_DGRAM) ||
      !Is(fd, SO_PROTOCOL, IPPROTO_UDP))
    return Reason::kUnknownFamily;
  if (by_agent && NetnsCookieOf(fd) != agent.netns_cookie) return Reason::kOtherNamespace;
  for (const auto& option : kOptions) {
    int value = option.unset;
    if (Ask(fd, option.level, option.name, &value) == 0 && value != option.unset)
      return Reason::kDatagramOption;
  }
  if (HasFilter(fd)) return Reason::kSocketFilter;
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0 || (flags & O_ASYNC) != 0) return Reason::kSignalsSet;
  return Reason::kNone;
}

// SYS_getsockname, SYS_getpeername.
bool NameOf(int fd, int number, UdpName* name) {
  SocketName said;
  said.length = sizeof said.v6;
  if (sys::Call(number, fd, sys::Word(&said.v6), sys::Word(&said.length)) != 0) return false;
  *name = ReadUdpName(said.any.sa_family, &said.v6, said.length);
  return name->Known();
}

// Multicast, or an address that means another one on each network card.
bool IsNoHost(const Endpoint& end) {
  if (IsAnyAddress(end)) return true;
  if (end.IsV4()) return end.address[12] >> 4 >= 14;
  return end.address[0] == 0xff || (end.address[0] == 0xfe && end.address[1] >> 6 == 2);
}

struct Way {
  UdpName source;  // from which address of ours does it get there?
  int mtu = 0;
};
// Is that an address of this machine, and of one socket?
bool LeadsHere(const Endpoint& destination, Way* way) {
  if (IsNoHost(destination)) return false;
  const int family = destination.IsV4() ? AF_INET : AF_INET6;
  const long fd = sys::MakeDescriptor(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  Endpoint address = destination;
  address.port = 0;
  const SocketName here = ToSocketName(address, family);
  const long bound = sys::Call(SYS_bind, fd, sys::Word(&here.v6), here.length);
  sys::Close(static_cast<int>(fd));
  const long other = sys::MakeDescriptor(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (bound != 0 || other < 0) {
    if (other >= 0) sys::Close(static_cast<int>(other));
    return false;
  }
  // A broadcast address is refused here.
  const SocketName there = ToSocketName(destination, family);
  const bool reached =
      sys::Call(SYS_connect, other, sys::Word(&there.v6), there.length) == 0 &&
      NameOf(static_cast<int>(other), SYS_getsockname, &way->source) &&
      (family == AF_INET ? Ask(static_cast<int>(other), IPPROTO_IP, 14, &way->mtu)     // IP_MTU
                         : Ask(static_cast<int>(other), IPPROTO_IPV6, 24, &way->mtu))  // IPV6_MTU
          == 0;
  sys::Close(static_cast<int>(other));
  return reached;
}

// A datagram that is too long for the way is refused, or goes as it is: no matter where none is.
bool MayBeTooLong(int fd, const Endpoint& destination, const Way& way) {
  constexpr int kLongest = 65535;
  int discovery = 0;
  const bool asked = destination.IsV4() ? Ask(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery) == 0
                                        : Ask(fd, IPPROTO_IPV6, 23, &discovery) == 0;
  return asked && discovery >= IP_PMTUDISC_DO && way.mtu < kLongest;
}

}  // namespace

Tuple HintOf(const Endpoint& name) { return NameHint("xenloop datagram", name); }
Endpoint AnyAddress(uint16_t port) {
  Endpoint name;
  name.address[10] = name.address[11] = 0xff;
  name.port = port;
  return name;
}
bool IsAnyAddress(const Endpoint& name) {
  return SameEndpoint(name, AnyAddress(name.port)) || SameEndpoint(name, Endpoint{{}, name.port});
}

bool IsAnyOf(const DatagramEnds& ends, const Endpoint& name) {
  return IsAnyAddress(ends.source) &&
         (ends.source.IsV4() ? name.IsV4() : !ends.ipv6_only || !name.IsV4());
}

namespace {
bool IsNothingTracked() {
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD,
                                      sys::Word("/proc/sys/net/netfilter/nf_conntrack_count"),
                                      O_RDONLY | O_CLOEXEC);
  if (fd == -ENOENT) return true;
  if (fd < 0) return false;
  char text[8] = {};
  const ssize_t n = sys::Read(static_cast<int>(fd), text, sizeof text - 1);
  sys::Close(static_cast<int>(fd));
  return n == 2 && text[0] == '0' && text[1] == '\n';
}
}  // namespace

bool NamesAreProof(const Talk& talk, const Tuple& tuple) {
  return IsNothingTracked() || IsTrackedUntranslated(tuple) || (talk.uid == 0 && agent.uid != 0);
}

bool IsHeldBy(const Talk& talk, uint64_t fd, const Endpoint& from, const Endpoint& to,
              uint32_t* inode) {
  DatagramSocket socket;
  const bool is_held = fd <= INT32_MAX && ReceiverOfDatagrams(Tuple{from, to}, &socket) == 0 &&
                       socket.uid == talk.uid &&
                       HasSocketAt(talk.kernel_pid, static_cast<uint32_t>(fd), socket.inode);
  if (inode != nullptr) *inode = socket.inode;
  return is_held;
}

Reason ProbeDatagramSender(int fd, DatagramSide* side, DatagramEnds* ends, bool by_agent) {
  const AgentAsks asks(fd, by_agent);
  if (!asks.May()) return Reason::kNotHotYet;
  const Reason obstacle = ProbeEither(fd, side->family, by_agent);
  if (obstacle != Reason::kNone) return obstacle;
  const UdpName destination = side->destination.Load();
  UdpName source;
  UdpName peer;
  if (!destination.Known() || !NameOf(fd, SYS_getsockname, &source)) return Reason::kNotHotYet;
  ends->connected = NameOf(fd, SYS_getpeername, &peer);
  if (ends->connected != (side->connected.load(std::memory_order_relaxed) != 0) ||
      (ends->connected && peer != destination))
    return Reason::kPeerChanged;
  ends->source = ToEnd(source);
  ends->destination = ToEnd(destination);
  ends->destination_name = destination;
  Way way;
  if (!LeadsHere(ends->destination, &way)) return Reason::kNotHere;
  if (MayBeTooLong(fd, ends->destination, way)) return Reason::kDatagramOption;
  if (IsAnyAddress(ends->source))
    memcpy(ends->source.address, way.source.address, sizeof ends->source.address);
  if (SameEndpoint(ends->source, ends->destination)) return Reason::kSelfConnected;
  return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->destination},
                               RuleProtocol::kUdp);
}

Reason ProbeDatagramReceiver(int fd, DatagramSide* side, DatagramEnds* ends, bool by_agent) {
  const AgentAsks asks(fd, by_agent);
  if (!asks.May()) return Reason::kNotHotYet;
  const Reason obstacle = ProbeEither(fd, side->family, by_agent);
  if (obstacle != Reason::kNone) return obstacle;
  UdpName name;
  UdpName peer;
  if (!NameOf(fd, SYS_getsockname, &name)) return Reason::kNotHotYet;
  ends->source = ToEnd(name);
  ends->connected = NameOf(fd, SYS_getpeername, &peer);
  int ipv6_only = 0;
  ends->ipv6_only = Ask(fd, IPPROTO_IPV6, IPV6_V6ONLY, &ipv6_only) == 0 && ipv6_only != 0;
  // Nobody may come who is as specific and later, or more so: also a connected socket is taken over
  // by one that shares its port and is connected to the same.
  if (side->shares.load(std::memory_order_relaxed) != 0 || !Is(fd, SO_REUSEADDR, 0) ||
      !Is(fd, SO_REUSEPORT, 0))
    return Reason::kPortShared;
  if (ends->connected) {
    ends->destination = ToEnd(peer);
    return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->destination},
                                 RuleProtocol::kUdp);
  }
  return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->source},
                               RuleProtocol::kUdp);
}

}  // namespace xenloop
