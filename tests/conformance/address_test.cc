// Connections over every address of this machine: 127/8 beyond 127.0.0.1, the interfaces' own
// addresses, wildcard listeners, IPv4 seen through IPv6 sockets on either side.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>

#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

Address Numeric(const char* text) {
  Address address = Loopback(strchr(text, ':') == nullptr ? AF_INET : AF_INET6);
  if (address.family() == AF_INET) {
    inet_pton(AF_INET, text, &reinterpret_cast<sockaddr_in*>(&address.storage)->sin_addr);
  } else {
    inet_pton(AF_INET6, text, &reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_addr);
  }
  return address;
}

std::vector<Address> InterfaceAddresses() {
  std::vector<Address> addresses;
  ifaddrs* all = nullptr;
  EXPECT_EQ(getifaddrs(&all), 0);
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0) continue;
    const int family = each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    Address address;
    address.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    memcpy(&address.storage, each->ifa_addr, address.length);
    addresses.push_back(address);
  }
  freeifaddrs(all);
  return addresses;
}

class AddressTest : public testing::TestWithParam<Variant> {
 protected:
  void ExpectWorks(const Address& listen, const Address& connect) {
    SCOPED_TRACE(listen.text() + " reached by " + connect.text());
    const auto pair = ConnectedPair::Make(GetParam(), listen, connect);
    ASSERT_NE(pair, nullptr);
    pair->ExpectBothWaysWork(10000);
    MarkedPoint(pair->fd());
    pair->peer().StartSend(300000, {10000, 2});
    pair->Receive(300000, {10000, 2});
    pair->peer().ExpectMoved(300000);
    pair->peer().Shutdown(SHUT_WR);
    pair->ReceiveEndOfStream();
  }
  void ExpectWorks(const char* listen, const char* connect) {
    ExpectWorks(Numeric(listen), Numeric(connect));
  }
};
INSTANTIATE_TEST_SUITE_P(, AddressTest, AllVariants(), VariantName);

TEST_P(AddressTest, OtherLoopbackAddresses) {
  ExpectWorks("127.0.0.2", "127.0.0.2");
  ExpectWorks("127.1.2.3", "127.1.2.3");
}

TEST_P(AddressTest, WildcardListeners) {
  ExpectWorks("0.0.0.0", "127.0.0.1");
  ExpectWorks("0.0.0.0", "127.0.0.9");
  ExpectWorks("0.0.0.0", "0.0.0.0");  // which means this machine
  ExpectWorks("::", "::1");
}

TEST_P(AddressTest, Ipv4ClientOfAnIpv6Listener) { ExpectWorks("::", "127.0.0.1"); }
TEST_P(AddressTest, MappedClientOfAnIpv4Listener) { ExpectWorks("127.0.0.1", "::ffff:127.0.0.1"); }
TEST_P(AddressTest, MappedClientOfAnIpv6Listener) { ExpectWorks("::", "::ffff:127.0.0.1"); }
TEST_P(AddressTest, MappedListener) { ExpectWorks("::ffff:127.0.0.1", "127.0.0.1"); }

TEST_P(AddressTest, EveryAddressOfThisMachine) {
  const std::vector<Address> addresses = InterfaceAddresses();
  ASSERT_FALSE(addresses.empty());
  for (const Address& address : addresses) ExpectWorks(address, address);
}

TEST_P(AddressTest, EveryAddressByAWildcardListener) {
  for (const Address& address : InterfaceAddresses()) {
    ExpectWorks(Numeric(address.family() == AF_INET ? "0.0.0.0" : "::"), address);
  }
}

TEST_P(AddressTest, NamesOfBothEndsAgree) {
  const auto pair = ConnectedPair::Make(GetParam());
  ASSERT_NE(pair, nullptr);
  const Address here = LocalName(pair->fd());
  const Address there = RemoteName(pair->fd());
  EXPECT_EQ(here.length, there.length);
  EXPECT_EQ(here.family(), GetParam().family);
  EXPECT_NE(here.port(), 0);
  EXPECT_NE(here.port(), there.port());
  MarkedPoint(pair->fd());
  EXPECT_EQ(LocalName(pair->fd()).text(), here.text());
  EXPECT_EQ(RemoteName(pair->fd()).text(), there.text());
  // A short buffer gets what fits, and the whole length.
  sockaddr_storage cut;
  memset(&cut, 0x5A, sizeof(cut));
  socklen_t length = 4;
  ASSERT_EQ(getpeername(pair->fd(), reinterpret_cast<sockaddr*>(&cut), &length), 0);
  EXPECT_EQ(length, there.length);
  EXPECT_EQ(memcmp(&cut, &there.storage, 4), 0);
  EXPECT_EQ(reinterpret_cast<char*>(&cut)[4], 0x5A);
}

}  // namespace
}  // namespace conformance
