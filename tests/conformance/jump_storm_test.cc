// Signal handlers that leave a call at any moment of it, by siglongjmp and by setcontext in turn: a
// call that was about to return has taken its bytes (or its edge), and the program does not learn
// how many. The stream goes on with a byte of that call or the one after it, whoever uses the
// connection next.

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/jumping.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class JumpStormTest : public PairTest {
 protected:
  const JumpingHandler handler_;
};
INSTANTIATE_TEST_SUITE_P(, JumpStormTest, AllVariants(), VariantName);

// Receives and looks of every kind, left at any moment: what a receive took goes with it, as a
// prefix of what it would have taken; a look takes nothing.
TEST_P(JumpStormTest, AtAnyMomentOfReceiving) {
  constexpr size_t kBytes = 20000000, kLargest = 20000, kMatched = 32;
  const int fd = this->fd();
  EpollSet set;
  ASSERT_EQ(set.Add(fd, EPOLLIN), Done(0));
  std::vector<char> buffer(kLargest), expected(kLargest + kMatched);
  peer().Start(Op::kSend, kBytes, 9000, 20);
  int jumps = 0, turn = 0;
  pollfd entry{fd, POLLIN, 0};
  epoll_event event;
  const size_t end = pair().received.offset() + kBytes;
  while (end - pair().received.offset() > kLargest + kMatched) {
    ssize_t got = -1;
    const size_t length = 1 + (turn * 7919u) % kLargest;
    bool jumped;
    {
      const Storm storm(50 * 1000 + turn % 7 * 40000);
      for (int looks = 0; looks < 20; ++looks) {
        auto look = [&] {
          if (turn % 3 == 0) poll(&entry, 1, 20);
          if (turn % 3 == 1) epoll_wait(set.fd(), &event, 1, 20);
          if (turn % 3 == 2) recv(fd, buffer.data(), length, MSG_PEEK | MSG_DONTWAIT);
        };
        if (JumpedOutOf(look)) ++jumps;
      }
      auto receive = [&] { got = recv(fd, buffer.data(), length, 0); };
      jumped = JumpedOutOf(receive);
    }
    ++turn;
    if (!jumped) {
      if (got < 0 && errno == EINTR) continue;
      ASSERT_GT(got, 0);
      ASSERT_TRUE(pair().received.Take(buffer.data(), static_cast<size_t>(got))) << "turn " << turn;
      continue;
    }
    ++jumps;
    // Where is the stream now? The next bytes say it.
    const ssize_t seen = recv(fd, buffer.data(), kMatched, MSG_WAITALL);
    pair().received.Fill(expected.data(), expected.size());
    ASSERT_EQ(seen, static_cast<ssize_t>(kMatched));
    const auto at =
        std::search(expected.begin(), expected.end(), buffer.begin(), buffer.begin() + seen);
    ASSERT_NE(at, expected.end()) << "not a byte of the call that was left, turn " << turn;
    pair().received.Advance(static_cast<size_t>(at - expected.begin() + seen));
  }
  EXPECT_GT(jumps, 0);
  pair().Receive(end - pair().received.offset());
  peer().ExpectMoved(kBytes);
  pair().ExpectBothWaysWork();
}

// Lines of text, each sent by one call that may be left at any moment: every line arrives whole, or
// as a beginning if the call was left.
TEST_P(JumpStormTest, AtAnyMomentOfSending) {
  const Address any = Loopback(GetParam().family);
  const FileDescriptor listener = ListenOn(any);
  const Address name = LocalName(listener.get());
  const FileDescriptor sender(socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Call(connect(sender.get(), name.get(), name.length)), Done(0));
  const FileDescriptor receiver(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(receiver.get(), 0);
  const int on = 1;
  setsockopt(sender.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ASSERT_TRUE(UpgradeIfWanted(sender.get()));
  const auto line = [](int number) {
    return std::to_string(number) + std::string(static_cast<size_t>(number) * 7919 % 30000,
                                                static_cast<char>('a' + number % 26));
  };
  // On a busy machine few signals meet a call: then there are more lines.
  constexpr int kLines = 800, kMostLines = 20000, kJumps = 3;
  std::atomic<int> jumps{0};
  struct Seen {
    int whole = 0, torn = 0, wrong = 0;
  };
  auto reading = InThread([&]() -> Seen {
    Seen seen;
    std::string text;
    std::vector<char> buffer(60000);
    int number = 0;
    for (ssize_t got; (got = recv(receiver.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(got));
      size_t at = 0;
      for (size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
        const std::string whole = line(number);
        const std::string_view one(text.data() + at, end - at);
        if (one == whole) {
          ++seen.whole;
        } else if (one == std::string_view(whole).substr(0, one.size())) {
          ++seen.torn;
        } else {
          ++seen.wrong;
        }
        ++number;
      }
      text.erase(0, at);
    }
    return seen;
  });
  int lines = 0;
  for (; lines < kLines || (jumps < kJumps && lines < kMostLines); ++lines) {
    const int number = lines;
    const std::string text = line(number);
    ssize_t sent = -1;
    bool jumped;
    {
      const Storm storm(15 * 1000 + number % 9 * 20000);
      auto call = [&] { sent = send(sender.get(), text.data(), text.size(), 0); };
      jumped = JumpedOutOf(call);
      if (jumped) ++jumps;
    }
    if (number % 50 == 0) MarkedPoint(sender.get());
    if (!jumped && sent >= 0) {
      for (size_t at = static_cast<size_t>(sent); at < text.size();) {
        const ssize_t more = send(sender.get(), text.data() + at, text.size() - at, 0);
        ASSERT_GT(more, 0);
        at += static_cast<size_t>(more);
      }
    }
    ASSERT_EQ(Call(send(sender.get(), "\n", 1, 0)), Done(1));
  }
  shutdown(sender.get(), SHUT_WR);
  const Seen seen = reading.get();
  EXPECT_EQ(seen.wrong, 0);
  EXPECT_EQ(seen.whole + seen.torn, lines);
  EXPECT_LE(seen.torn, jumps.load() + 1);
  EXPECT_GT(jumps.load(), 0);
}

// epoll_ctl left at any moment has been done or not; another try makes sure, and then it works.
TEST_P(JumpStormTest, AtAnyMomentOfEpollCtl) {
  const int fd = this->fd();
  EpollSet set;
  int jumps = 0;
  for (int round = 0; round < 300 || (jumps < 20 && round < 10000); ++round) {
    const Storm storm(20 * 1000 + round % 13 * 3000);
    epoll_event event{};
    event.events = EPOLLIN | (round % 2 != 0 ? static_cast<uint32_t>(EPOLLET) : 0);
    event.data.u64 = static_cast<uint64_t>(round);
    for (int operation : {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL}) {
      for (int again = 0; again < 5; ++again) {
        auto call = [&] { epoll_ctl(set.fd(), operation, fd, &event); };
        if (JumpedOutOf(call)) ++jumps;
      }
    }
  }
  epoll_ctl(set.fd(), EPOLL_CTL_DEL, fd, nullptr);
  ASSERT_EQ(set.Add(fd, EPOLLIN, 4711), Done(0));
  epoll_event event;
  for (int round = 0; round < 20; ++round) {
    auto waiting = InThread([&] { return Call(epoll_wait(set.fd(), &event, 1, kSoonMs)); });
    if (round % 4 == 0) {
      EXPECT_TRUE(StillBlocked(waiting));
    }
    peer().Send(10);
    ASSERT_EQ(waiting.get(), Done(1));
    EXPECT_EQ(event.data.u64, 4711u);
    EXPECT_EQ(event.events, static_cast<uint32_t>(EPOLLIN));
    pair().Receive(10);
    Mark();
  }
  EXPECT_GT(jumps, 0);
}

}  // namespace
}  // namespace conformance
