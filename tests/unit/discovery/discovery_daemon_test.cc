// The daemon's loop over the twin of XenStore: it comes up, survives the loss of the store and a
// full quota, says so, and leaves nothing behind.
#include "discovery/daemon/discovery_daemon.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop {
namespace {

using std::chrono::milliseconds;
using testing::Contains;
using testing::HasSubstr;

class DiscoveryDaemonTest : public testing::Test {
 protected:
  DiscoveryDaemonTest() {
    char name[] = "/tmp/xenloop-daemon-XXXXXX";
    directory_ = mkdtemp(name);
    host_.CreateDomain(1, {"00:16:3e:00:00:01"});
    places_.table = directory_ + "/peers";
    places_.log = [this](const std::string& line) { log_.push_back(line); };
    places_.ready = [this] { ++ready_; };
    places_.open_store = [this]() -> absl::StatusOr<std::unique_ptr<XenStore>> {
      if (!store_runs_) return absl::UnavailableError("no XenStore");
      auto store = std::make_unique<FakeXenStore>(&host_, domid_);
      store->full_quota = full_quota_;
      connection_ = store.get();
      return std::unique_ptr<XenStore>(std::move(store));
    };
  }
  ~DiscoveryDaemonTest() override {
    close(stop_);
    std::filesystem::remove_all(directory_);
  }
  // Turns until `done`, at most ten seconds.
  template <typename Done>
  bool TurnUntil(DiscoveryDaemon& daemon, Done done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      EXPECT_TRUE(daemon.Turn(stop_, milliseconds(20)));
    }
    return true;
  }

  std::string directory_;
  FakeHost host_;
  DaemonPlaces places_;
  std::vector<std::string> log_;
  int ready_ = 0;
  uint32_t domid_ = 1;
  bool store_runs_ = true, full_quota_ = false;
  FakeXenStore* connection_ = nullptr;
  int stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

TEST_F(DiscoveryDaemonTest, GuestPublishesItselfUntilItIsStopped) {
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  ASSERT_EQ(daemon.Open(), 0);
  ASSERT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
  EXPECT_TRUE(ParseParticipation(host_.Value("/local/domain/1/data/xenloop")));
  PeerTable table;
  ASSERT_EQ(table.Open(places_.table.c_str(), geteuid()), 0);
  EXPECT_EQ(table.own_domid(), 1u);
  eventfd_write(stop_, 1);
  EXPECT_FALSE(daemon.Turn(stop_, milliseconds(1000)));
  daemon.Withdraw();
  EXPECT_EQ(host_.Value("/local/domain/1/data/xenloop"), "(absent)");
}

TEST_F(DiscoveryDaemonTest, GuestThatMovesIsGoneUntilItIsReleasedAndIsAnotherPeerThen) {
  const std::string present = "/local/domain/1/data/xenloop";
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  ASSERT_EQ(daemon.Open(), 0);
  ASSERT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
  const std::string before = host_.Value(present);
  host_.Set("/local/domain/1/data/xenloop-move/prepare", FormatMoveToken(1), 1, {});
  ASSERT_TRUE(TurnUntil(daemon, [&] { return host_.Value(present) == "(absent)"; }));
  const int writes = host_.writes;
  for (int i = 0; i < 5; ++i) daemon.Turn(stop_, milliseconds(20));
  EXPECT_EQ(host_.writes, writes);
  host_.RemoveTree("/local/domain/1/data/xenloop-move");
  ASSERT_TRUE(TurnUntil(daemon, [&] { return host_.Value(present) != "(absent)"; }));
  EXPECT_NE(host_.Value(present), before);
}

TEST_F(DiscoveryDaemonTest, LostStoreIsFoundAgain) {
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  ASSERT_EQ(daemon.Open(), 0);
  ASSERT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
  store_runs_ = false;
  connection_->Lose();
  ASSERT_TRUE(TurnUntil(daemon, [this] { return log_.size() >= 2; }));
  EXPECT_THAT(log_, Contains(HasSubstr("no peers: no XenStore")));
  host_.RemoveTree("/local/domain/1/data/xenloop");
  store_runs_ = true;
  EXPECT_TRUE(TurnUntil(
      daemon, [this] { return host_.Value("/local/domain/1/data/xenloop") != "(absent)"; }));
  EXPECT_EQ(ready_, 1);
}

TEST_F(DiscoveryDaemonTest, FullQuotaIsToldOnceAndTriedAgain) {
  full_quota_ = true;
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  ASSERT_EQ(daemon.Open(), 0);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(daemon.Turn(stop_, milliseconds(15)));
  EXPECT_EQ(log_.size(), 1u);
  EXPECT_EQ(ready_, 0);
  full_quota_ = false;
  EXPECT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
}

TEST_F(DiscoveryDaemonTest, Dom0TellsAGuestThatComes) {
  domid_ = 0;
  DiscoveryDaemon daemon(/*dom0=*/true, places_);
  ASSERT_EQ(daemon.Open(), 0);
  ASSERT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
  FakeXenStore guest(&host_, 1);
  ASSERT_TRUE(guest.Write("data/xenloop", FormatParticipation(5)).ok());
  EXPECT_TRUE(TurnUntil(
      daemon, [this] { return host_.Value("/local/domain/1/xenloop/peers/0") != "(absent)"; }));
}

TEST_F(DiscoveryDaemonTest, IdleDaemonSleeps) {
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  ASSERT_EQ(daemon.Open(), 0);
  ASSERT_TRUE(TurnUntil(daemon, [this] { return ready_ == 1; }));
  // Let the last events of its own doing pass; the machine's neighbours may wake it now and then.
  for (int i = 0; i < 5; ++i) daemon.Turn(stop_, milliseconds(50));
  const auto start = std::chrono::steady_clock::now();
  int turns = 0;
  for (; std::chrono::steady_clock::now() - start < milliseconds(500); ++turns) {
    daemon.Turn(stop_, milliseconds(1000));
  }
  EXPECT_LE(turns, 20);
}

TEST_F(DiscoveryDaemonTest, PlaceThatCannotBeWrittenIsAnError) {
  places_.table = directory_ + "/absent/peers";
  DiscoveryDaemon daemon(/*dom0=*/false, places_);
  EXPECT_NE(daemon.Open(), 0);
  EXPECT_THAT(log_, Contains(HasSubstr("absent/peers")));
}

}  // namespace
}  // namespace xenloop
