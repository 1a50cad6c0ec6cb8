// What xenloopd does for the programs of its guest: brings two agents in two guests together. An
// agent asks on DIR/daemon.sock for the holder of a connection's other end (SEEK); the daemon of
// that guest checks by sock_diag which user owns the socket there and finds that user's agent; from
// then on the daemons pass packets between the two agents' sockets. Runs in a thread of its own with
// its own connection to XenStore.
//
// What the daemons guarantee to agents: the domid in BRIDGE is that of the sender; an OFFER comes
// from a process whose user owns the socket at that end, and goes to one whose user owns it at this.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "discovery/xenstore/xenstore.h"

namespace xenloop {

struct RendezvousPlaces {
  std::string directory = "/run/xenloop";  // of the peer table and the socket
  std::string registry = "/dev/shm";
  std::function<absl::StatusOr<std::unique_ptr<XenStore>>()> open_store;
  std::function<void(const std::string&)> log;
};

// Starts the thread; it runs until the process ends.
absl::Status StartRendezvous(RendezvousPlaces places);

}  // namespace xenloop
