// What connection tracking says of a pair of names: any bytes will do, and only a whole answer that
// says so is believed.
#include "discovery/tracking.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>

#include <string>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

void Append(std::string* to, const void* bytes, size_t length) {
  to->append(static_cast<const char*>(bytes), length);
  to->resize(NLA_ALIGN(to->size()));
}

// As the kernel sends it: an attribute before the status, and one behind.
std::string AnswerWith(uint32_t status, uint16_t type = NFNL_SUBSYS_CTNETLINK << 8) {
  std::string answer;
  nlmsghdr header{};
  header.nlmsg_type = type;
  Append(&answer, &header, sizeof header);
  const nfgenmsg general{AF_INET, NFNETLINK_V0, 0};
  Append(&answer, &general, sizeof general);
  const uint32_t mark = 0;
  const nlattr before{sizeof(nlattr) + 1, CTA_TUPLE_ORIG | NLA_F_NESTED};
  Append(&answer, &before, sizeof before);
  Append(&answer, &mark, 1);
  const nlattr head{sizeof(nlattr) + sizeof status, CTA_STATUS};
  status = htonl(status);
  Append(&answer, &head, sizeof head);
  Append(&answer, &status, sizeof status);
  const nlattr after{sizeof(nlattr) + sizeof mark, CTA_MARK};
  Append(&answer, &after, sizeof after);
  Append(&answer, &mark, sizeof mark);
  header.nlmsg_len = static_cast<uint32_t>(answer.size());
  memcpy(&answer[0], &header, sizeof header);
  return answer;
}
bool Says(const std::string& answer) {
  return ParseTracking(reinterpret_cast<const uint8_t*>(answer.data()), answer.size());
}

TEST(TrackingTest, AnEntryWithoutTranslationIsProof) {
  EXPECT_TRUE(Says(AnswerWith(IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED)));
  EXPECT_TRUE(Says(AnswerWith(IPS_CONFIRMED | IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE)));
}

TEST(TrackingTest, OneThatTranslatesEitherNameIsNot) {
  EXPECT_FALSE(Says(AnswerWith(IPS_CONFIRMED | IPS_SRC_NAT)));
  EXPECT_FALSE(Says(AnswerWith(IPS_CONFIRMED | IPS_DST_NAT)));
  EXPECT_FALSE(Says(AnswerWith(0)));
}

TEST(TrackingTest, AnErrorOrHalfAnAnswerIsNot) {
  EXPECT_FALSE(Says(AnswerWith(IPS_CONFIRMED, NLMSG_ERROR)));
  const std::string whole = AnswerWith(IPS_CONFIRMED);
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(Says(whole.substr(0, length))) << length;
}

TEST(TrackingTest, AbsurdLengthsEnd) {
  for (size_t at = 0; at < 48; ++at) {
    for (const char byte : {'\0', '\1', '\xff'}) {
      std::string answer = AnswerWith(IPS_CONFIRMED | IPS_DST_NAT);
      answer[at] = byte;
      (void)Says(answer);
    }
  }
  std::string cut = AnswerWith(IPS_CONFIRMED);
  const uint32_t length = sizeof(nlmsghdr) + sizeof(nfgenmsg) + 2;
  memcpy(&cut[0], &length, sizeof length);
  EXPECT_FALSE(Says(cut));
}

}  // namespace
}  // namespace xenloop
