// What the daemons of two guests say to each other over the network, and only there: where a reader
// stands, after one of the guests was suspended without notice (preload/agent/agent_position.cc).
// By then they may be on two hosts. One UDP datagram asks, one answers.
//
// Nobody on the network is believed for what he is. A question is passed on to the program that
// holds the connection, and that answers only who knows the FIFO's identity, a random number of 64
// bits; an answer counts only with the same number. Who can read the packets of these guests could
// as well break into the connection itself.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <list>
#include <vector>

#include "absl/status/status.h"
#include "discovery/protocol/control.h"

namespace xenloop {

inline constexpr uint16_t kPositionPort = 18009;

class PositionExchange {
 public:
  // A socket to the agent here that holds the connection (as seen from here), or -errno.
  using ConnectToAgent = std::function<int(const Tuple&)>;
  explicit PositionExchange(ConnectToAgent connect) : connect_(std::move(connect)) {}
  ~PositionExchange();
  PositionExchange(const PositionExchange&) = delete;
  PositionExchange& operator=(const PositionExchange&) = delete;

  // Takes questions at that port, of all addresses of this guest or of one, and asks there.
  absl::Status Open(uint16_t port, const Endpoint* only = nullptr);

  // A WHERE of the agent behind that socket, which stays the caller's.
  void Ask(int agent, const ControlMessage& question);
  void Forget(int agent);  // it is about to be closed

  // For the caller's poll(): appends what to wait for, and does what is to be done after it.
  void AddWaits(std::vector<pollfd>* waits) const;
  void Turn();

 private:
  using Clock = std::chrono::steady_clock;
  struct Datagram;
  struct Asked {  // by an agent here
    int agent;
    ControlMessage question;
    Clock::time_point again, end;
  };
  struct Asking {  // another guest
    int agent;     // ours
    sockaddr_storage from;
    ControlMessage question;
    Clock::time_point end;
  };

  void Send(const Datagram& datagram, const sockaddr_storage& to) const;
  void SendQuestion(const Asked& asked) const;
  void OnDatagram(const Datagram& datagram, const sockaddr_storage& from);
  void OnQuestion(const Datagram& datagram, const sockaddr_storage& from);
  bool MayTakeOneMore();
  bool Reply(const Asking& asking) const;  // false: nothing has come yet

  const ConnectToAgent connect_;
  int socket_ = -1;
  int family_ = AF_UNSPEC;
  uint16_t port_ = 0;
  std::list<Asked> asked_;
  std::list<Asking> asking_;
  Clock::time_point second_;  // of the questions counted
  int in_second_ = 0;
};

}  // namespace xenloop
