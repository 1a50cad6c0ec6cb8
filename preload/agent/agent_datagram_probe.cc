// See agent_datagram_probe.h.
#include "preload/agent/agent_datagram_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "discovery/owner.h"
#include "preload/agent/agent_state.h"
#include "preload/settings/config.h"
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
    {IPPROTO_IP, 20, 0},    // IP_RECVORIGDSTADDR
    {IPPROTO_IP, 23, 0},    // IP_CHECKSUM
    {IPPROTO_IP, 25, 0},    // IP_RECVFRAGSIZE
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

Reason ProbeEither(int fd) {
  if (fd < 3) return Reason::kStandardStream;
  if (!Is(fd, SO_DOMAIN, AF_INET) || !Is(fd, SO_TYPE, SOCK_DGRAM) ||
      !Is(fd, SO_PROTOCOL, IPPROTO_UDP))
    return Reason::kUnknownFamily;
  if (NetnsCookieOf(fd) != agent.netns_cookie) return Reason::kOtherNamespace;
  for (const auto& option : kOptions) {
    int value = option.unset;
    if (Ask(fd, option.level, option.name, &value) == 0 && value != option.unset)
      return Reason::kDatagramOption;
  }
  int discovery = 0;
  if (Ask(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery) == 0 && discovery >= IP_PMTUDISC_DO)
    return Reason::kDatagramOption;
  if (HasFilter(fd)) return Reason::kSocketFilter;
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0 || (flags & O_ASYNC) != 0) return Reason::kSignalsSet;
  return NamesAreProof() ? Reason::kNone : Reason::kNotProvable;
}

bool NameOf(int fd, int number, sockaddr_in* name) {
  socklen_t length = sizeof *name;
  return sys::Call(number, fd, sys::Word(name), sys::Word(&length)) == 0 &&
         name->sin_family == AF_INET;
}

// Is that an address of this machine, and of one socket? From which one of ours does it get there?
bool LeadsHere(const sockaddr_in& destination, in_addr* source) {
  const uint32_t address = ntohl(destination.sin_addr.s_addr);
  if (address == 0 || address >> 28 >= 14) return false;  // multicast and beyond
  const long fd = sys::MakeDescriptor(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_in name = destination;
  name.sin_port = 0;
  const long bound = sys::Call(SYS_bind, fd, sys::Word(&name), sizeof name);
  sys::Close(static_cast<int>(fd));
  const long other = sys::MakeDescriptor(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (bound != 0 || other < 0) {
    if (other >= 0) sys::Close(static_cast<int>(other));
    return false;
  }
  // A broadcast address is refused here.
  const bool reached =
      sys::Call(SYS_connect, other, sys::Word(&destination), sizeof destination) == 0 &&
      NameOf(static_cast<int>(other), SYS_getsockname, &name);
  sys::Close(static_cast<int>(other));
  *source = name.sin_addr;
  return reached;
}

}  // namespace

Endpoint ToEnd(const sockaddr_in& name) {
  sockaddr_storage storage{};
  memcpy(&storage, &name, sizeof name);
  Endpoint end;
  ToEndpoint(storage, &end);
  return end;
}

// Its second half is no address of anybody.
Tuple HintOf(const Endpoint& name) {
  static constexpr char kMark[17] = "xenloop datagram";
  Tuple tuple;
  tuple.local = name;
  memcpy(tuple.peer.address, kMark, sizeof tuple.peer.address);
  return tuple;
}
Endpoint AnyAddress(uint16_t port) {
  sockaddr_storage any{};
  any.ss_family = AF_INET;
  Endpoint name;
  ToEndpoint(any, &name);
  name.port = port;
  return name;
}

bool NamesAreProof() {
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

bool IsHeldBy(const Talk& talk, uint64_t fd, const Endpoint& from, const Endpoint& to) {
  DatagramSocket socket;
  return fd <= INT32_MAX && ReceiverOfDatagrams(Tuple{from, to}, &socket) == 0 &&
         socket.uid == talk.uid &&
         HasSocketAt(talk.kernel_pid, static_cast<uint32_t>(fd), socket.inode);
}

sockaddr_in ToSocketName(const Endpoint& end) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  memcpy(&name.sin_addr, end.address + 12, sizeof name.sin_addr);
  name.sin_port = htons(end.port);
  return name;
}

Reason ProbeDatagramSender(int fd, DatagramSide* side, DatagramEnds* ends) {
  const Reason obstacle = ProbeEither(fd);
  if (obstacle != Reason::kNone) return obstacle;
  const uint64_t word = side->destination.load(std::memory_order_relaxed);
  sockaddr_in source{};
  sockaddr_in peer{};
  if (word == 0 || !NameOf(fd, SYS_getsockname, &source) || source.sin_port == 0)
    return Reason::kNotHotYet;
  const sockaddr_in destination = NameOfWord(word);
  ends->connected = NameOf(fd, SYS_getpeername, &peer);
  if (ends->connected != (side->connected.load(std::memory_order_relaxed) != 0) ||
      (ends->connected && NameWord(peer) != word))
    return Reason::kPeerChanged;
  in_addr from_here{};
  if (!LeadsHere(destination, &from_here)) return Reason::kNotHere;
  if (source.sin_addr.s_addr == 0) source.sin_addr = from_here;
  ends->source = ToEnd(source);
  ends->destination = ToEnd(destination);
  ends->destination_word = word;
  if (SameEndpoint(ends->source, ends->destination)) return Reason::kSelfConnected;
  return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->destination},
                               RuleProtocol::kUdp);
}

Reason ProbeDatagramReceiver(int fd, DatagramSide* side, DatagramEnds* ends) {
  const Reason obstacle = ProbeEither(fd);
  if (obstacle != Reason::kNone) return obstacle;
  sockaddr_in name{};
  sockaddr_in peer{};
  if (!NameOf(fd, SYS_getsockname, &name) || name.sin_port == 0) return Reason::kNotHotYet;
  ends->source = ToEnd(name);
  ends->connected = NameOf(fd, SYS_getpeername, &peer);
  if (ends->connected) {
    ends->destination = ToEnd(peer);
    return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->destination},
                                 RuleProtocol::kUdp);
  }
  // Nobody may come who is more specific, or as specific and later.
  if (side->shares.load(std::memory_order_relaxed) != 0 || !Is(fd, SO_REUSEADDR, 0) ||
      !Is(fd, SO_REUSEPORT, 0))
    return Reason::kPortShared;
  return RuleAgainstConnection(GetConfig().rules, Tuple{ends->source, ends->source},
                               RuleProtocol::kUdp);
}

}  // namespace xenloop
