// UDP sockets of a test: made, named and used in one line each. The tests that use them say what
// the kernel does with datagrams, whoever carries them.

#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"

namespace conformance {

// A kind of socket, and by which address it is reached.
struct UdpFamily {
  const char* name;
  int domain;
  const char* loopback;
  size_t longest;  // of its datagrams
};
inline constexpr UdpFamily kUdpFamilies[] = {{"ipv4", AF_INET, "127.0.0.1", 65507},
                                             {"ipv6", AF_INET6, "::1", 65527},
                                             {"mapped", AF_INET6, "::ffff:127.0.0.1", 65507}};
inline void PrintTo(const UdpFamily& family, std::ostream* out) { *out << family.name; }
// Which one the sockets of this test are.
inline const UdpFamily* udp_family = &kUdpFamilies[0];
class UdpFamilyTest : public ::testing::TestWithParam<UdpFamily> {
 protected:
  UdpFamilyTest() { udp_family = &GetParam(); }
  ~UdpFamilyTest() override { udp_family = &kUdpFamilies[0]; }
};
#define FOR_ALL_UDP_FAMILIES(suite)               \
  INSTANTIATE_TEST_SUITE_P(                       \
      , suite, ::testing::ValuesIn(kUdpFamilies), \
      [](const ::testing::TestParamInfo<UdpFamily>& one) { return std::string(one.param.name); })

// A name as calls take and give it.
struct UdpAddress {
  sockaddr_in6 storage{};  // or a sockaddr_in, whose port is at the same place
  socklen_t length = sizeof storage;
  UdpAddress() = default;
  UdpAddress(const UdpFamily& family, uint16_t port)
      : length(family.domain == AF_INET ? sizeof(sockaddr_in) : sizeof storage) {
    storage.sin6_family = static_cast<sa_family_t>(family.domain);
    storage.sin6_port = htons(port);
    void* const address =
        family.domain == AF_INET
            ? static_cast<void*>(&reinterpret_cast<sockaddr_in*>(&storage)->sin_addr)
            : &storage.sin6_addr;
    EXPECT_EQ(inet_pton(family.domain, family.loopback, address), 1);
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  uint16_t Port() const { return ntohs(storage.sin6_port); }
};
inline bool operator==(const UdpAddress& a, const UdpAddress& b) {
  return a.length == b.length && memcmp(&a.storage, &b.storage, a.length) == 0;
}

// On the loopback address, at a port of the kernel's choice, or unbound.
class UdpSocket {
 public:
  explicit UdpSocket(bool bound = true) : fd_(socket(udp_family->domain, SOCK_DGRAM, 0)) {
    if (bound) Bind(0);
  }
  int fd() const { return fd_.get(); }
  int Bind(uint16_t port) {
    const UdpAddress address = Loopback(port);
    return bind(fd(), address.get(), address.length);
  }
  UdpAddress Name() const {
    UdpAddress name;
    getsockname(fd(), name.get(), &name.length);
    return name;
  }
  uint16_t Port() const { return Name().Port(); }
  Outcome Connect(uint16_t port) { return Connect(Loopback(port)); }
  Outcome Connect(const UdpAddress& to) { return Call(connect(fd(), to.get(), to.length)); }
  Outcome Disconnect() {
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    return Call(connect(fd(), &nobody, sizeof nobody));
  }
  // To the peer of a connected socket, or to a port.
  Outcome Send(const std::string& text) { return Call(send(fd(), text.data(), text.size(), 0)); }
  Outcome SendTo(uint16_t port, const std::string& text) { return SendTo(Loopback(port), text); }
  Outcome SendTo(const UdpAddress& to, const std::string& text) {
    return Call(sendto(fd(), text.data(), text.size(), 0, to.get(), to.length));
  }
  // The next datagram; "EAGAIN" and the like if there is none. Never waits.
  std::string Receive(int flags = 0, size_t room = 65535, uint16_t* from = nullptr) {
    UdpAddress source;
    std::string text = ReceiveFrom(&source, flags, room);
    if (from != nullptr) *from = source.Port();
    return text;
  }
  std::string ReceiveFrom(UdpAddress* source, int flags = 0, size_t room = 65535) {
    std::string text(room, '?');
    *source = UdpAddress();
    const ssize_t n =
        recvfrom(fd(), text.data(), room, flags | MSG_DONTWAIT, source->get(), &source->length);
    if (n < 0) return strerrorname_np(errno);
    text.resize(std::min(room, static_cast<size_t>(n)));
    return text;
  }
  int Close() { return fd_.Close(); }
  void Take(FileDescriptor fd) { fd_ = std::move(fd); }

  static UdpAddress Loopback(uint16_t port) { return UdpAddress(*udp_family, port); }

 private:
  FileDescriptor fd_;
};

// Connects the sender, and sends as many as make a pair hot.
inline void Heat(UdpSocket& sender, UdpSocket& receiver) {
  sender.Connect(receiver.Port());
  for (int i = 0; i < 80; ++i) {
    EXPECT_EQ(sender.Send("hot"), Done(3));
    EXPECT_EQ(receiver.Receive(), "hot");
  }
}
// In mode local the two are on a FIFO from here on.
inline void Meet(const UdpSocket& sender, const UdpSocket& receiver) {
  EXPECT_TRUE(UpgradeIfWanted(receiver.fd()));
  EXPECT_TRUE(UpgradeIfWanted(sender.fd()));
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_NE(Routes(sender.fd()) & kSendsByFifo, 0);
  }
}

}  // namespace conformance
