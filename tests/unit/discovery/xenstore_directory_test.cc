// Collation over the twin in memory: guests appear, leave, are destroyed, restart, lie; daemons
// restart; quotas are full. What a guest's daemon knows is asserted, and what stands in the store.
#include <memory>

#include "discovery/daemon/xenstore/dom0_directory.h"
#include "discovery/daemon/xenstore/guest_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const Mac kMacOfDom0 = *ParseMac("52:54:00:00:00:01");
std::string MacText(uint32_t domid) { return absl::StrCat("00:16:3e:00:00:0", domid); }
Mac MacOf(uint32_t domid) { return *ParseMac(MacText(domid)); }

// A guest with its daemon.
struct Guest {
  Guest(FakeHost* host, uint32_t domid, uint64_t incarnation)
      : store(host, domid), directory(&store, incarnation) {}
  FakeXenStore store;
  GuestDirectory directory;
};

class XenStoreDirectoryTest : public testing::Test {
 protected:
  Guest& Start(uint32_t domid, uint64_t incarnation) {
    guests_[domid] = std::make_unique<Guest>(&host_, domid, incarnation);
    EXPECT_TRUE(guests_[domid]->directory.Start().ok());
    EXPECT_TRUE(guests_[domid]->directory.Update().ok());
    return *guests_[domid];
  }
  // Events are taken and acted upon until nobody has any.
  void Settle() {
    for (int turns = 0; turns < 20; ++turns) {
      int events = 0;
      if (const auto taken = dom0_store_->TakeEvents(); taken.ok() && *taken > 0) {
        events += *taken;
        ASSERT_TRUE(dom0_->Collate({kMacOfDom0}).ok());
      }
      for (auto& [domid, guest] : guests_) {
        const auto taken = guest->store.TakeEvents();
        if (!taken.ok() || *taken == 0) continue;
        events += *taken;
        guest->directory.Update().IgnoreError();
      }
      if (events == 0) return;
    }
    FAIL() << "the daemons keep each other busy";
  }
  void StartDom0(uint64_t incarnation) {
    dom0_.reset();
    dom0_store_ = std::make_unique<FakeXenStore>(&host_, 0);
    dom0_ = std::make_unique<Dom0Directory>(dom0_store_.get(), incarnation);
    ASSERT_TRUE(dom0_->Start().ok());
  }
  const Announcements& KnownTo(uint32_t domid) { return guests_[domid]->directory.peers(); }

  void SetUp() override {
    for (const uint32_t domid : {1u, 2u, 3u}) host_.CreateDomain(domid, {MacText(domid)});
    StartDom0(100);
    Start(1, 101);
    Start(2, 102);
    Settle();
  }

  FakeHost host_;
  std::unique_ptr<FakeXenStore> dom0_store_;
  std::unique_ptr<Dom0Directory> dom0_;
  std::map<uint32_t, std::unique_ptr<Guest>> guests_;
};

TEST_F(XenStoreDirectoryTest, GuestsThatTakePartLearnOfEachOtherAndOfDom0) {
  const Announcements one = {{0, {100, {kMacOfDom0}}}, {2, {102, {MacOf(2)}}}};
  EXPECT_EQ(KnownTo(1), one);
  const Announcements two = {{0, {100, {kMacOfDom0}}}, {1, {101, {MacOf(1)}}}};
  EXPECT_EQ(KnownTo(2), two);
  EXPECT_EQ(guests_[1]->directory.own_domid(), 1u);
}

TEST_F(XenStoreDirectoryTest, GuestThatDoesNotTakePartIsNeitherToldNorNamed) {
  EXPECT_EQ(KnownTo(1).count(3), 0u);
  EXPECT_EQ(host_.Value("/local/domain/3/xenloop/peers/1"), "(absent)");
}

TEST_F(XenStoreDirectoryTest, OnlyTheGuestItselfMayReadWhatItIsTold) {
  EXPECT_TRUE(guests_[1]->store.Read("/local/domain/1/xenloop/peers/2").ok());
  EXPECT_TRUE(
      absl::IsPermissionDenied(guests_[2]->store.Read("/local/domain/1/xenloop/peers/2").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(guests_[1]->store.Write("xenloop/peers/2", "x")));
}

TEST_F(XenStoreDirectoryTest, DestroyedGuestVanishesAndLeavesNoKeys) {
  guests_.erase(2);
  host_.DestroyDomain(2);
  Settle();
  EXPECT_EQ(KnownTo(1).count(2), 0u);
  EXPECT_EQ(host_.Value("/local/domain/2"), "(absent)");
  EXPECT_EQ(dom0_store_->watches.count("/local/domain/2/data/xenloop"), 0u);
}

TEST_F(XenStoreDirectoryTest, KeysWrittenForADomainThatHasJustGoneAreTakenAway) {
  guests_.erase(2);
  host_.DestroyDomain(2);
  host_.Set("/local/domain/2/xenloop/peers/1", "late", 0, {});
  Settle();
  EXPECT_EQ(host_.Value("/local/domain/2"), "(absent)");
}

TEST_F(XenStoreDirectoryTest, GuestThatWithdrawsVanishes) {
  guests_[2]->directory.Withdraw();
  guests_.erase(2);
  Settle();
  EXPECT_EQ(KnownTo(1).count(2), 0u);
  EXPECT_EQ(host_.Value("/local/domain/2/xenloop/peers/1"), "(absent)");
}

TEST_F(XenStoreDirectoryTest, GuestsDaemonThatRestartsIsAnotherIncarnation) {
  Start(2, 202);
  Settle();
  EXPECT_EQ(KnownTo(1).at(2).incarnation, 202u);
}

TEST_F(XenStoreDirectoryTest, NewGuestIsKnownAfterItsDaemonHasStarted) {
  host_.CreateDomain(4, {MacText(4), "00:16:3e:00:01:04"});
  Settle();
  EXPECT_EQ(KnownTo(1).count(4), 0u);
  Start(4, 104);
  Settle();
  EXPECT_EQ(KnownTo(1).at(4).macs, (std::vector<Mac>{MacOf(4), *ParseMac("00:16:3e:00:01:04")}));
}

TEST_F(XenStoreDirectoryTest, VifThatIsPluggedInOrOutIsTold) {
  host_.Set("/local/domain/0/backend/vif/2/1/mac", "00:16:3e:00:09:02", 0, {2});
  Settle();
  EXPECT_EQ(KnownTo(1).at(2).macs.size(), 2u);
  host_.RemoveTree("/local/domain/0/backend/vif/2/0");
  Settle();
  EXPECT_EQ(KnownTo(1).at(2).macs, std::vector<Mac>{*ParseMac("00:16:3e:00:09:02")});
}

TEST_F(XenStoreDirectoryTest, WhatAGuestSaysOfItsOwnMacCountsForNothing) {
  ASSERT_TRUE(guests_[2]->store.Write("device/vif/0/mac", MacText(1)).ok());
  ASSERT_TRUE(guests_[2]->store.Write("data/xenloop/mac", MacText(1)).ok());
  Settle();
  EXPECT_EQ(KnownTo(1).at(2).macs, std::vector<Mac>{MacOf(2)});
}

TEST_F(XenStoreDirectoryTest, NonsenseInTheParticipationKeyTakesTheGuestOutAndHarmsNobody) {
  for (const std::string& nonsense :
       {std::string(2000, 'x'), std::string("1 "), std::string("1 zz\0zz", 7), std::string("")}) {
    guests_.erase(2);
    FakeXenStore liar(&host_, 2);
    ASSERT_TRUE(liar.Write("data/xenloop", nonsense).ok());
    Settle();
    EXPECT_EQ(KnownTo(1).count(2), 0u);
    EXPECT_EQ(KnownTo(1).count(0), 1u);
    EXPECT_THAT(dom0_->problems(), testing::ElementsAre(HasSubstr("domain 2")));
  }
}

TEST_F(XenStoreDirectoryTest, MacThatTwoGuestsHaveNamesNobody) {
  host_.CreateDomain(4, {MacText(2), MacText(4)});
  Start(4, 104);
  Settle();
  EXPECT_THAT(KnownTo(1).at(2).macs, IsEmpty());
  EXPECT_EQ(KnownTo(1).at(4).macs, std::vector<Mac>{MacOf(4)});
}

TEST_F(XenStoreDirectoryTest, Dom0sDaemonThatRestartsClearsWhatTheFormerOneLeft) {
  guests_[2]->directory.Withdraw();  // while nobody looks
  guests_.erase(2);
  StartDom0(200);
  Settle();
  EXPECT_EQ(KnownTo(1), (Announcements{{0, {200, {kMacOfDom0}}}}));
  EXPECT_EQ(host_.Value("/local/domain/1/xenloop/peers/2"), "(absent)");
  EXPECT_EQ(host_.Value("/local/domain/2/xenloop"), "(absent)");
}

TEST_F(XenStoreDirectoryTest, Dom0sDaemonThatEndsTellsThatNobodyIsCoresident) {
  dom0_->Withdraw();
  Settle();
  EXPECT_THAT(KnownTo(1).count(2), 0u);
}

TEST_F(XenStoreDirectoryTest, CollatingAgainWritesNothing) {
  const int before = host_.writes;
  ASSERT_TRUE(dom0_->Collate({kMacOfDom0}).ok());
  EXPECT_EQ(host_.writes, before);
}

TEST_F(XenStoreDirectoryTest, GuestWithAFullQuotaIsToldSoAndKnowsNobody) {
  guests_.erase(2);
  host_.RemoveTree("/local/domain/2/data/xenloop");
  auto full = std::make_unique<Guest>(&host_, 2, 202);
  full->store.full_quota = true;
  EXPECT_TRUE(absl::IsResourceExhausted(full->directory.Start()));
  EXPECT_TRUE(absl::IsResourceExhausted(full->directory.Update()));
  EXPECT_THAT(full->directory.peers(), IsEmpty());
}

TEST_F(XenStoreDirectoryTest, GuestWhoseKeyIsTakenAwayPublishesItAgain) {
  host_.RemoveTree("/local/domain/2/data/xenloop");
  Settle();
  EXPECT_EQ(KnownTo(1).at(2).incarnation, 102u);
}

TEST_F(XenStoreDirectoryTest, LossOfTheStoreIsSaidAsSuch) {
  dom0_store_->lost = true;
  EXPECT_TRUE(absl::IsUnavailable(dom0_->Collate({})));
  guests_[1]->store.lost = true;
  EXPECT_TRUE(absl::IsUnavailable(guests_[1]->directory.Update()));
}

}  // namespace
}  // namespace xenloop
