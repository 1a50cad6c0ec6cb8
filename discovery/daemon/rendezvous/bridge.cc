// See bridge.h.
#include "discovery/daemon/rendezvous/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "discovery/owner.h"
#include "discovery/protocol/descriptors.h"

namespace xenloop {

ssize_t ReadPacket(int fd, ControlMessage* message, int* descriptor) {
  alignas(ControlMessage) char bytes[sizeof(ControlMessage) + 1];
  DescriptorRoom<1> room;
  iovec iov{bytes, sizeof bytes};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (descriptor != nullptr) {
    *descriptor = -1;
    room.ForReceiving(&header);
  }
  const ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  // The padding has room for a second one, which nobody has asked for.
  if (n >= 0 && descriptor != nullptr) {
    EachDescriptorIn(header, [descriptor](int passed) {
      if (*descriptor >= 0)
        close(passed);
      else
        *descriptor = passed;
    });
  }
  if (n < 0) return errno == EINTR ? -EAGAIN : -errno;
  if (n == 0) return 0;
  memcpy(message, bytes, std::min(static_cast<size_t>(n), sizeof *message));
  if (IsOfOtherVersion(*message, static_cast<size_t>(n))) return -EPROTONOSUPPORT;
  return n == static_cast<ssize_t>(sizeof *message) && message->magic == kControlMagic ? n
                                                                                       : -EPROTO;
}

bool WritePacket(int fd, const ControlMessage& message, const int* descriptors, size_t count) {
  DescriptorRoom<kXenDescriptors> room;
  iovec iov{const_cast<ControlMessage*>(&message), sizeof message};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  room.Put(descriptors, count, &header);
  return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof message;
}

bool OpenXenDevices(int (&descriptors)[kXenDescriptors]) {
  for (int i = 0; i < kXenDescriptors; ++i) {
    const int flags = i == kEvtchn ? O_RDWR | O_CLOEXEC | O_NONBLOCK : O_RDWR | O_CLOEXEC;
    descriptors[i] = open(kXenDeviceNames[i], flags);
    if (descriptors[i] >= 0) continue;
    const int error = errno;
    while (i > 0) close(descriptors[--i]);
    errno = error;
    return false;
  }
  return true;
}

bool GiveDevices(Bridge* bridge, uint64_t agent_id, const OpenDevices& open_devices) {
  int descriptors[kXenDescriptors];
  if (!open_devices(descriptors)) return false;
  ControlMessage message;
  message.type = ControlType::kBridge;
  message.domid = bridge->domid;
  message.agent_id = agent_id;
  const bool given = WritePacket(bridge->fd, message, descriptors, kXenDescriptors);
  if (given) {
    bridge->event_descriptor = descriptors[kEvtchn];
    descriptors[kEvtchn] = -1;
  }
  for (const int fd : descriptors) {
    if (fd >= 0) close(fd);
  }
  return given;
}

bool MayPass(const Bridge& bridge, const ControlMessage& message, const PeerTable& peers,
             bool outgoing) {
  switch (message.type) {
    case ControlType::kHello:
    case ControlType::kJoin:
    case ControlType::kRefuse:
    case ControlType::kSealed:
      return true;
    case ControlType::kOffer:
      break;
    default:
      return false;
  }
  // The tuple is as the offer's receiver sees the connection.
  const Tuple here = outgoing ? Reversed(message.tuple) : message.tuple;
  Peer peer;
  uid_t owner = 0;
  return peers.Find(here.peer.address, &peer) && peer.domid == bridge.domid &&
         OwnerOf(here, &owner) == 0 && (owner == bridge.uid || bridge.uid == 0);
}

int ConnectToHolder(const Tuple& tuple, Registry* registry, uid_t* uid, uint64_t* agent_id) {
  if (const int error = OwnerOf(tuple, uid); error != 0) return error;
  uint64_t ids[4];
  // An agent of root may hold a socket that belongs to another user.
  for (const uid_t user : {*uid, uid_t{0}}) {
    const size_t found = registry->Lookup(user, HashOf(tuple), ids, 4);
    for (size_t i = 0; i < found; ++i) {
      const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (fd < 0) return -errno;
      sockaddr_un address;
      const socklen_t length = AgentAddress("", user, ids[i], &address);
      ucred credentials{};
      socklen_t size = sizeof credentials;
      if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
          getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 &&
          credentials.uid == user) {
        *uid = user;
        *agent_id = ids[i];
        return fd;
      }
      close(fd);
    }
    if (*uid == 0) break;
  }
  return -ENOENT;
}

void CloseBridge(Bridge* bridge) {
  if (bridge->fd >= 0) close(bridge->fd);
  if (bridge->event_descriptor >= 0) close(bridge->event_descriptor);
  bridge->fd = bridge->event_descriptor = -1;
}

std::string WhoIsBehind(const Bridge& bridge) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  getsockopt(bridge.fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  std::string program;
  std::ifstream(absl::StrCat("/proc/", credentials.pid, "/comm")) >> program;
  return absl::StrCat(bridge.domid, " ", credentials.pid, ":", program);
}

}  // namespace xenloop
