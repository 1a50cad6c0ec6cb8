// The peer table: readers see whole states, generations change exactly when an address may mean
// another guest, and a file that is not what it must be is refused.
#include "discovery/peer_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "discovery/daemon/peer_table_writer.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

Address AddressOf(const std::string& text) {
  Address address = {};
  const std::string mapped = text.find(':') == text.npos ? "::ffff:" + text : text;
  EXPECT_EQ(inet_pton(AF_INET6, mapped.c_str(), address.data()), 1) << text;
  return address;
}

class PeerTableTest : public testing::Test {
 protected:
  PeerTableTest() {
    char name[] = "/tmp/xenloop-peers-XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/peers";
  }
  ~PeerTableTest() override {
    writer_.Close();
    std::filesystem::remove_all(directory_);
  }
  int OpenReader() { return reader_.Open(path_.c_str(), geteuid()); }
  // The domid, or -1.
  int64_t DomidOf(const std::string& address) {
    Peer peer;
    return reader_.Find(AddressOf(address).data(), &peer) ? int64_t{peer.domid} : -1;
  }
  uint32_t GenerationOf(const std::string& address) {
    Peer peer;
    EXPECT_TRUE(reader_.Find(AddressOf(address).data(), &peer)) << address;
    return peer.generation;
  }

  std::string directory_, path_;
  PeerTableWriter writer_;
  PeerTable reader_;
};

TEST_F(PeerTableTest, AddressesOfBothFamiliesAreFoundAndNoOthers) {
  ASSERT_EQ(writer_.Open(path_), 0);
  writer_.SetOwnDomid(9);
  ASSERT_EQ(OpenReader(), 0);
  EXPECT_TRUE(reader_.empty());
  EXPECT_TRUE(writer_.Replace({{AddressOf("10.0.0.2"), {2, 1}},
                               {AddressOf("fd77::3"), {3, 1}},
                               {AddressOf("10.0.0.200"), {0, 1}}}));
  EXPECT_EQ(DomidOf("10.0.0.2"), 2);
  EXPECT_EQ(DomidOf("fd77::3"), 3);
  EXPECT_EQ(DomidOf("10.0.0.200"), 0);
  EXPECT_EQ(DomidOf("10.0.0.3"), -1);
  EXPECT_EQ(DomidOf("::"), -1);
  EXPECT_EQ(reader_.own_domid(), 9u);
  EXPECT_EQ(writer_.ToString(), "10.0.0.2=2 10.0.0.200=0 fd77::3=3");
}

TEST_F(PeerTableTest, GenerationChangesWithThePeerAndWithItsIncarnationOnly) {
  ASSERT_EQ(writer_.Open(path_), 0);
  ASSERT_EQ(OpenReader(), 0);
  const Address one = AddressOf("10.0.0.1"), two = AddressOf("10.0.0.2");
  writer_.Replace({{one, {1, 7}}});
  const uint32_t first = GenerationOf("10.0.0.1");
  EXPECT_FALSE(writer_.Replace({{one, {1, 7}}}));
  EXPECT_TRUE(writer_.Replace({{one, {1, 7}}, {two, {2, 7}}}));
  EXPECT_EQ(GenerationOf("10.0.0.1"), first);
  EXPECT_NE(GenerationOf("10.0.0.2"), first);
  writer_.Replace({{one, {1, 8}}});
  const uint32_t second = GenerationOf("10.0.0.1");
  EXPECT_NE(second, first);
  writer_.Replace({});
  writer_.Replace({{one, {1, 8}}});
  EXPECT_NE(GenerationOf("10.0.0.1"), second);
}

TEST_F(PeerTableTest, NextDaemonGoesOnInTheSameFileWithFreshGenerations) {
  uint32_t former = 0;
  {
    PeerTableWriter first;
    ASSERT_EQ(first.Open(path_), 0);
    ASSERT_EQ(OpenReader(), 0);
    for (uint64_t i = 0; i < 5; ++i) first.Replace({{AddressOf("10.0.0.1"), {1, i}}});
    former = GenerationOf("10.0.0.1");
  }
  EXPECT_EQ(DomidOf("10.0.0.1"), -1);
  ASSERT_EQ(writer_.Open(path_), 0);
  writer_.Replace({{AddressOf("10.0.0.1"), {1, 0}}});
  EXPECT_GT(GenerationOf("10.0.0.1"), former);
}

TEST_F(PeerTableTest, DaemonThatDiedHalfWayLeavesNobodyAndIsFollowedByAnother) {
  ASSERT_EQ(writer_.Open(path_), 0);
  writer_.Replace({{AddressOf("10.0.0.1"), {1, 0}}});
  ASSERT_EQ(OpenReader(), 0);
  const uint64_t odd = 99;
  const int fd = open(path_.c_str(), O_RDWR);
  ASSERT_EQ(pwrite(fd, &odd, sizeof odd, offsetof(PeerTableHeader, sequence)), 8);
  close(fd);
  EXPECT_EQ(DomidOf("10.0.0.1"), -1);
  PeerTableRow row;
  EXPECT_EQ(reader_.Snapshot(&row, 1), 0u);
  PeerTableWriter next;
  ASSERT_EQ(next.Open(path_), 0);
  next.Replace({{AddressOf("10.0.0.1"), {1, 0}}});
  EXPECT_EQ(DomidOf("10.0.0.1"), 1);
}

TEST_F(PeerTableTest, MoreAddressesThanFitLeaveTheLastOnesOut) {
  ASSERT_EQ(writer_.Open(path_), 0);
  ASSERT_EQ(OpenReader(), 0);
  PeerMap many;
  for (uint32_t i = 0; i < kPeerTableCapacity + 10; ++i) {
    many[AddressOf("10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256))] = {i, 0};
  }
  writer_.Replace(many);
  EXPECT_EQ(DomidOf("10.1.0.0"), 0);
  EXPECT_EQ(DomidOf("10.1.3.253"), 1021);
  EXPECT_EQ(DomidOf("10.1.3.254"), -1);
  std::vector<PeerTableRow> rows(2000);
  EXPECT_EQ(reader_.Snapshot(rows.data(), rows.size()), kPeerTableCapacity);
  EXPECT_EQ(reader_.Snapshot(rows.data(), 3), 3u);
}

TEST_F(PeerTableTest, FileThatIsNoTableIsRefused) {
  EXPECT_EQ(OpenReader(), -ENOENT);
  int fd = open(path_.c_str(), O_RDWR | O_CREAT, 0644);
  EXPECT_EQ(OpenReader(), -EPROTO) << "too short";
  ASSERT_EQ(ftruncate(fd, kPeerTableBytes), 0);
  EXPECT_EQ(OpenReader(), -EPROTO) << "no magic";
  close(fd);
  ASSERT_EQ(writer_.Open(path_), 0);
  EXPECT_EQ(OpenReader(), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  EXPECT_EQ(OpenReader(), -EPERM) << "anybody may write it";
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  std::filesystem::create_symlink(path_, directory_ + "/link");
  EXPECT_EQ(reader_.Open((directory_ + "/link").c_str(), geteuid()), -ELOOP);
  EXPECT_FALSE(reader_.is_open());
  ASSERT_EQ(mkfifo((directory_ + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(reader_.Open((directory_ + "/fifo").c_str(), geteuid()), -EPERM);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path_.c_str(), 12345, 0), 0);
    EXPECT_EQ(OpenReader(), -EPERM) << "somebody else's";
    EXPECT_EQ(writer_.Open(path_), -EPERM);
  }
}

TEST_F(PeerTableTest, GarbledCountsAndEntriesHarmNobody) {
  ASSERT_EQ(writer_.Open(path_), 0);
  ASSERT_EQ(OpenReader(), 0);
  const int fd = open(path_.c_str(), O_RDWR);
  for (const uint32_t count : {kPeerTableCapacity + 1, 0xffffffffu}) {
    ASSERT_EQ(pwrite(fd, &count, sizeof count, offsetof(PeerTableHeader, count)), 4);
    EXPECT_EQ(DomidOf("10.0.0.1"), -1);
    PeerTableRow row;
    EXPECT_EQ(reader_.Snapshot(&row, 1), 0u);
  }
  close(fd);
}

TEST_F(PeerTableTest, ReadersOfAChangingTableSeeWholeStates) {
  ASSERT_EQ(writer_.Open(path_), 0);
  ASSERT_EQ(OpenReader(), 0);
  const Address a = AddressOf("10.0.0.1"), b = AddressOf("10.0.0.2"), c = AddressOf("10.0.0.0");
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint32_t i = 1; i <= 20000; ++i) {
      // The rows move: c comes and goes before them.
      PeerMap peers = {{a, {i, 0}}, {b, {i, 0}}};
      if (i % 2 == 0) peers[c] = {i, 0};
      writer_.Replace(peers);
    }
    stop = true;
  });
  while (!stop) {
    PeerTableRow rows[3];
    const size_t n = reader_.Snapshot(rows, 3);
    if (n < 2) continue;
    ASSERT_EQ(rows[n - 1].peer.domid, rows[n - 2].peer.domid);
    ASSERT_EQ(memcmp(rows[n - 1].address, b.data(), 16), 0);
    Peer peer;
    if (reader_.Find(c.data(), &peer)) {
      ASSERT_EQ(peer.domid % 2, 0u);
    }
  }
  writer.join();
  EXPECT_EQ(DomidOf("10.0.0.2"), 20000);
}

}  // namespace
}  // namespace xenloop
