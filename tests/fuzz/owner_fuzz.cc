// Socket addresses of every kind, and the kernel's answer about a connection's owner, as any bytes.
// An answer about another connection names no owner.
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include <memory>

#include "discovery/owner.h"
#include "tests/fuzz/input.h"

namespace xenloop::fuzz {
namespace {

sockaddr_storage Address(Input& input) {
  sockaddr_storage address = {};
  input.Take(&address, sizeof(sockaddr_in6));
  if (input.OneIn(2)) address.ss_family = AF_INET6;
  if (input.OneIn(2)) address.ss_family = AF_INET;
  return address;
}

void CheckTuple(const Tuple& tuple) {
  XENLOOP_REQUIRE(SameTuple(Reversed(Reversed(tuple)), tuple));
  XENLOOP_REQUIRE(HashOf(tuple) == HashOf(Reversed(Reversed(tuple))));
  // Of two ends exactly one makes the offer, unless they are one.
  XENLOOP_REQUIRE(MakesTheOffer(tuple) != MakesTheOffer(Reversed(tuple)) ||
                  SameEndpoint(tuple.local, tuple.peer));
}

// The bytes that the kernel would send about `tuple`.
std::string Answer(const Tuple& tuple, uid_t uid) {
  nlmsghdr header = {};
  header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  header.nlmsg_len = sizeof header + sizeof(inet_diag_msg);
  inet_diag_msg found = {};
  const bool v4 = tuple.local.IsV4();
  found.idiag_family = v4 ? AF_INET : AF_INET6;
  found.idiag_state = 1;
  found.idiag_uid = uid;
  found.id.idiag_sport = htons(tuple.local.port);
  found.id.idiag_dport = htons(tuple.peer.port);
  memcpy(found.id.idiag_src, tuple.local.address + (v4 ? 12 : 0), v4 ? 4 : 16);
  memcpy(found.id.idiag_dst, tuple.peer.address + (v4 ? 12 : 0), v4 ? 4 : 16);
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) +
         std::string(reinterpret_cast<const char*>(&found), sizeof found);
}

void CheckAnswer(const std::string& bytes, const Tuple& tuple) {
  // A copy of exactly that size: the address sanitizer guards its end.
  const std::unique_ptr<uint8_t[]> answer(new uint8_t[bytes.size()]);
  memcpy(answer.get(), bytes.data(), bytes.size());
  uid_t uid = 4711;
  const int error = ParseOwner(answer.get(), bytes.size(), tuple, &uid);
  XENLOOP_REQUIRE(error <= 0);
  if (error != 0) {
    XENLOOP_REQUIRE(uid == 4711);
    return;
  }
  inet_diag_msg found;
  XENLOOP_REQUIRE(bytes.size() >= sizeof(nlmsghdr) + sizeof found);
  memcpy(&found, bytes.data() + sizeof(nlmsghdr), sizeof found);
  XENLOOP_REQUIRE(uid == found.idiag_uid);
  XENLOOP_REQUIRE(ntohs(found.id.idiag_sport) == tuple.local.port);
  XENLOOP_REQUIRE(ntohs(found.id.idiag_dport) == tuple.peer.port);
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop;
  using namespace xenloop::fuzz;
  Input input(bytes, size);
  Tuple tuple;
  const bool local_understood = ToEndpoint(Address(input), &tuple.local);
  const bool peer_understood = ToEndpoint(Address(input), &tuple.peer);
  if (local_understood && peer_understood) CheckTuple(tuple);
  std::string answer = Answer(tuple, 1000);
  CheckAnswer(answer, tuple);
  for (uint32_t i = input.Below(8); i > 0; --i) {
    answer[input.Below(static_cast<uint32_t>(answer.size()))] ^= static_cast<char>(input.Byte());
  }
  answer.resize(input.OneIn(2) ? input.Below(static_cast<uint32_t>(answer.size()) + 1)
                               : answer.size());
  CheckAnswer(answer, tuple);
  CheckAnswer(input.Rest(), tuple);
  return 0;
}
