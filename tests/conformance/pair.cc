// Makes the pairs: listen, connect, accept, then the upgrade that the mode asks for and a first
// byte in each direction.

#include "tests/conformance/pair.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace conformance {

int Address::port() const {
  return ntohs(family() == AF_INET ? reinterpret_cast<const sockaddr_in*>(&storage)->sin_port
                                   : reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
}

void Address::set_port(int port) {
  const auto network_port = htons(static_cast<uint16_t>(port));
  if (family() == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&storage)->sin_port = network_port;
  } else {
    reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port = network_port;
  }
}

std::string Address::text() const {
  char buffer[INET6_ADDRSTRLEN] = "?";
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, buffer,
              sizeof(buffer));
  } else {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, buffer,
              sizeof(buffer));
  }
  return std::string(buffer) + " port " + std::to_string(port());
}

Address Loopback(int family, int port) {
  Address address;
  if (family == AF_INET) {
    auto* name = reinterpret_cast<sockaddr_in*>(&address.storage);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.length = sizeof(*name);
  } else {
    auto* name = reinterpret_cast<sockaddr_in6*>(&address.storage);
    name->sin6_family = AF_INET6;
    name->sin6_addr = in6addr_loopback;
    address.length = sizeof(*name);
  }
  address.set_port(port);
  return address;
}

Address LocalName(int fd) {
  Address address;
  address.length = sizeof(address.storage);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length), 0);
  return address;
}

Address RemoteName(int fd) {
  Address address;
  address.length = sizeof(address.storage);
  EXPECT_EQ(getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length), 0);
  return address;
}

FileDescriptor ListenOn(const Address& address, int backlog) {
  FileDescriptor listener(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(Call(bind(listener.get(), address.get(), address.length)), Done(0)) << address.text();
  EXPECT_EQ(Call(listen(listener.get(), backlog)), Done(0));
  return listener;
}

std::vector<Variant> Possible(std::initializer_list<int> numbers) {
  std::vector<Variant> possible;
  for (const int number : numbers) {
    if (!PeerHasItsOwnNamespace() || kVariants[number].peer == Place::kProcess)
      possible.push_back(kVariants[number]);
  }
  return possible;
}

std::unique_ptr<ConnectedPair> ConnectedPair::Make(const Variant& variant) {
  Address address = Loopback(variant.family);
  if (PeerHasItsOwnNamespace()) {
    // two_namespaces.sh: 10.71.0.1 and fd71::1 are the test's, .2 and ::2 the peer's.
    const int last = variant.peer_connects ? 1 : 2;
    if (variant.family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(&address.storage)->sin_addr.s_addr = htonl(0x0a470000 + last);
    } else {
      auto* name = reinterpret_cast<sockaddr_in6*>(&address.storage);
      inet_pton(AF_INET6, last == 1 ? "fd71::1" : "fd71::2", &name->sin6_addr);
    }
  }
  return Make(variant, address, address);
}

std::unique_ptr<ConnectedPair> ConnectedPair::Make(const Variant& variant, const Address& listen_on,
                                                   Address connect_to) {
  // A socket belongs to the namespace in which it was made.
  if (!variant.peer_connects) EnterPeerNamespace(true);
  const FileDescriptor listener = ListenOn(listen_on);
  if (!variant.peer_connects) EnterPeerNamespace(false);
  connect_to.set_port(LocalName(listener.get()).port());
  std::unique_ptr<ConnectedPair> pair(new ConnectedPair());
  PeerStart start;
  if (variant.peer_connects) {
    start.address = connect_to.storage;
    start.address_length = connect_to.length;
  } else {
    start.listener = listener.get();
  }
  pair->peer_ = std::make_unique<Peer>(variant.peer, start);
  int fd = -1;
  if (variant.peer_connects) {
    fd = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
    EXPECT_GE(fd, 0) << strerror(errno);
  } else {
    fd = socket(connect_to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(Call(connect(fd, connect_to.get(), connect_to.length)), Done(0));
  }
  pair->fd_ = FileDescriptor(fd);
  KeepFromPeers(fd);
  const Reply connected = pair->peer_->WaitForConnection();
  EXPECT_GE(connected.result, 0) << "the peer: " << strerror(connected.error);
  if (fd < 0 || connected.result < 0) return nullptr;
  return pair->Prepare(variant) ? std::move(pair) : nullptr;
}

bool ConnectedPair::Prepare(const Variant& variant) {
  // Without it many tests would wait 40 ms for a delayed acknowledgement; connect_test and
  // listener_test have connections with the default.
  const int on = 1;
  EXPECT_EQ(setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
  peer().SetOption(IPPROTO_TCP, TCP_NODELAY, 1);
  if (variant.asks != Asks::kPeer && !UpgradeIfWanted(fd())) {
    ADD_FAILURE() << "no upgrade at the test's end: " << strerrorname_np(errno);
    return false;
  }
  // Else the agents would do it by themselves, in the middle of a test.
  const bool settles = CurrentMode() == Mode::kLocal || CurrentMode() == Mode::kParked;
  if (variant.asks == Asks::kPeer || (variant.asks == Asks::kBoth && settles)) {
    const Reply reply = peer().Do(Op::kUpgrade);
    if (reply.result != 0) {
      ADD_FAILURE() << "no upgrade at the peer's end: " << strerrorname_np(reply.error);
      return false;
    }
  }
  const Stopwatch stopwatch;
  for (;;) {
    Send(1);
    peer().Receive(1);
    peer().Send(1);
    Receive(1);
    if (!settles) return true;
    const int both = kSendsByFifo | kReceivesFromFifo;
    const int here = Routes(fd());
    const int there = static_cast<int>(peer().Do(Op::kRoutes).result);
    if (here == both && there == both) return true;
    if (stopwatch.ElapsedMs() > 2000) {
      ADD_FAILURE() << "not on FIFOs: routes here " << here << ", at the peer " << there
                    << " (1 sends, 2 receives)";
      return false;
    }
    poll(nullptr, 0, 1);
  }
}

ConnectedPair::~ConnectedPair() {
  if (fd() >= 0) {
    if (CurrentMode() == Mode::kRefused) {
      EXPECT_LE(Routes(fd()), 0) << "accelerated in spite of refused offers";
    }
    shutdown(fd(), SHUT_RDWR);  // ends the peer's call even if a copy of the descriptor is left
  }
  Close();
}

int ConnectedPair::Close() {
  ForgetKept(fd());
  return fd_.Close();
}

void ConnectedPair::Send(size_t total, Chunks chunks) {
  const Transferred result = SendBytes(fd(), &sent, total, chunks);
  EXPECT_EQ(result.bytes, total);
  EXPECT_EQ(result.error, 0) << strerrorname_np(result.error);
}

void ConnectedPair::Receive(size_t total, Chunks chunks) {
  const Transferred result = ReceiveBytes(fd(), &received, total, chunks);
  EXPECT_EQ(result.bytes, total);
  EXPECT_EQ(result.error, 0) << strerrorname_np(result.error);
}

void ConnectedPair::ReceiveEndOfStream() {
  char byte;
  EXPECT_EQ(Call(recv(fd(), &byte, 1, 0)), Done(0));
}

void ConnectedPair::ExpectBothWaysWork(size_t bytes) {
  peer().Start(Op::kExchange, bytes);
  const Transferred result = ExchangeBytes(fd(), &sent, &received, bytes);
  EXPECT_EQ(result.bytes, bytes);
  EXPECT_EQ(result.error, 0) << strerrorname_np(result.error);
  peer().ExpectMoved(bytes);
}

void ConnectedPair::ExpectOnFifos() {
  if (CurrentMode() != Mode::kLocal) return;
  EXPECT_EQ(Routes(fd()), kSendsByFifo | kReceivesFromFifo) << "fell back silently";
}

}  // namespace conformance
