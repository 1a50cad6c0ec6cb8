// Several threads on one connection: every byte is sent once and received once; one arrival wakes
// what it can satisfy; the end of the stream wakes all.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

using Tally = std::array<size_t, 256>;  // how often each byte value came

class ThreadTest : public PairTest {
 protected:
  // Receives in `threads` threads until the end of the stream.
  Tally ReceiveInThreads(int threads) {
    std::vector<BackgroundCall<Tally>> parts;
    for (int i = 0; i < threads; ++i) {
      parts.push_back(InThread([this, i] {
        Tally tally{};
        std::minstd_rand random(Seed() + i);
        std::vector<unsigned char> buffer(20000);
        for (;;) {
          const ssize_t count = recv(fd(), buffer.data(), 1 + random() % buffer.size(), 0);
          if (count <= 0) return tally;
          for (ssize_t k = 0; k < count; ++k) tally[buffer[k]]++;
        }
      }));
    }
    Tally sum{};
    for (auto& part : parts) {
      const Tally tally = part.get();
      for (size_t value = 0; value < 256; ++value) sum[value] += tally[value];
    }
    return sum;
  }
};
INSTANTIATE_TEST_SUITE_P(, ThreadTest, AllVariants(), VariantName);

TEST_P(ThreadTest, OneReadsWhileAnotherWrites) {
  constexpr size_t kBytes = 4 * 1000 * 1000;
  peer().Start(Op::kEcho, kBytes, 30000, 5);
  auto sending = InThread([this] { pair().Send(kBytes, {50000, 7}); });
  pair().Receive(kBytes, {50000, 7});
  sending.get();
  peer().ExpectMoved(kBytes);
}

TEST_P(ThreadTest, OneReadsWhileAnotherWritesAndRoutesChange) {
  constexpr size_t kBytes = 2 * 1000 * 1000;
  const SwitchStorm storm(fd());
  peer().Start(Op::kEcho, kBytes, 30000, 0);
  auto sending = InThread([this] { pair().Send(kBytes, {5000, 0}); });
  pair().Receive(kBytes, {5000, 0});
  sending.get();
  peer().ExpectMoved(kBytes);
}

// Senders with a letter each; the peer's count of every letter must be right.
TEST_P(ThreadTest, SeveralSenders) {
  constexpr size_t kBytes = 100 * 1000;
  constexpr int kThreads = 4;
  peer().Start(Op::kTally, kThreads * kBytes);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i] {
      const std::vector<char> letters(5000, static_cast<char>('a' + i));
      std::minstd_rand random(Seed() + i);
      for (size_t left = kBytes; left > 0;) {
        const size_t size = std::min<size_t>(left, 1 + random() % (left % 7 == 0 ? 5000 : 64));
        const ssize_t sent = send(fd(), letters.data(), size, MSG_NOSIGNAL);
        ASSERT_GT(sent, 0);
        left -= sent;
      }
    });
  }
  Mark();
  for (std::thread& thread : threads) thread.join();
  const Reply reply = peer().Wait();
  EXPECT_EQ(static_cast<size_t>(reply.result), kThreads * kBytes);
  size_t counts[kThreads];
  ASSERT_GE(reply.text_length, sizeof(counts));
  memcpy(counts, reply.text, sizeof(counts));
  for (const size_t count : counts) EXPECT_EQ(count, kBytes);
}

TEST_P(ThreadTest, SeveralReceivers) {
  constexpr size_t kBytes = 1000 * 1000;
  std::vector<unsigned char> bytes(kBytes);
  pair().received.Fill(bytes.data(), kBytes);
  Tally expected{};
  for (const unsigned char byte : bytes) expected[byte]++;
  peer().StartSend(kBytes, {20000, 9});
  peer().Start(Op::kShutdown, SHUT_WR);
  EXPECT_EQ(ReceiveInThreads(4), expected);
  peer().ExpectMoved(kBytes);
  EXPECT_EQ(peer().Wait().error, 0);
}

TEST_P(ThreadTest, SeveralReceiversWhileRoutesChange) {
  constexpr size_t kBytes = 1000 * 1000;
  std::vector<unsigned char> bytes(kBytes);
  pair().received.Fill(bytes.data(), kBytes);
  Tally expected{};
  for (const unsigned char byte : bytes) expected[byte]++;
  const SwitchStorm storm(fd());
  peer().StartSend(kBytes, {2000, 9});
  peer().Start(Op::kShutdown, SHUT_WR);
  EXPECT_EQ(ReceiveInThreads(3), expected);
  peer().ExpectMoved(kBytes);
  EXPECT_EQ(peer().Wait().error, 0);
}

TEST_P(ThreadTest, OneByteSatisfiesOneReceiver) {
  constexpr int kThreads = 3;
  std::atomic<int> bytes{0}, ends{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      char byte;
      const ssize_t count = recv(fd(), &byte, 1, 0);
      if (count == 1) bytes++;
      if (count == 0) ends++;
    });
  }
  poll(nullptr, 0, kBlockedMs);
  Mark();
  peer().Send(1);
  const Stopwatch stopwatch;
  while (bytes.load() == 0 && stopwatch.ElapsedMs() < kSoonMs) poll(nullptr, 0, 1);
  poll(nullptr, 0, kBlockedMs);
  EXPECT_EQ(bytes.load(), 1);
  EXPECT_EQ(ends.load(), 0);
  peer().Shutdown(SHUT_WR);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bytes.load(), 1);
  EXPECT_EQ(ends.load(), kThreads - 1);
}

TEST_P(ThreadTest, BlockedSendersAllGoOn) {
  constexpr size_t kBytes = 300 * 1000;
  constexpr int kThreads = 3;
  // What fills the connection are letters too, so that a tally can judge the whole stream.
  const std::vector<char> filler(65536, 'a' + kThreads);
  const int bytes = 200 * 1000;
  ASSERT_EQ(setsockopt(fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
  const size_t filled =
      FillUpWith([&] { return send(fd(), filler.data(), filler.size(), MSG_DONTWAIT); });
  std::vector<BackgroundCall<size_t>> senders;
  for (int i = 0; i < kThreads; ++i) {
    senders.push_back(InThread([this, i] {
      const std::vector<char> letters(kBytes, static_cast<char>('a' + i));
      size_t sent = 0;
      while (sent < kBytes) {
        const ssize_t count = send(fd(), letters.data() + sent, kBytes - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += count;
      }
      return sent;
    }));
  }
  for (const auto& sender : senders) EXPECT_TRUE(StillBlocked(sender));
  Mark();
  peer().Start(Op::kTally, filled + kThreads * kBytes);
  for (auto& sender : senders) EXPECT_EQ(sender.get(), kBytes);
  const Reply reply = peer().Wait();
  size_t counts[kThreads + 1];
  memcpy(counts, reply.text, sizeof(counts));
  for (int i = 0; i < kThreads; ++i) EXPECT_EQ(counts[i], kBytes);
  EXPECT_EQ(counts[kThreads], filled);
}

TEST_P(ThreadTest, PollersAndReceiversTogether) {
  auto polling = InThread([this] { return Revents(fd(), POLLIN, -1); });
  char buffer[100];
  auto receiving = InThread([&] { return Call(recv(fd(), buffer, 5, MSG_WAITALL)); });
  EXPECT_TRUE(StillBlocked(polling));
  EXPECT_TRUE(StillBlocked(receiving));
  Mark();
  peer().Send(10);
  EXPECT_EQ(polling.get(), POLLIN);
  EXPECT_EQ(receiving.get(), Done(5));
  EXPECT_TRUE(pair().received.Take(buffer, 5));
  pair().Receive(5);
}

// glibc has every thread change its identity, the library's too, and waits for all. In a child,
// since the first thread of a process is started under another signal mask than the later ones.
TEST(IdentityTest, ChangesWhileAConnectionIsUsed) {
  std::thread([] {}).join();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(10);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof address;
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    char byte = 'x';
    bool good = bind(listener, name, length) == 0 && listen(listener, 1) == 0 &&
                getsockname(listener, name, &length) == 0 && connect(client, name, length) == 0;
    const int server = accept(listener, nullptr, nullptr);
    good = good && UpgradeIfWanted(server) && send(client, &byte, 1, 0) == 1 &&
           recv(server, &byte, 1, 0) == 1;
    good = good && setgid(getgid()) == 0 && setuid(getuid()) == 0;
    _exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace conformance
