// Who is there to meet, before anything is made for it. A process with a second thread pays for it
// in each system call (the kernel then counts who uses a descriptor), so one whose UDP sockets have
// nobody to meet has no agent: neither is one started to be found (a sender leaves word that it
// seeks, and a receiver looks there), nor to seek (a receiver that is sought has published itself).
// What is left in the directory of hints costs who reads it a look, and nothing more.
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "channel/base/descriptor.h"
#include "channel/base/time.h"
#include "discovery/registry.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"

namespace xenloop {
namespace {

// A sender that goes on seeking says so again, every two seconds at the least.
constexpr uint64_t kWordHoldsNs = 4 * kNsPerSecond;

Tuple WantedHint(const Endpoint& name) { return NameHint("xenloop udp seek", name); }

// The same for all namespaces, as the monotonic clock is not.
uint64_t WallNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

bool IsReceiverWanted(Registry& registry, uint32_t uid, const Endpoint& name) {
  uint64_t said = 0;
  if (registry.Lookup(uid, HashOf(WantedHint(name)), &said, 1) == 0) return false;
  const uint64_t now = WallNs();
  return (now > said ? now - said : said - now) < kWordHoldsNs;
}

// Hints outlive their agents, who notice nothing of this question: an abstract name can be taken by
// nobody else while they have it, and a path leads to a socket of another type than we connect.
bool IsAgentThere(uint32_t uid, uint64_t id) {
  const bool path = GetConfig().realm;
  sockaddr_un address;
  const socklen_t length = AgentAddress(path ? GetConfig().runtime_dir : "", uid, id, &address);
  const long fd = sys::MakeDescriptor(SYS_socket, AF_UNIX,
                                      (path ? SOCK_DGRAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const long result = length == 0 ? -ENAMETOOLONG
                      : path      ? sys::Call(SYS_connect, fd, sys::Word(&address), length)
                                  : sys::Call(SYS_bind, fd, sys::Word(&address), length);
  sys::Close(static_cast<int>(fd));
  return result == (path ? -EPROTOTYPE : -EADDRINUSE);
}

bool LookAround(Registry& registry, uint32_t uid, DatagramSide* side, uint32_t wants) {
  DatagramEnds ends;
  const int fd = side->fd.load(std::memory_order_acquire);
  if ((wants & kWantsToSend) != 0) {
    const Reason reason = ProbeDatagramSender(fd, side, &ends, /*by_agent=*/false);
    if (reason == Reason::kNone && IsReceiverKnown(registry, uid, ends.destination)) return true;
    if (reason == Reason::kNone) SayReceiverIsWanted(registry, ends.destination);
    side->reason.store(reason == Reason::kNone ? Reason::kNoPeer : reason,
                       std::memory_order_relaxed);
    return false;
  }
  const Reason reason = ProbeDatagramReceiver(fd, side, &ends, /*by_agent=*/false);
  if (reason == Reason::kNone && IsReceiverWanted(registry, uid, PublishedName(ends))) return true;
  side->reason.store(reason == Reason::kNone ? Reason::kNoPeer : reason, std::memory_order_relaxed);
  return false;
}

}  // namespace

bool IsReceiverKnown(Registry& registry, uint32_t uid, const Endpoint& destination) {
  for (const Endpoint& end : {destination, AnyAddress(destination.port)}) {
    uint64_t ids[4];
    const size_t found = registry.Lookup(uid, HashOf(HintOf(end)), ids, 4);
    for (size_t i = 0; i < found; ++i) {
      if (IsAgentThere(uid, ids[i])) return true;
    }
  }
  return false;
}

void SayReceiverIsWanted(Registry& registry, const Endpoint& destination) {
  for (const Endpoint& end : {destination, AnyAddress(destination.port)})
    registry.Publish(HashOf(WantedHint(end)), WallNs());
}

bool IsSomebodyToMeet(DatagramSide* side, uint32_t wants) {
  const auto uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  Reason reason = RuleAgainstUser(GetConfig().rules, uid);
  Registry registry;
  if (reason != Reason::kNone || registry.Open(GetConfig().runtime_dir, uid, &reason) != 0) {
    side->reason.store(reason, std::memory_order_relaxed);
    return false;
  }
  const bool somebody = LookAround(registry, uid, side, wants);
  registry.Close();
  return somebody;
}

}  // namespace xenloop
