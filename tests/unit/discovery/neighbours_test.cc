// From the kernel's neighbour table to peers: only complete, unambiguous entries of addresses that
// name one machine; any bytes may stand in the answer.
#include "discovery/daemon/neighbours.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

const Mac kMac2 = *ParseMac("00:16:3e:00:00:02");
const Mac kMac3 = *ParseMac("00:16:3e:00:00:03");

Address AddressOf(const std::string& text) {
  Address address = {};
  const std::string mapped = text.find(':') == text.npos ? "::ffff:" + text : text;
  EXPECT_EQ(inet_pton(AF_INET6, mapped.c_str(), address.data()), 1) << text;
  return address;
}

void Attribute(std::string* message, uint16_t type, const void* value, size_t length) {
  const rtattr attribute = {static_cast<uint16_t>(sizeof(rtattr) + length), type};
  message->append(reinterpret_cast<const char*>(&attribute), sizeof attribute);
  message->append(static_cast<const char*>(value), length);
  message->resize(NLMSG_ALIGN(message->size()));
}

// One entry as the kernel sends it.
std::string Entry(const std::string& address, const Mac* mac, uint16_t state = NUD_REACHABLE) {
  const Address bytes = AddressOf(address);
  const bool v4 = address.find(':') == address.npos;
  std::string message(sizeof(nlmsghdr), '\0');
  ndmsg about = {};
  about.ndm_family = v4 ? AF_INET : AF_INET6;
  about.ndm_state = state;
  message.append(reinterpret_cast<const char*>(&about), sizeof about);
  Attribute(&message, NDA_DST, bytes.data() + (v4 ? 12 : 0), v4 ? 4 : 16);
  const nda_cacheinfo more = {};
  Attribute(&message, NDA_CACHEINFO, &more, sizeof more);
  if (mac != nullptr) Attribute(&message, NDA_LLADDR, mac->data(), mac->size());
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(message.size());
  header.nlmsg_type = RTM_NEWNEIGH;
  memcpy(message.data(), &header, sizeof header);
  return message;
}

std::vector<Neighbour> Parse(const std::string& bytes, bool* done = nullptr) {
  std::vector<Neighbour> found;
  bool ignored = false;
  ParseNeighbours(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), &found,
                  done != nullptr ? done : &ignored);
  return found;
}

std::string Shown(const PeerMap& peers) {
  std::string text;
  for (const auto& [address, peer] : peers) {
    text += FormatAddress(address) + "=" + std::to_string(peer.domid) + " ";
  }
  return text;
}

const Announcements kGuests = {{2, {12, {kMac2}}}, {3, {13, {kMac3}}}};

TEST(Neighbours, AddressesOfKnownCardsAreTheirGuests) {
  const Mac stranger = *ParseMac("00:16:3e:00:00:09");
  const std::string answer = Entry("10.0.0.2", &kMac2) + Entry("fd77::2", &kMac2, NUD_STALE) +
                             Entry("10.0.0.3", &kMac3, NUD_PERMANENT) +
                             Entry("10.0.0.9", &stranger);
  const PeerMap peers = PeersOf(Parse(answer), kGuests);
  EXPECT_EQ(Shown(peers), "10.0.0.2=2 10.0.0.3=3 fd77::2=2 ");
  EXPECT_EQ(peers.at(AddressOf("10.0.0.3")).incarnation, 13u);
}

TEST(Neighbours, EntriesWithoutAnAnswerAndAddressesOfNobodyInParticularAreLeftOut) {
  EXPECT_TRUE(Parse(Entry("10.0.0.2", nullptr, NUD_INCOMPLETE)).empty());
  EXPECT_TRUE(Parse(Entry("10.0.0.2", &kMac2, NUD_FAILED)).empty());
  EXPECT_TRUE(Parse(Entry("10.0.0.2", nullptr, NUD_REACHABLE)).empty());
  for (const char* nobody : {"224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "169.254.1.1",
                             "ff02::1", "fe80::1", "::1", "::"}) {
    EXPECT_TRUE(Parse(Entry(nobody, &kMac2)).empty()) << nobody;
  }
}

TEST(Neighbours, AddressThatTwoCardsAnswerForIsNobodys) {
  const std::string answer = Entry("10.0.0.2", &kMac2) + Entry("10.0.0.3", &kMac3) +
                             Entry("10.0.0.2", &kMac3) + Entry("10.0.0.2", &kMac2);
  EXPECT_EQ(Shown(PeersOf(Parse(answer), kGuests)), "10.0.0.3=3 ");
  const Mac remote =
      *ParseMac("00:16:3e:00:00:09");  // on an isolated network with the same address
  EXPECT_EQ(Shown(PeersOf(Parse(Entry("10.0.0.2", &kMac2) + Entry("10.0.0.2", &remote)), kGuests)),
            "");
}

TEST(Neighbours, EndOfADumpIsSeen) {
  bool done = false;
  Parse(Entry("10.0.0.2", &kMac2), &done);
  EXPECT_FALSE(done);
  nlmsghdr end = {};
  end.nlmsg_len = sizeof end;
  end.nlmsg_type = NLMSG_DONE;
  Parse(Entry("10.0.0.2", &kMac2) + std::string(reinterpret_cast<char*>(&end), sizeof end), &done);
  EXPECT_TRUE(done);
}

TEST(Neighbours, AnyBytesWillDo) {
  const std::string whole = Entry("10.0.0.2", &kMac2) + Entry("fd77::2", &kMac2);
  for (size_t length = 0; length < whole.size(); ++length) Parse(whole.substr(0, length));
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string garbled = whole;
    for (int i = 0; i < 4; ++i) garbled[random() % garbled.size()] = static_cast<char>(random());
    Parse(garbled);
  }
}

TEST(Neighbours, KernelsTableCanBeRead) {
  NeighbourTable table;
  ASSERT_EQ(table.Open(), 0);
  std::vector<Neighbour> neighbours;
  EXPECT_EQ(table.Read(&neighbours), 0);
  table.TakeEvents();
}

TEST(Neighbours, OwnCardsAreThoseWithAnAddressOfTheirOwn) {
  char name[] = "/tmp/xenloop-net-XXXXXX";
  const std::string root = mkdtemp(name);
  const auto card = [&root](const std::string& card_name, const std::string& address) {
    std::filesystem::create_directory(root + "/" + card_name);
    std::ofstream(root + "/" + card_name + "/address") << address << "\n";
  };
  card("lo", "00:00:00:00:00:00");
  card("vif1.0", "fe:ff:ff:ff:ff:ff");
  card("eth0", "52:54:00:00:77:fe");
  card("br0", "52:54:00:00:77:fe");
  card("tun0", "");
  EXPECT_THAT(OwnMacs(root), testing::ElementsAre(*ParseMac("52:54:00:00:77:fe")));
  std::filesystem::remove_all(root);
  EXPECT_TRUE(OwnMacs(root).empty());
}

}  // namespace
}  // namespace xenloop
