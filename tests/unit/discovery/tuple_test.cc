// Tuples: one form for both address families, and what both ends must agree on.
#include "discovery/protocol/tuple.h"

#include <arpa/inet.h>

#include <random>
#include <set>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

Endpoint V4(const char* address, uint16_t port) {
  sockaddr_storage storage = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  inet_pton(AF_INET, address, &v4.sin_addr);
  Endpoint end;
  EXPECT_TRUE(ToEndpoint(storage, &end));
  return end;
}
Endpoint V6(const char* address, uint16_t port) {
  sockaddr_storage storage = {};
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  inet_pton(AF_INET6, address, &v6.sin6_addr);
  Endpoint end;
  EXPECT_TRUE(ToEndpoint(storage, &end));
  return end;
}

TEST(Tuple, V4AndMappedV6AreTheSameEndpoint) {
  EXPECT_TRUE(SameEndpoint(V4("127.0.0.1", 80), V6("::ffff:127.0.0.1", 80)));
  EXPECT_TRUE(V4("10.0.0.1", 1).IsV4());
  EXPECT_FALSE(V6("::1", 1).IsV4());
  EXPECT_FALSE(V6("::127.0.0.1", 1).IsV4());  // compatible is not mapped
  EXPECT_FALSE(SameEndpoint(V4("127.0.0.1", 80), V4("127.0.0.1", 81)));
  EXPECT_FALSE(SameEndpoint(V4("127.0.0.1", 80), V4("127.0.0.2", 80)));
}

TEST(Tuple, OtherFamiliesAreRefused) {
  sockaddr_storage storage = {};
  storage.ss_family = AF_UNIX;
  Endpoint end;
  EXPECT_FALSE(ToEndpoint(storage, &end));
}

TEST(Tuple, ReversedTwiceIsTheSame) {
  const Tuple tuple{V4("10.0.0.1", 1), V6("2001:db8::1", 2)};
  EXPECT_TRUE(SameTuple(Reversed(Reversed(tuple)), tuple));
  EXPECT_FALSE(SameTuple(Reversed(tuple), tuple));
}

TEST(Tuple, ExactlyOneOfTwoEndsMakesTheOffer) {
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    Tuple tuple;
    // Few values, so that ports and addresses often agree.
    for (Endpoint* end : {&tuple.local, &tuple.peer}) {
      for (uint8_t& byte : end->address) byte = static_cast<uint8_t>(random() % 16 == 0);
      end->port = static_cast<uint16_t>(random() % 3);
    }
    if (SameEndpoint(tuple.local, tuple.peer)) continue;
    ASSERT_NE(MakesTheOffer(tuple), MakesTheOffer(Reversed(tuple)));
  }
}

TEST(Tuple, HashTellsTheEndsApartAndSpreadsNeighbours) {
  std::set<uint64_t> hashes;
  std::set<uint64_t> buckets;
  for (uint16_t port = 1; port <= 4000; ++port) {
    const Tuple tuple{V4("127.0.0.1", port), V4("127.0.0.1", 6379)};
    hashes.insert(HashOf(tuple));
    hashes.insert(HashOf(Reversed(tuple)));
    buckets.insert(HashOf(tuple) % 16384);
  }
  EXPECT_EQ(hashes.size(), 8000u);
  EXPECT_GT(buckets.size(), 3300u);  // 4000 at random fill about 3550 of 16384
}

}  // namespace
}  // namespace xenloop
