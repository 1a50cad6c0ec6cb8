// Two daemons on two addresses of this machine's loopback ask each other where a reader stands. The
// agents are sockets that the test holds.
#include "discovery/daemon/rendezvous/position.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>

#include "discovery/daemon/rendezvous/bridge.h"

namespace xenloop {
namespace {

Endpoint At(const char* text, uint16_t port) {
  Endpoint end;
  end.address[10] = end.address[11] = 0xff;
  inet_pton(AF_INET, text, end.address + 12);
  end.port = port;
  return end;
}

class PositionTest : public testing::Test {
 protected:
  static constexpr uint64_t kIdentity = 0x1122334455667788;

  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, asker_), 0);
    const Endpoint here = At("127.0.0.1", 0), there = At("127.0.0.2", 0);
    for (uint16_t port = 29000; port < 29100; ++port) {
      here_ = std::make_unique<PositionExchange>([](const Tuple&) { return -ENOENT; });
      there_ = std::make_unique<PositionExchange>([this](const Tuple& tuple) {
        ++connects_;
        return holds_ && SameTuple(tuple, tuple_) ? NewAgent() : -ENOENT;
      });
      if (here_->Open(port, &here).ok() && there_->Open(port, &there).ok()) {
        port_ = port;
        return;
      }
    }
    FAIL() << "no port";
  }
  void TearDown() override {
    for (const int fd : {asker_[0], asker_[1], agent_}) {
      if (fd >= 0) close(fd);
    }
  }
  int NewAgent() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) != 0) return -errno;
    if (agent_ >= 0) close(agent_);
    agent_ = pair[0];
    return pair[1];
  }
  ControlMessage Question() const {
    ControlMessage question;
    question.type = ControlType::kWhere;
    question.sender_slot = 4;
    question.sender_generation = 9;
    question.tuple = tuple_;
    question.words[0] = kIdentity;
    return question;
  }
  void Pass(int milliseconds) {
    for (int i = 0; i < milliseconds / 10; ++i) {
      here_->Turn();
      there_->Turn();
      usleep(10000);
    }
  }
  // Turns until a packet has come; false: none within 10 s.
  bool Comes(const int& fd, ControlMessage* message) {
    for (int i = 0; i < 1000; ++i) {
      if (fd >= 0 && ReadPacket(fd, message) > 0) return true;
      Pass(10);
    }
    return false;
  }
  void Answer(uint64_t identity, uint64_t consumed) {
    ControlMessage question;
    ASSERT_TRUE(Comes(agent_, &question));
    EXPECT_EQ(question.type, ControlType::kWhere);
    EXPECT_EQ(question.words[0], kIdentity);
    EXPECT_TRUE(SameTuple(question.tuple, tuple_));
    ControlMessage answer;
    answer.type = ControlType::kStands;
    answer.words[0] = identity;
    answer.words[1] = consumed;
    ASSERT_TRUE(WritePacket(agent_, answer));
  }

  // As the one who is asked sees it.
  const Tuple tuple_{At("127.0.0.2", 80), At("127.0.0.1", 40000)};
  uint16_t port_ = 0;
  int asker_[2] = {-1, -1};
  int agent_ = -1;
  int connects_ = 0;
  bool holds_ = true;
  std::unique_ptr<PositionExchange> here_, there_;
};

TEST_F(PositionTest, TheAnswerComesBack) {
  here_->Ask(asker_[0], Question());
  Answer(kIdentity, 123456);
  ControlMessage answer;
  ASSERT_TRUE(Comes(asker_[1], &answer));
  EXPECT_EQ(answer.type, ControlType::kStands);
  EXPECT_EQ(answer.receiver_slot, 4u);
  EXPECT_EQ(answer.receiver_generation, 9u);
  EXPECT_EQ(answer.words[0], kIdentity);
  EXPECT_EQ(answer.words[1], 123456u);
  Pass(500);
  EXPECT_EQ(ReadPacket(asker_[1], &answer), -EAGAIN) << "answered twice";
}

TEST_F(PositionTest, WhatIsLostIsAskedAgain) {
  // Nobody listens there yet: the packet is lost.
  const Endpoint there = At("127.0.0.2", 0);
  there_.reset();
  here_->Ask(asker_[0], Question());
  usleep(20000);
  there_ = std::make_unique<PositionExchange>([this](const Tuple&) { return NewAgent(); });
  ASSERT_TRUE(there_->Open(port_, &there).ok());
  Answer(kIdentity, 7);
  ControlMessage answer;
  ASSERT_TRUE(Comes(asker_[1], &answer));
  EXPECT_EQ(answer.words[1], 7u);
}

TEST_F(PositionTest, NobodyKnows) {
  here_->Ask(asker_[0], Question());
  Answer(kIdentity + 1, 5);  // of another FIFO
  Pass(300);
  ControlMessage answer;
  EXPECT_EQ(ReadPacket(asker_[1], &answer), -EAGAIN);
  for (int i = 0; i < 200 && connects_ < 2; ++i) Pass(10);
  EXPECT_GT(connects_, 1);  // asked again meanwhile
  Pass(3200);
  const int before = connects_;
  Pass(500);
  EXPECT_EQ(connects_, before);  // and that has ended
}

TEST_F(PositionTest, ForgottenQuestionsAreNotAnswered) {
  here_->Ask(asker_[0], Question());
  for (int i = 0; i < 1000 && agent_ < 0; ++i) Pass(10);
  here_->Forget(asker_[0]);
  Answer(kIdentity, 5);
  Pass(100);
  ControlMessage answer;
  EXPECT_EQ(ReadPacket(asker_[1], &answer), -EAGAIN);
}

// From the network: garbage, answers to questions that nobody has asked, a flood.
TEST_F(PositionTest, Strangers) {
  const int stranger = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port_);
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  here_->Ask(asker_[0], Question());
  std::string packet(80, 'x');
  for (size_t length : {0, 1, 71, 72, 73, 80}) {
    sendto(stranger, packet.data(), length, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  // An answer with a guessed identity: as ours, but for one bit of it.
  uint32_t words[18] = {0x584c574c, 1, 1, 4, 9};
  memcpy(words + 5, &tuple_, sizeof tuple_);
  const uint64_t guess = kIdentity ^ 1;
  memcpy(words + 14, &guess, sizeof guess);
  sendto(stranger, words, sizeof words, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  Pass(50);
  ControlMessage answer;
  EXPECT_EQ(ReadPacket(asker_[1], &answer), -EAGAIN);
  here_->Ask(asker_[0], Question());
  // The right one, to show that it was the number that counted.
  const uint64_t right = kIdentity;
  memcpy(words + 14, &right, sizeof right);
  sendto(stranger, words, sizeof words, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  EXPECT_TRUE(Comes(asker_[1], &answer));
  // Questions about connections that nobody holds: looked up so often a second, and no more.
  inet_pton(AF_INET, "127.0.0.2", &to.sin_addr);
  connects_ = 0;
  const auto begun = std::chrono::steady_clock::now();
  holds_ = false;
  words[2] = 0;
  memcpy(words + 14, &guess, sizeof guess);
  for (int i = 0; i < 3000; ++i) {
    sendto(stranger, words, sizeof words, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
    if (i % 50 == 0) there_->Turn();
  }
  for (int i = 0; i < 100 && connects_ == 0; ++i) Pass(10);
  EXPECT_GT(connects_, 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  EXPECT_LE(connects_, 1000 * (2 + static_cast<int>(took.count())));
  close(stranger);
}

}  // namespace
}  // namespace xenloop
