// One step of a script of life-scripts, and an end that does it.
#pragma once

#include <stdint.h>

constexpr int kSlots = 3;  // connections at once; each has a number and perhaps a copy of it
constexpr int kMostSaid = 120;

enum class Op : int {
  kSocket,     // value: flags
  kConnect,    // as it blocks or not
  kAccept,     // value: flags; the next connection becomes the slot
  kSend,       // value: how many bytes; how: by which call
  kReceive,    // value: how many bytes at the most; how: flags
  kShutdown,   // how
  kClose,      // the number, or (how 1) its copy
  kCopy,       // dup
  kPoll,       // all events
  kError,      // SO_ERROR
  kState,      // of TCP_INFO
  kUnread,     // FIONREAD
  kSetOption,  // how: which; value
  kOptions,    // all that a life may set, and the flags of the number
  kNonblock,   // value
  kName,       // getpeername
  kRegister,   // in the end's epoll set; value: events. how: EPOLL_CTL_*
  kEvents,     // epoll_wait without waiting; how: 1, the listener's also
  kChild,      // a child that ends at once (how 0), or first sends (1), or closes (2) by the number
  kListener,   // how: which of Listens
  kTidy,       // closes all, says how many descriptors are left
  kQuit,
};
enum Listens { kAgain, kBlockingListener, kNonblockingListener, kListenOnceMore };

struct Step {
  Op op;
  int at_server;
  int slot;
  int how;
  int value;
  int settles;               // what it says may need a moment
  char expected[kMostSaid];  // or empty: nobody knows yet
};

class End {
 public:
  explicit End(int port);  // of the server's: 0, a listener is made
  int port() const { return port_; }
  // What happened.
  void Do(const Step& step, char* said);

 private:
  void Try(const Step& step, char* said);
  void Listen();
  int& NumberOf(const Step& step) { return step.how == 1 ? copies_[step.slot] : fds_[step.slot]; }
  int Any(int slot) const { return fds_[slot] >= 0 ? fds_[slot] : copies_[slot]; }

  int port_;
  int listener_ = -1;
  int set_;
  int fds_[kSlots];
  int copies_[kSlots];
  uint32_t sent_[kSlots] = {};
  uint32_t seen_[kSlots + 1] = {};  // events of this step; the last: the listener's
};
