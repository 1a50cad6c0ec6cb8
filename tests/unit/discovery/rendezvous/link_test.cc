// The channel between two daemons: comes to stand in any order of events, begins anew when one end
// does, and takes no nonsense.
#include "discovery/daemon/rendezvous/link.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "channel/xen/xen_transport.h"
#include "gtest/gtest.h"
#include "tests/contract/fake_xen.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop {
namespace {

class LinkTest : public testing::Test {
 protected:
  LinkTest() : stores_{{&host_, 1}, {&host_, 2}} {
    StartXenTransport(FakeXenCalls(), 1024);
    host_.CreateDomain(1, {});
    host_.CreateDomain(2, {});
  }
  ~LinkTest() override {
    for (auto& link : links_) link.reset();
    EXPECT_EQ(CurrentXenBudget().ports, 0u);
    EXPECT_EQ(CurrentXenBudget().used_pages, 0u);
  }
  void Start(int which) {
    links_[which].reset();  // first, as the end of a process does
    links_[which] = std::make_unique<Link>(&stores_[which], which + 1, 2 - which);
    ASSERT_TRUE(links_[which]->Start().ok());
  }
  // Both look as often as they like; they must come to an end.
  void Settle() {
    for (int turn = 0; turn < 20; ++turn) {
      for (auto& link : links_) {
        if (link != nullptr) static_cast<void>(link->Follow());
      }
    }
  }
  bool Stands() const { return links_[0]->stands() && links_[1]->stands(); }
  void ExpectFramesPass() {
    for (int from = 0; from < 2; ++from) {
      std::vector<Frame> frames;
      ASSERT_TRUE(links_[from]->Send(FrameType::kPacket, 7, "hello", 5));
      ASSERT_TRUE(links_[1 - from]->Receive(&frames));
      ASSERT_EQ(frames.size(), 1u);
      EXPECT_EQ(frames[0].type, FrameType::kPacket);
      EXPECT_EQ(frames[0].bridge, 7u);
      EXPECT_EQ(frames[0].payload, "hello");
    }
  }

  FakeHost host_;
  FakeXenStore stores_[2];
  std::unique_ptr<Link> links_[2];
};

TEST_F(LinkTest, StandsWhoeverBegins) {
  for (const int first : {0, 1}) {
    Start(first);
    static_cast<void>(links_[first]->Follow());
    EXPECT_FALSE(links_[first]->stands());
    Start(1 - first);
    Settle();
    ASSERT_TRUE(Stands());
    ExpectFramesPass();
    for (auto& link : links_) link.reset();
  }
}

TEST_F(LinkTest, StandsAgainAfterEitherDaemonHasBegunAnew) {
  Start(0);
  Start(1);
  Settle();
  ASSERT_TRUE(Stands());
  for (const int again : {0, 1, 1, 0}) {
    Start(again);
    Settle();
    ASSERT_TRUE(Stands());
    ExpectFramesPass();
  }
}

TEST_F(LinkTest, EndsWithTheOtherDaemonAndWithTheGuest) {
  Start(0);
  Start(1);
  Settle();
  links_[1].reset();
  EXPECT_EQ(links_[0]->Follow().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(links_[0]->stands());
  Start(1);
  Settle();
  ASSERT_TRUE(Stands());
  host_.DestroyDomain(2);
  EXPECT_FALSE(links_[0]->Follow().ok());
  EXPECT_FALSE(links_[0]->stands());
}

TEST_F(LinkTest, ManyFramesWaitForRoomAndArriveInOrder) {
  Start(0);
  Start(1);
  Settle();
  constexpr uint32_t kFrames = 500;  // more than the FIFO holds
  const std::string payload(100, 'x');
  for (uint32_t i = 0; i < kFrames; ++i)
    ASSERT_TRUE(links_[0]->Send(FrameType::kPacket, i, payload.data(), payload.size()));
  std::vector<Frame> frames;
  for (int turn = 0; turn < 100 && frames.size() < kFrames; ++turn) {
    ASSERT_TRUE(links_[1]->Receive(&frames));
    links_[0]->Pump();
  }
  ASSERT_EQ(frames.size(), kFrames);
  for (uint32_t i = 0; i < kFrames; ++i) {
    EXPECT_EQ(frames[i].bridge, i);
    EXPECT_EQ(frames[i].payload, payload);
  }
}

TEST_F(LinkTest, APeerThatDoesNotReadIsNotWaitedForWithoutEnd) {
  Start(0);
  Start(1);
  Settle();
  const std::string payload(400, 'x');
  int sent = 0;
  while (links_[0]->Send(FrameType::kPacket, 1, payload.data(), payload.size())) ++sent;
  EXPECT_LT(sent, 3000);
  // Also by one who does not listen to the answer, as with the refusals of a flood of questions.
  const size_t waiting = links_[0]->waiting_bytes();
  for (int i = 0; i < 100; ++i)
    EXPECT_FALSE(links_[0]->Send(FrameType::kRefused, 1, payload.data(), payload.size()));
  EXPECT_EQ(links_[0]->waiting_bytes(), waiting);
  std::vector<Frame> frames;
  EXPECT_FALSE(links_[0]->Receive(&frames)) << "the link is to begin anew";
}

TEST_F(LinkTest, AProducerWhoNeverStopsIsNotFollowedWithoutEnd) {
  Start(0);
  Ticket ticket;
  ticket.peer = 1;
  FifoMapping hostile;
  ASSERT_EQ(XenTransport().create_fifo(16384, &hostile, &ticket), 0);
  // Sound frames of 16 bytes: nothing in them breaks the link.
  const FrameHeader header{sizeof(FrameHeader), FrameType::kClose, 1, 0};
  LinkKey ours{};
  ASSERT_TRUE(ParseLinkKey(*stores_[0].Read("data/xenloop-link/2"), &ours));
  const LinkKey key{1, ticket.words[0], ticket.words[1], ticket.words[2], 0, ours.nonce};
  ASSERT_TRUE(stores_[1].Write("data/xenloop-link/1", FormatLinkKey(key)).ok());
  ASSERT_TRUE(stores_[1].SetPermissions("data/xenloop-link/1", {"n2", "r1"}).ok());
  ASSERT_TRUE(links_[0]->Follow().ok());
  ASSERT_TRUE(links_[0]->stands());
  for (uint64_t at = 0; at < 16384; at += sizeof header)
    memcpy(hostile.fifo.data + at, &header, sizeof header);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      FifoHeader* const there = hostile.fifo.header;
      there->producer.store(there->consumer.load() + (16384u << 1));
    }
  });
  while (hostile.fifo.header->producer.load() == 0) std::this_thread::yield();
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
  size_t most = 0;
  bool sound = true;
  while (std::chrono::steady_clock::now() < end) {
    std::vector<Frame> frames;
    sound = links_[0]->Receive(&frames) && sound;
    most = std::max(most, frames.size());
  }
  stop = true;
  writer.join();
  EXPECT_TRUE(sound);
  EXPECT_LE(most, 2 * 16384 / sizeof header);
  XenTransport().release_fifo(&hostile);
}

TEST_F(LinkTest, NonsenseOfThePeerBreaksTheLinkAndNothingElse) {
  // The other end grants what it likes and writes what it likes.
  Start(0);
  std::mt19937 random(1);
  Ticket ticket;
  ticket.peer = 1;
  FifoMapping hostile;
  ASSERT_EQ(XenTransport().create_fifo(16384, &hostile, &ticket), 0);
  for (int round = 0; round < 50; ++round) {
    static_cast<void>(links_[0]->Follow());
    LinkKey ours{};
    ASSERT_TRUE(ParseLinkKey(*stores_[0].Read("data/xenloop-link/2"), &ours));
    LinkKey key{random() | 1u,   ticket.words[0], ticket.words[1],
                ticket.words[2], random() % 4,    ours.nonce};
    if (random() % 4 == 0) key.reference = random();
    if (random() % 4 == 0) key.pages = random() % 9;
    ASSERT_TRUE(stores_[1].Write("data/xenloop-link/1", FormatLinkKey(key)).ok());
    ASSERT_TRUE(stores_[1].SetPermissions("data/xenloop-link/1", {"n2", "r1"}).ok());
    static_cast<void>(links_[0]->Follow());
    static_cast<void>(links_[0]->Follow());
    for (size_t i = 0; i < 4000; ++i) hostile.fifo.data[i] = static_cast<uint8_t>(random());
    hostile.fifo.header->producer.store(random() % 2 == 0 ? random() : (random() % 4000) << 1);
    std::vector<Frame> frames;
    if (!links_[0]->Receive(&frames)) static_cast<void>(links_[0]->Reset());
    for (const Frame& frame : frames) EXPECT_LE(frame.payload.size(), kLongestFrame);
    ASSERT_TRUE(links_[0]->Send(FrameType::kPacket, 1, "x", 1));
  }
  XenTransport().release_fifo(&hostile);
}

TEST(LinkKeyTest, AnyTextIsAKeyOrNot) {
  const LinkKey key{0xfedcba9876543210, 8, 5, ~uint64_t{0}, 17, 1};
  LinkKey read{};
  ASSERT_TRUE(ParseLinkKey(FormatLinkKey(key), &read));
  EXPECT_EQ(memcmp(&read, &key, sizeof key), 0);
  for (const char* text :
       {"", "1", "2 1 2 3 4 5 6", "1 1 2 3 4 5", "1 0 2 3 4 5 6", "1 1 2 3 4 5 6 7",
        "1 1 2 3 4 5 6x", "1 x 2 3 4 5 6", "1 11111111111111111 2 3 4 5 6"}) {
    EXPECT_FALSE(ParseLinkKey(text, &read)) << text;
  }
}

}  // namespace
}  // namespace xenloop
