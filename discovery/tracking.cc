// See tracking.h.
#include "discovery/tracking.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>

#include "discovery/netlink.h"

namespace xenloop {
namespace {

constexpr uint16_t kGet = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
constexpr uint16_t kNew = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;

// A message with attributes, some of them inside others.
class Question {
 public:
  explicit Question(bool v4) {
    header_.nlmsg_type = kGet;
    header_.nlmsg_flags = NLM_F_REQUEST;
    nfgenmsg general{};
    general.nfgen_family = v4 ? AF_INET : AF_INET6;
    general.version = NFNETLINK_V0;
    Append(&header_, sizeof header_);
    Append(&general, sizeof general);
  }
  size_t Open(uint16_t type) {
    const size_t at = length_;
    const nlattr head{0, static_cast<uint16_t>(type | NLA_F_NESTED)};
    Append(&head, sizeof head);
    return at;
  }
  void Close(size_t at) {
    const auto length = static_cast<uint16_t>(length_ - at);
    memcpy(bytes_ + at + offsetof(nlattr, nla_len), &length, sizeof length);
  }
  void Add(uint16_t type, const void* value, size_t length) {
    const nlattr head{static_cast<uint16_t>(sizeof head + length), type};
    Append(&head, sizeof head);
    Append(value, length);
  }
  const uint8_t* Finish() {
    const auto length = static_cast<uint32_t>(length_);
    memcpy(bytes_ + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
    return bytes_;
  }
  size_t length() const { return length_; }

 private:
  void Append(const void* from, size_t length) {
    memcpy(bytes_ + length_, from, length);
    length_ += NLA_ALIGN(length);
  }
  nlmsghdr header_{};
  uint8_t bytes_[256] = {};
  size_t length_ = 0;
};

}  // namespace

bool IsTrackedUntranslated(const Tuple& tuple) {
  const bool v4 = tuple.local.IsV4();
  if (v4 != tuple.peer.IsV4()) return false;
  Question question(v4);
  const size_t all = question.Open(CTA_TUPLE_ORIG);
  const size_t addresses = question.Open(CTA_TUPLE_IP);
  const size_t skip = v4 ? 12 : 0;
  const size_t bytes = v4 ? 4 : 16;
  question.Add(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple.local.address + skip, bytes);
  question.Add(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple.peer.address + skip, bytes);
  question.Close(addresses);
  const size_t ports = question.Open(CTA_TUPLE_PROTO);
  const uint8_t udp = IPPROTO_UDP;
  const uint16_t from = htons(tuple.local.port);
  const uint16_t to = htons(tuple.peer.port);
  question.Add(CTA_PROTO_NUM, &udp, sizeof udp);
  question.Add(CTA_PROTO_SRC_PORT, &from, sizeof from);
  question.Add(CTA_PROTO_DST_PORT, &to, sizeof to);
  question.Close(ports);
  question.Close(all);
  uint8_t answer[2048];
  const uint8_t* const message = question.Finish();
  const long length =
      AskKernel(NETLINK_NETFILTER, message, question.length(), answer, sizeof answer);
  return length > 0 && ParseTracking(answer, static_cast<size_t>(length));
}

bool ParseTracking(const uint8_t* answer, size_t length) {
  nlmsghdr header;
  constexpr size_t kHeads = sizeof header + sizeof(nfgenmsg);
  if (length < kHeads) return false;
  memcpy(&header, answer, sizeof header);
  if (header.nlmsg_type != kNew || header.nlmsg_len < kHeads || header.nlmsg_len > length)
    return false;
  for (size_t at = kHeads; header.nlmsg_len - at >= sizeof(nlattr);) {
    nlattr attribute;
    memcpy(&attribute, answer + at, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > header.nlmsg_len - at)
      return false;
    uint32_t status;
    if ((attribute.nla_type & NLA_TYPE_MASK) == CTA_STATUS &&
        attribute.nla_len == sizeof attribute + sizeof status) {
      memcpy(&status, answer + at + sizeof attribute, sizeof status);
      status = ntohl(status);
      return (status & IPS_CONFIRMED) != 0 && (status & IPS_NAT_MASK) == 0;
    }
    const size_t step = NLA_ALIGN(attribute.nla_len);
    if (step > header.nlmsg_len - at) return false;
    at += step;
  }
  return false;
}

}  // namespace xenloop
