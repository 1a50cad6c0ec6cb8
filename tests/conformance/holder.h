// The processes of holders_script_test.cc, which share the two ends of a connection, and what they
// are told to do.

#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/check.h"
#include "tests/conformance/epoll_set.h"

namespace conformance {

constexpr int kHolders = 6;
constexpr size_t kMostUnread = 60000;  // either connection takes as much at once
constexpr int kWorlds = 2;             // 0 may be accelerated; 1 is the kernel's answer

enum class What : unsigned {
  kSend,
  kReceive,
  kPeek,
  kQueued,
  kPoll,
  kNewSet,
  kWait,
  kDuplicate,
  kClose,
  kFork,
  kExit,
  kKill,
  kPass,
  kShutdown,
  kUpgrade,
  kMark,
  kRest,
  // The controller's alone.
  kTake,
  kReap,
  kConnect,
};

struct Order {
  What what;
  unsigned end, much, settled;  // settled: so many bytes are unread at this end
};

// Of all processes: what was sent, and how much of it by a FIFO.
struct Sent {
  std::atomic<unsigned> all, by_fifo;
};
extern Sent* const kSent;

// What all processes of a round have from the first.
struct Channels {
  FileDescriptor orders[kHolders], answers[kHolders], gives[kHolders], takes[kHolders];
  Channels();
};

// One process of holders_script_test.cc: its descriptors of both connections' ends, and the sets
// that it has made or inherited. It obeys orders, and answers "" if what came of the connection
// that may be accelerated is what came of the plain one; else it says what.
class Holder {
 public:
  Holder(const Channels* channels, int number) : channels_(channels), number_(number) {}
  [[noreturn]] void Serve();  // until it is told to end

 private:
  std::string Obey(const Order& order);
  std::string Compared(const Order& order);
  std::string Received(const Order& order);
  std::string Once(int world, const Order& order);
  std::string Sent(int world, const Order& order);
  std::string Watched(int world);
  std::string Waited(int world, unsigned much);
  std::string Passed(int* fd, unsigned much);
  std::string Taken(int* fd);
  std::string Connect();

  const Channels* const channels_;
  int number_;
  std::array<std::array<int, 2>, kWorlds> fds_{{{-1, -1}, {-1, -1}}};
  std::vector<std::unique_ptr<EpollSet>> sets_[kWorlds];
};

}  // namespace conformance
