// The proof that two sockets are the ends of one connection: pairs, strangers in step, strangers
// that are ahead, and traffic that proves nothing.
#include "channel/pairing.h"

#include <gtest/gtest.h>

#include <random>

namespace xenloop {
namespace {

// A connection as its two ends count it; nothing is lost and nothing is under way.
struct Connection {
  PairingCounts counts[2];
  bool owes_acknowledgement[2] = {false, false};
  bool acknowledges_at_once = false;

  void Segment(int from) {
    ++counts[from].segments_sent;
    ++counts[1 - from].segments_received;
    owes_acknowledgement[from] = false;
  }
  void Acknowledge(int from) {
    if (owes_acknowledgement[from]) Segment(from);
  }
  void Send(int from, uint64_t bytes) {
    counts[from].bytes_sent += bytes;
    ++counts[from].data_segments_sent;
    counts[1 - from].bytes_received += bytes;
    Segment(from);
    owes_acknowledgement[1 - from] = true;
    if (acknowledges_at_once) Acknowledge(1 - from);
  }
};

// One end of a connection, and what it believes of whoever has its peer's name.
struct Prover {
  Connection* connection;
  int end;
  PairingBoard board{};
  Pairing pairing;

  Prover(Connection* c, int e) : connection(c), end(e) {}
  void Meet(Prover& other) { pairing.Begin(&board, &other.board); }
  bool Undecided() const { return pairing.verdict.load() == PairingVerdict::kNone; }
  void Received(bool coin) {
    if (Undecided() && pairing.Received(connection->counts[end], coin))
      connection->Acknowledge(end);
  }
  void Sent() {
    if (Undecided()) pairing.Sent(connection->counts[end]);
  }
};

class Coins {
 public:
  explicit Coins(uint32_t seed) : random_(seed) {}
  bool Toss() { return (random_() & 1) != 0; }

 private:
  std::mt19937 random_;
};

void Exchange(Prover& client, Prover& server, Coins& coins) {
  client.connection->Send(0, 64);
  client.Sent();
  server.Received(coins.Toss());
  server.connection->Send(1, 64);
  server.Sent();
  client.Received(coins.Toss());
}

TEST(PairingTest, EndsOfOneConnectionKnowEachOtherAfterAboutTwentyAnswers) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    Coins coins(seed);
    Connection connection;
    Prover client(&connection, 0), server(&connection, 1);
    client.Meet(server);
    server.Meet(client);
    int answers = 0;
    for (; answers < 100 && (client.Undecided() || server.Undecided()); ++answers)
      Exchange(client, server, coins);
    EXPECT_EQ(client.pairing.verdict.load(), PairingVerdict::kSame);
    EXPECT_EQ(server.pairing.verdict.load(), PairingVerdict::kSame);
    EXPECT_LT(answers, 25);
  }
}

TEST(PairingTest, AnEndThatFallsSilentLearnsItFromTheOther) {
  Coins coins(1);
  Connection connection;
  Prover client(&connection, 0), server(&connection, 1);
  client.Meet(server);
  server.Meet(client);
  while (client.Undecided() && server.Undecided()) Exchange(client, server, coins);
  Prover& last = client.Undecided() ? client : server;
  last.pairing.Look();
  EXPECT_EQ(last.pairing.verdict.load(), PairingVerdict::kSame);
}

TEST(PairingTest, LostSegmentsDelayAPairAndDoNotPartIt) {
  Coins coins(3);
  Connection connection;
  Prover client(&connection, 0), server(&connection, 1);
  client.Meet(server);
  server.Meet(client);
  for (int i = 0; i < 100 && server.Undecided(); ++i) {
    if (i == 10 || i == 12) ++connection.counts[0].segments_sent;  // on its way, and gone
    Exchange(client, server, coins);
  }
  EXPECT_EQ(server.pairing.verdict.load(), PairingVerdict::kSame);
}

// Two connections of equal histories, byte for byte and segment for segment; the client of each has
// the name of the other's.
TEST(PairingTest, StrangersInStepAreToldApart) {
  for (const bool both_cross : {false, true}) {
    for (uint32_t seed = 0; seed < 500; ++seed) {
      Coins coins(seed);
      Connection first, second;
      Prover client_1(&first, 0), server_1(&first, 1);
      Prover client_2(&second, 0), server_2(&second, 1);
      client_2.Meet(server_1);
      server_1.Meet(client_2);
      if (both_cross) {
        client_1.Meet(server_2);
        server_2.Meet(client_1);
      } else {
        client_1.pairing.verdict = server_2.pairing.verdict = PairingVerdict::kNoAnswer;
      }
      for (int i = 0; i < 400; ++i) {
        Exchange(client_1, server_1, coins);
        Exchange(client_2, server_2, coins);
      }
      ASSERT_EQ(client_2.pairing.verdict.load(), PairingVerdict::kOther) << seed;
      ASSERT_EQ(server_1.pairing.verdict.load(), PairingVerdict::kOther) << seed;
    }
  }
}

TEST(PairingTest, AStrangerWhoHasSentLessIsToldApartAtOnce) {
  Coins coins(5);
  Connection first, second;
  Prover client_1(&first, 0), server_1(&first, 1);
  Prover client_2(&second, 0), server_2(&second, 1);
  client_1.pairing.verdict = server_2.pairing.verdict = PairingVerdict::kNoAnswer;
  first.Send(0, 1000);
  client_2.Meet(server_1);
  server_1.Meet(client_2);
  int answers = 0;
  for (; answers < 100 && server_1.Undecided(); ++answers) {
    Exchange(client_1, server_1, coins);
    Exchange(client_2, server_2, coins);
  }
  EXPECT_EQ(server_1.pairing.verdict.load(), PairingVerdict::kOther);
  EXPECT_LT(answers, 20);
  client_2.pairing.Look();
  EXPECT_EQ(client_2.pairing.verdict.load(), PairingVerdict::kOther);
}

// No toss decides about a segment: neither a pair nor strangers.
TEST(PairingTest, AKernelThatAcknowledgesByItselfProvesNothing) {
  Coins coins(7);
  Connection connection;
  connection.acknowledges_at_once = true;
  Prover client(&connection, 0), server(&connection, 1);
  client.Meet(server);
  server.Meet(client);
  for (uint32_t i = 0; i <= Pairing::kMostMessages; ++i) Exchange(client, server, coins);
  EXPECT_EQ(client.pairing.verdict.load(), PairingVerdict::kNoAnswer);
  EXPECT_EQ(server.pairing.verdict.load(), PairingVerdict::kNoAnswer);
}

// An answer so late that the kernel would have acknowledged anyway.
TEST(PairingTest, TossesBeforeLateAnswersDoNotCount) {
  Connection connection;
  Prover client(&connection, 0), server(&connection, 1);
  client.Meet(server);
  server.Meet(client);
  for (int i = 0; i < 200; ++i) {
    connection.Send(0, 64);
    client.Sent();
    server.Received(true);
    connection.counts[1].quiet_ms = 50;
    connection.Send(1, 64);
    server.Sent();
    client.Received(false);
    connection.counts[0].quiet_ms = 50;
    connection.Acknowledge(0);
  }
  EXPECT_TRUE(client.Undecided());
  EXPECT_TRUE(server.Undecided());
}

// Whatever a peer writes: a verdict, or none.
TEST(PairingTest, NonsenseOnTheBoardHarmsNobody) {
  std::mt19937_64 random(9);
  Coins coins(9);
  for (int round = 0; round < 100; ++round) {
    Connection first, second;
    Prover other_client(&first, 0), server(&first, 1), client(&second, 0);
    other_client.pairing.verdict = client.pairing.verdict = PairingVerdict::kNoAnswer;
    server.Meet(client);
    for (int i = 0; i < 100; ++i) {
      Exchange(other_client, server, coins);
      client.board.count = static_cast<uint32_t>(random());
      client.board.bits = static_cast<uint32_t>(random() & 7);
      client.board.verdict = static_cast<uint32_t>(random() | 8);
      for (std::atomic<uint64_t>& sample : client.board.samples) sample = random();
    }
    EXPECT_NE(server.pairing.verdict.load(), PairingVerdict::kSame);
  }
}

}  // namespace
}  // namespace xenloop
