// The keys' formats: what is written is read back; whatever else stands there is "no".
#include <string>

#include "discovery/daemon/xenstore/keys.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

TEST(XenStoreKeys, MacIsAStationsAddressInFull) {
  EXPECT_EQ(FormatMac(*ParseMac("00:16:3E:0a:b0:01")), "00:16:3e:0a:b0:01");
  for (const char* wrong : {"", "00:16:3e:00:00", "00:16:3e:00:00:01:02", "00:16:3e:00:00:g1",
                            "0:16:3e:00:00:01", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01",
                            "00:00:00:00:00:00", "00:16:3e:00:00:01 ", "00-16-3e-00-00-01"}) {
    EXPECT_FALSE(ParseMac(wrong)) << wrong;
  }
}

TEST(XenStoreKeys, DomidIsADecimalBelowTheReservedOnes) {
  EXPECT_EQ(ParseDomid("0"), 0u);
  EXPECT_EQ(ParseDomid("32751"), 32751u);
  for (const char* wrong : {"", "-1", "32752", "99999999", "1x", " 1", "0x1", "+1"}) {
    EXPECT_FALSE(ParseDomid(wrong)) << wrong;
  }
}

TEST(XenStoreKeys, ParticipationNeedsVersionAndIncarnation) {
  EXPECT_EQ(ParseParticipation(FormatParticipation(0xfedcba9876543210)), 0xfedcba9876543210);
  for (const char* wrong : {"", "1", "1 ", "1 12345", "2 fedcba9876543210", "1 fedcba987654321g",
                            "1 fedcba98765432100", "1  edcba9876543210"}) {
    EXPECT_FALSE(ParseParticipation(wrong)) << wrong;
  }
}

TEST(XenStoreKeys, AnnouncementIsAllOrNothing) {
  const Announcement announcement = {
      7, {*ParseMac("00:16:3e:00:00:02"), *ParseMac("00:16:3e:00:00:03")}};
  EXPECT_EQ(ParseAnnouncement(FormatAnnouncement(announcement)), announcement);
  EXPECT_EQ(ParseAnnouncement(FormatAnnouncement(Announcement{})), Announcement{});
  EXPECT_FALSE(ParseAnnouncement(""));
  EXPECT_FALSE(ParseAnnouncement("0000000000000007 "));
  EXPECT_FALSE(ParseAnnouncement("0000000000000007 00:16:3e:00:00:02 nonsense"));
  std::string too_many = "0000000000000007";
  for (int i = 0; i < 65; ++i) too_many += " 00:16:3e:00:00:02";
  EXPECT_FALSE(ParseAnnouncement(too_many));
}

}  // namespace
}  // namespace xenloop
