// Connected pairs: an ordinary TCP connection between the test and a peer, for every variant, and
// the fixture that holds one. In mode local a pair is asserted to be on FIFOs in both directions
// before the test begins.

#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"
#include "tests/conformance/peer.h"

namespace conformance {

enum class Asks { kTest, kPeer, kBoth };  // which end requests the upgrade

struct Variant {
  const char* name;
  int family;
  Place peer;
  bool peer_connects;  // else the test's end connects and the peer accepts
  Asks asks;
};

constexpr Variant kVariants[] = {
    {"Ipv4Thread", AF_INET, Place::kThread, true, Asks::kBoth},
    {"Ipv4Process", AF_INET, Place::kProcess, true, Asks::kTest},
    {"Ipv6Thread", AF_INET6, Place::kThread, false, Asks::kTest},
    {"Ipv6Process", AF_INET6, Place::kProcess, false, Asks::kPeer},
};

inline std::string VariantName(const testing::TestParamInfo<Variant>& info) {
  return info.param.name;
}
inline void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

// Those of the variants that this run can have: with the peers in another network namespace, those
// whose peer is a process.
std::vector<Variant> Possible(std::initializer_list<int> numbers);
// The suites choose: everything, or where one of each place is enough.
inline auto AllVariants() { return testing::ValuesIn(Possible({0, 1, 2, 3})); }
inline auto OneOfEachPlace() { return testing::ValuesIn(Possible({1, 2})); }
inline auto ProcessVariants() { return testing::ValuesIn(Possible({1, 3})); }

// An address with a port, for either family.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  int port() const;
  void set_port(int port);
  std::string text() const;  // numeric, with the port
};
Address Loopback(int family, int port = 0);
Address LocalName(int fd);   // getsockname
Address RemoteName(int fd);  // getpeername
FileDescriptor ListenOn(const Address& address, int backlog = 64);

class ConnectedPair {
 public:
  // Null, with a test failure added, if it could not be made. The family is the variant's, or that
  // of the addresses given; the port of `connect_to` is ignored.
  static std::unique_ptr<ConnectedPair> Make(const Variant& variant);
  static std::unique_ptr<ConnectedPair> Make(const Variant& variant, const Address& listen_on,
                                             Address connect_to);
  ~ConnectedPair();

  int fd() const { return fd_.get(); }
  Peer& peer() { return *peer_; }
  int Close();  // the test's end

  // Each adds a test failure if not all bytes went, or a wrong one came.
  void Send(size_t total, Chunks chunks = {});
  void Receive(size_t total, Chunks chunks = {});
  void ReceiveEndOfStream();
  void ExpectBothWaysWork(size_t bytes = 1000);  // a last exchange
  // In mode local: both directions of this end are on FIFOs (still).
  void ExpectOnFifos();

  ByteStream sent{kSeedToPeer};
  ByteStream received{kSeedFromPeer};

 private:
  ConnectedPair() = default;
  bool Prepare(const Variant& variant);

  FileDescriptor fd_;
  std::unique_ptr<Peer> peer_;
};

class PairTest : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    pair_ = ConnectedPair::Make(GetParam());
    ASSERT_NE(pair_, nullptr);
  }

  int fd() const { return pair_->fd(); }
  Peer& peer() { return pair_->peer(); }
  ConnectedPair& pair() { return *pair_; }
  void Mark() { MarkedPoint(pair_->fd()); }
  void MarkAtPeer() { pair_->peer().Do(Op::kMark); }
  std::unique_ptr<ConnectedPair> AnotherPair() { return ConnectedPair::Make(GetParam()); }

 private:
  std::unique_ptr<ConnectedPair> pair_;
};

}  // namespace conformance
