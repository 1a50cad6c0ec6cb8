// See holder.h.

#include "tests/conformance/holder.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <utility>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

Sent* NewSent() {
  void* const memory =
      mmap(nullptr, sizeof(Sent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : new (memory) Sent{};
}

}  // namespace

Sent* const kSent = NewSent();

Channels::Channels() {
  for (int i = 0; i < kHolders; ++i) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    orders[i] = FileDescriptor(ends[0]);
    answers[i] = FileDescriptor(ends[1]);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    gives[i] = FileDescriptor(ends[0]);
    takes[i] = FileDescriptor(ends[1]);
    const timeval limit{12, 0};
    setsockopt(orders[i].get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
}

void Holder::Serve() {
  for (;;) {
    Order order;
    if (recv(channels_->answers[number_].get(), &order, sizeof order, 0) != sizeof order) _exit(1);
    if (order.what == What::kExit) _exit(0);
    const std::string answer = Obey(order);
    send(channels_->answers[number_].get(), answer.data(), answer.size(), 0);
  }
}

std::string Holder::Obey(const Order& order) {
  switch (order.what) {
    case What::kConnect:
      return Connect();
    case What::kFork: {
      const pid_t child = fork();
      if (child != 0) return std::to_string(child);
      number_ = static_cast<int>(order.much);
      Serve();
    }
    case What::kReap:
      return std::to_string(waitpid(static_cast<pid_t>(order.much), nullptr, 0));
    case What::kUpgrade:
      // One that came in a message while others had it may not be followed.
      if (Routes(fds_[0][order.end]) >= 0) UpgradeIfWanted(fds_[0][order.end]);
      return "";
    case What::kMark: {  // an upgrade of what several hold would be awaited in vain
      const int routes = Routes(fds_[0][order.end]);
      if (routes > 0 || (routes == 0 && order.much != 0)) MarkedPoint(fds_[0][order.end]);
      return "";
    }
    case What::kRest:  // the agents may do what they want to
      poll(nullptr, 0, static_cast<int>(1 + order.much % 30));
      return "";
    case What::kReceive:
    case What::kPeek:
      return Received(order);
    default:
      return Compared(order);
  }
}

// What only looks is asked again until it is as expected: what is on its way between two routes
// comes a little later.
std::string Holder::Compared(const Order& order) {
  const bool looks =
      order.what == What::kQueued || order.what == What::kPoll || order.what == What::kWait;
  if (looks) WaitForBytes(fds_[1][order.end], static_cast<int>(order.settled));
  const std::string expected = Once(1, order);
  std::string answer = Once(0, order);
  const Stopwatch stopwatch;
  while (looks && answer != expected && stopwatch.ElapsedMs() < kSoonMs) {
    poll(nullptr, 0, 1);
    answer = Once(0, order);
  }
  return answer == expected ? "" : answer + " and not " + expected;
}

// What the kernel has given at once may come in parts.
std::string Holder::Received(const Order& order) {
  const int flags = MSG_DONTWAIT | (order.what == What::kPeek ? MSG_PEEK : 0);
  WaitForBytes(fds_[1][order.end], static_cast<int>(order.settled));
  const size_t room = 1 + order.much % 4000;
  std::string expected(room, 0), text(room, 0);
  const Outcome wanted = Call(recv(fds_[1][order.end], expected.data(), room, flags));
  expected.resize(wanted.value > 0 ? static_cast<size_t>(wanted.value) : 0);
  size_t have = 0;
  const Stopwatch stopwatch;
  Outcome got{};
  while (stopwatch.ElapsedMs() < kSoonMs) {
    if (order.what == What::kPeek) have = 0;
    const size_t most = wanted.value > 0 ? expected.size() - have : room;
    got = Call(recv(fds_[0][order.end], text.data() + have, most, flags));
    if (got.value > 0) have += static_cast<size_t>(got.value);
    if (have == expected.size() && (wanted.value > 0 || got == wanted)) break;
    if (have > expected.size()) break;
    if (got.value <= 0) poll(nullptr, 0, 1);
  }
  text.resize(have);
  if (text != expected || (wanted.value <= 0 && !(got == wanted)))
    return Text(got) + " after " + std::to_string(have) + " bytes" +
           (text == expected.substr(0, have) ? "" : " (wrong ones)") + " and not " + Text(wanted);
  return "=" + std::to_string(have);
}

std::string Holder::Sent(int world, const Order& order) {
  const int fd = fds_[world][order.end];
  if (world == 0) {
    kSent->all++;
    const int routes = Routes(fd);
    kSent->by_fifo += routes > 0 && (routes & kSendsByFifo) != 0;
  }
  std::string text(1 + order.much % 3000, 0);
  for (size_t i = 0; i < text.size(); ++i)
    text[i] = static_cast<char>((order.much / 7 + i * 13) % 251);
  return Text(Call(send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL)));
}

std::string Holder::Watched(int world) {
  sets_[world].push_back(std::make_unique<EpollSet>());
  for (uint64_t end = 0; end < 2; ++end) {
    if (fds_[world][end] >= 0)
      sets_[world].back()->Add(fds_[world][end], EPOLLIN | EPOLLOUT | EPOLLRDHUP, end);
  }
  return "";
}

std::string Holder::Waited(int world, unsigned much) {
  if (sets_[world].empty()) return "";
  std::array<unsigned, 2> of_end{};
  for (const epoll_event& event : sets_[world][much % sets_[world].size()]->Wait(0))
    of_end[event.data.u64 & 1] |= event.events;
  return "events " + std::to_string(of_end[0]) + " " + std::to_string(of_end[1]);
}

std::string Holder::Passed(int* fd, unsigned much) {
  const bool given = SendDescriptor(channels_->gives[much / 2 % kHolders].get(), *fd);
  if (much % 2 != 0) close(std::exchange(*fd, -1));
  return std::to_string(given);
}

std::string Holder::Taken(int* fd) {
  const int taken = ReceiveDescriptor(channels_->takes[number_].get());
  if (*fd >= 0) close(*fd);
  *fd = taken;
  return std::to_string(taken >= 0);
}

std::string Holder::Once(int world, const Order& order) {
  int& fd = fds_[world][order.end];
  switch (order.what) {
    case What::kSend:
      return Sent(world, order);
    case What::kQueued: {
      int bytes = -1;
      return "queued " + Text(Call(ioctl(fd, FIONREAD, &bytes))) + " " + std::to_string(bytes);
    }
    case What::kPoll:
      return "poll " + std::to_string(Revents(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
    case What::kNewSet:
      return Watched(world);
    case What::kWait:
      return Waited(world, order.much);
    case What::kDuplicate: {
      const int other = dup(fd);
      close(fd);
      fd = other;
      return std::to_string(fd >= 0);
    }
    case What::kClose:
      return Text(Call(close(std::exchange(fd, -1))));
    case What::kPass:
      return Passed(&fd, order.much);
    case What::kTake:
      return Taken(&fd);
    case What::kShutdown:
      return Text(Call(shutdown(fd, SHUT_WR)));
    default:
      return "?";
  }
}

std::string Holder::Connect() {
  for (int world = 0; world < kWorlds; ++world) {
    const FileDescriptor listener = ListenOn(Loopback(AF_INET));
    const Address address = LocalName(listener.get());
    fds_[world][0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fds_[world][0], address.get(), address.length) != 0) return "connect";
    fds_[world][1] = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
    for (const int fd : fds_[world]) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      // Who asks for what only the kernel has stays with it. The answer does not matter.
      char request[8] = {};
      socklen_t length = sizeof request;
      if (world == 1) getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, request, &length);
    }
  }
  return "";
}

}  // namespace conformance
