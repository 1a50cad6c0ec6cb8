// The world of the handover simulation: real processes over the real kernel, each with the rooms
// of the library, and nobody moves but by the world's command. Two connections lead from the world,
// which is their other end and has the library as well, to a process that registers them in epoll
// sets, sleeps there, forks, closes, and passes them on to a stranger. After each step whoever
// sleeps must sleep rightly: what is in the kernel's and in the FIFO's hands decides that, and no
// clock. What a process would be told without the library it must be told with it.
#pragma once

#include <sys/types.h>

#include <deque>
#include <string>

#include "tests/simulation/handover_process.h"
#include "tests/simulation/random.h"

namespace xenloop::simulation {

struct HandoverCoverage {
  uint64_t forks = 0;
  uint64_t upgrades = 0;
  uint64_t upgrades_by_child = 0;
  uint64_t upgrades_by_stranger = 0;
  uint64_t refused_upgrades = 0;  // others have the connection
  uint64_t fifo_bytes = 0;        // from the world
  uint64_t tcp_bytes = 0;
  uint64_t borrowed = 0;  // receives by a child on what its parent has attached
  uint64_t sleeps = 0;
  uint64_t woken = 0;
  uint64_t woken_children = 0;
  uint64_t woken_strangers = 0;
  uint64_t passed = 0;
  uint64_t passed_and_kept = 0;  // by one who reads it afterwards
  uint64_t closes = 0;
};

class HandoverWorld {
 public:
  HandoverWorld(uint64_t seed, HandoverMutant mutant, bool native, HandoverCoverage* coverage);
  ~HandoverWorld();
  HandoverWorld(const HandoverWorld&) = delete;
  HandoverWorld& operator=(const HandoverWorld&) = delete;
  void Step();
  void Settle();
  std::string LastSteps() const;

 private:
  static constexpr int kProcesses = 3;
  static constexpr int kStranger = 2;
  static constexpr uint32_t kUnknown = 1u << 29;  // its number was closed, the socket lives on

  struct Registered {
    uint32_t events = 0;
    bool news = false;  // has come since it was told
  };
  struct Worker {
    pid_t pid = 0;
    int asleep = -1;  // in this set
    uint32_t talk = 0;
    std::array<bool, kConnections> holds{};
    std::array<bool, kSets> has_set{};
    std::array<std::array<Registered, kConnections>, kSets> sets{};
  };
  struct Connection {
    int fd = -1;
    uint64_t sent = 0;
    uint64_t taken = 0;
    uint64_t answered = 0;
    uint64_t heard = 0;
    bool passed = false;
    int attached_by = -1;
  };

  [[noreturn]] void Fail(const std::string& what) const;
  void Record(const char* what, int w, int c, long value);
  Reply Ask(int w, Command command, int fd = -1);
  void MeetWith(int w);
  bool Awake(int w) const { return workers_[w].pid != 0 && workers_[w].asleep < 0; }
  bool Lives(int c) const;
  void HandOver(int c);
  void Act(int w);
  void Fork();
  void Register(int w, int s, int c);
  void LookAt(int w, int s);
  void Told(int w, int s, Reply reply, bool slept);
  void Receive(int w, int c);
  void Answer(int w, int c);
  void Hear(int c);
  void SendTo(int c, uint32_t bytes);
  void Upgrade(int w, int c);
  void Pass(int w, int c);
  void Close(int w, int c);
  void ServiceOurs();
  bool AwaitDelivery() const;
  bool IsDue(int w, int s, int c) const;
  void CheckSleepers();
  void CheckSleeper(int w, bool again);

  Random random_;
  const HandoverMutant mutant_;
  const bool native_;
  HandoverCoverage* const coverage_;
  int heir_;  // of all connections in this world; -1: nobody
  int channels_[kProcesses];
  int theirs_[kProcesses];
  Worker workers_[kProcesses];
  Connection connections_[kConnections];
  std::deque<std::string> notes_;
};

}  // namespace xenloop::simulation
