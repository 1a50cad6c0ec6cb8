// One talk between an agent here and an agent in another guest: what may pass, and the socket to
// the agent here. Knows nothing of links; rendezvous.cc moves the packets.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "channel/xen/xen_calls.h"
#include "discovery/peer_table.h"
#include "discovery/protocol/control.h"
#include "discovery/registry.h"

namespace xenloop {

enum class BridgeStage {
  kAsked,    // the agent here has sent its SEEK
  kFound,    // asked by the other guest: the agent here is connected, nothing has passed
  kTalking,  // packets pass
  kLeaving,  // told to let go; the agent answers by closing
  kOver,     // of the guest's former life; ended as soon as the network is back
};

struct Bridge {
  int fd = -1;  // the agent's socket
  uid_t uid = 0;
  BridgeStage stage = BridgeStage::kAsked;
  uint32_t domid = kNoDomid;
  uint32_t number = 0;
  uint64_t agent_id = 0;
  int event_descriptor = -1;  // a copy of the agent's, see GiveDevices
  int handed_over = 0;        // kOver: so many descriptors that must not be closed
  ControlMessage seek;
  std::chrono::steady_clock::time_point told;  // when it was told to leave
};

// Takes one packet from the agent. Its length, 0 at the end, -EAGAIN, -EPROTONOSUPPORT for one of
// another version, -EPROTO for what is no packet. A descriptor that comes with it (-1: none) is the
// caller's.
ssize_t ReadPacket(int fd, ControlMessage* message, int* descriptor = nullptr);
// False: the agent does not read, or is gone.
bool WritePacket(int fd, const ControlMessage& message, const int* descriptors = nullptr,
                 size_t count = 0);

// The first packet of a talk to an agent here: whose packets follow, with fresh descriptors of the
// Xen drivers. The daemon keeps a copy of the event channels' one for as long as the talk lasts.
using OpenDevices = std::function<bool(int (&descriptors)[kXenDescriptors])>;
bool OpenXenDevices(int (&descriptors)[kXenDescriptors]);
bool GiveDevices(Bridge* bridge, uint64_t agent_id, const OpenDevices& open_devices);

// May this packet of an agent here go out, may this one come in to it? An offer is about a
// connection whose end here belongs to the agent's user and whose other end lies in that domain.
bool MayPass(const Bridge& bridge, const ControlMessage& message, const PeerTable& peers,
             bool outgoing);

// A connected socket of the agent here that holds the connection (as seen from here), or -errno.
int ConnectToHolder(const Tuple& tuple, Registry* registry, uid_t* uid, uint64_t* agent_id);

void CloseBridge(Bridge* bridge);

// "DOMID PID:PROGRAM": the process here behind the bridge, for people.
std::string WhoIsBehind(const Bridge& bridge);

}  // namespace xenloop
