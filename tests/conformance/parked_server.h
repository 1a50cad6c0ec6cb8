// A server of short connections in a process of its own, that a test stops, forks, changes and asks
// for single accepts; it writes down whom it has accepted. What it does is what servers do, so the
// tests that use it say the same in every mode; in the mode `parked` its clients' connections are
// parked.

#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>

namespace conformance {

// How the server waits for its listener.
// kPollBlocking: then accepts once, by a listener that blocks.
enum class WaitsIn : int { kPoll, kPollBlocking, kEdges, kAccept, kInlinePoll };

struct ServerPlan {
  WaitsIn waits = WaitsIn::kPoll;
  int backlog = 64;
  const char* address = "127.0.0.1";
  int port = 0;             // 0: any
  bool reuse = true;        // SO_REUSEADDR
  bool also_exact = false;  // a second listener, on 127.0.0.1 and the same port, that lingers
};

enum class Order : int {
  kPause,  // accepts nothing, until kGoOn or an order below
  kGoOn,
  kAccept,       // one accept4 without waiting: the id of who came, or -errno
  kBadName,      // the same with a pointer that leads nowhere
  kLimit,        // RLIMIT_NOFILE to the value; 0: as it was
  kFull,         // no descriptor is free, and (value 0) they are again
  kBlocking,     // the listener's O_NONBLOCK off (value 1) or on
  kReopen,       // the listener is closed, and another made on the same port
  kFork,         // a child that lives for so many ms, and has the listener
  kForkAccepts,  // a child accepts until nobody has come for so many ms: how many came
  kInline,       // from now on waits by inline system calls
};

class ParkedServer {
 public:
  explicit ParkedServer(const ServerPlan& plan);
  ~ParkedServer();  // by SIGKILL
  ParkedServer(const ParkedServer&) = delete;
  ParkedServer& operator=(const ParkedServer&) = delete;

  int port() const { return port_; }
  pid_t pid() const { return pid_; }
  int Tell(Order order, int value = 0);  // its answer; -ETIME: none came
  // The ids of those who came, in order; '-' for one who said nothing.
  std::string Came() const;
  void Forget();
  // Waits until so many have come.
  std::string AwaitCame(size_t count) const;

 private:
  struct Shared {
    std::atomic<unsigned> count;
    char ids[8192];
  };
  class Program;

  Shared* shared_;
  int control_;
  int port_ = 0;
  pid_t pid_;
};

// A client's connection to there: a descriptor, or -1 with errno.
int ConnectTo(int port, const char* address = "127.0.0.1", int flags = 0);
// Kinds of lives: 'e', the answer comes, and the client closes first; 'f', the server does; 'n', no
// answer. False: that is not what happened.
bool Ask(int fd, char id, char kind);
bool Answered(int fd, char id, char kind);
bool OneLife(int port, char id = 'w', char kind = 'e', const char* address = "127.0.0.1");
// Lives until one is parked (mode `parked`); a dozen in other modes. False: none is within 5 s.
bool WarmUp(int port, const char* address = "127.0.0.1");
// The connection is a parked one (in mode `parked`; elsewhere none is).
bool IsParked(int fd);

}  // namespace conformance
