// Sockets that travel in messages of UNIX sockets (SCM_RIGHTS). A connection goes back to TCP
// before it leaves, with a note (discovery/handover.h) for who receives at the other end of this
// very UNIX socket: it follows the connection, and upgrades it when the sender has closed it.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace xenloop {

struct Side;

// The connections that a message takes along, until it is known whether it goes.
class Passing {
 public:
  // Before the message leaves by the UNIX socket `channel`.
  void Begin(int channel, const msghdr* message);
  // It has not gone.
  void Undo();
  // A stream of UNIX sockets drops what a message without a byte takes along.
  bool IsLostWithoutBytes(int channel) const;

 private:
  struct Passed {
    Side* side;
    uint32_t generation;
  };
  static constexpr size_t kMost = 8;  // others stay on TCP
  void Pass(int channel, int fd, Side* side);

  Passed passed_[kMost];
  size_t count_ = 0;
};

// Before a message leaves of which nobody will say whether it has gone: its connections stay on
// TCP.
void BeforePassing(const msghdr* message);

// After a message has come by `channel`, received with `flags`: follows the connections in it.
void AfterReceiving(int channel, const msghdr* message, int flags);

}  // namespace xenloop
