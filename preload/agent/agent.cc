// The agent's thread: its loop, and what other threads may ask of it (agent.h).
#include "preload/agent/agent.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "preload/agent/agent_park.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"

namespace xenloop {

AgentState agent;

namespace {
constexpr size_t kSidesBytes = sizeof(AgentSide) * kMaxSides;
constexpr size_t kBucketsBytes = sizeof(uint32_t) * kBuckets;
constexpr size_t kTalksBytes = sizeof(Talk) * kMaxTalks;
constexpr size_t kPeersBytes = sizeof(Doorbell) * kMaxTalks;
constexpr size_t kPostBytes = sizeof(Unsent) * kMostUnsent;
static_assert(kSidesBytes % 4096 == 0 && kBucketsBytes % 4096 == 0);
}  // namespace

bool MapAgentMemory() {
  if (agent.sides != nullptr) return true;
  const long memory =
      sys::Call(SYS_mmap, 0, kSidesBytes + kBucketsBytes + kTalksBytes + kPeersBytes + kPostBytes,
                PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return false;
  long at = memory;
  agent.sides = reinterpret_cast<AgentSide*>(at);
  agent.buckets = reinterpret_cast<uint32_t*>(at += kSidesBytes);
  agent.talks.first = reinterpret_cast<Talk*>(at += kBucketsBytes);
  agent_shared.peers = reinterpret_cast<Doorbell*>(at += kTalksBytes);
  agent.post.entries = reinterpret_cast<Unsent*>(at + static_cast<long>(kPeersBytes));
  for (Talk& talk : agent.talks) Renew(talk);
  return true;
}

void AgentState::Renew() {
  AgentState fresh;
  fresh.sides = sides;
  fresh.buckets = buckets;
  fresh.talks = talks;
  fresh.post.entries = post.entries;
  fresh.table = table;  // a file's, and good for every process
  *this = fresh;
  if (sides != nullptr)
    sys::Call(SYS_madvise, sys::Word(sides), kSidesBytes + kBucketsBytes, MADV_DONTNEED);
}

namespace {

// Takes this process's bits out of a set and calls `work` on each.
void TakeOurs(SideSet& set, void (*work)(uint32_t)) {
  EachSlotIn(set.words, [&set, work](uint32_t slot) {
    if (!IsOurs(SideAt(slot))) return;
    set.Remove(slot);
    work(slot);
  });
}

}  // namespace

void CloseRegistry() {
  if (agent.registry.is_open()) FdTable::Clear(agent.registry.descriptor());
  agent.registry.Close();
}

namespace {
// For who looks from outside, when this thread has ended.
void SayWhyAll(Reason reason) {
  EachDescriptor([reason](int, Side* side) {
    if (side->pinned.load(std::memory_order_relaxed) == 0)
      side->reason.store(reason, std::memory_order_relaxed);
  });
}
}  // namespace

void EndSharing(Reason reason) {
  agent_shared.start_failure.store(reason, std::memory_order_relaxed);
  agent_shared.started.store(kAgentFailed, std::memory_order_release);
  FallBackEverything(reason);
  SayWhyAll(reason);
}

namespace {

// The same, and nobody reaches us any more; what streams still owe is served.
void GiveUpAgent(Reason reason) {
  ClosePrivate(agent.listen_fd);
  agent.listen_fd = -1;
  agent.timers.Stop(Timer::kListener);
  CloseRegistry();
  EndSharing(reason);
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (agent.talks[i].in_use && agent.talks[i].fd >= 0) TalkGone(i);
  }
  SayWhyAll(reason);  // not that talks have ended, of what was about to come to a FIFO
}

// The program has closed the agent's epoll descriptor behind our back, and perhaps others: under
// the number of the listener it may have a file of its own by now. Nobody shall wait there for an
// answer.
void CloseListenerIfOurs() {
  const Config& config = GetConfig();
  sockaddr_un ours;
  sockaddr_un there;
  memset(&there, 0, sizeof there);
  const socklen_t length =
      AgentAddress(config.realm ? config.runtime_dir : "", agent.uid, agent.id, &ours);
  socklen_t size = sizeof there;
  if (agent.listen_fd < 0 || length == 0 ||
      sys::Call(SYS_getsockname, agent.listen_fd, sys::Word(&there), sys::Word(&size)) != 0 ||
      size < length || memcmp(&there, &ours, length) != 0)
    return;
  ClosePrivate(agent.listen_fd);
  agent.listen_fd = -1;
}

// The whole time: so much has passed since then, whatever the clock says.
void HasSlept(uint64_t since_ns, int milliseconds) {
  const uint64_t least = since_ns + static_cast<uint64_t>(milliseconds) * kNsPerMs;
  const uint64_t now = AgentNs();
  if (now < least) agent.clock_ahead_ns += least - now;
}

uint64_t OnTimer(Timer timer, uint64_t now, uint64_t pause_ns) {
  switch (timer) {
    case Timer::kReaders:
      return WatchReaders(now);
    case Timer::kUnread:
      return LookForUnread(now);
    case Timer::kIdleMemory:
      return ReclaimIdleMemory(pause_ns);
    case Timer::kPostponed:
      return RetryPostponed(pause_ns);
    case Timer::kListener:
      AcceptTalks();
      break;
    case Timer::kDevices:
      return LookAtDevices(now);
    case Timer::kPositions:
      return AskAgain(now);
    case Timer::kPairings:
      return LookAtPairings();
    case Timer::kPost:
      return SendAfterShortage(pause_ns);
    case Timer::kThreads:
      return LookAtThreads(pause_ns);
    case Timer::kParked:
      return LookAtParked();
    case Timer::kOwner:
      return LookAtOwner();
    case Timer::kInherited:
      return LookAtInheritedSets(now);
    case Timer::kCount:
      break;
  }
  return kNotAgain;
}

void OnEvent(const epoll_event& event) {
  const uint64_t tag = event.data.u64;
  const auto kind = static_cast<WatchKind>(tag >> 60);
  const uint32_t index = static_cast<uint32_t>(tag & 0xffffff);
  const uint32_t generation = static_cast<uint32_t>(tag >> 24);
  switch (kind) {
    case WatchKind::kPoke: {
      uint64_t count;
      sys::Read(agent_shared.poke_fd.load(std::memory_order_relaxed), &count, sizeof count);
      agent.timers.StartWithin(Timer::kReaders, AgentNs(), 0);  // RequestWatch
      StartUnreadLooks();
      break;
    }
    case WatchKind::kListener:
      AcceptTalks();
      break;
    case WatchKind::kTalk:
      TalkEvent(index, event.events);
      break;
    case WatchKind::kShadow:
      ShadowEvent(index, generation, event.events);
      break;
    case WatchKind::kDevices:
      DeviceEvents(index);
      break;
    case WatchKind::kParent:
      ParentHasEnded();
      break;
  }
}

}  // namespace

void* AgentMain(void*) {
  agent_shared.tid.store(CurrentTid(), std::memory_order_relaxed);
  epoll_event events[64];
  int timeout_ms = -1;
  uint64_t now = 0;
  for (;;) {
    const long n = sys::Call(SYS_epoll_pwait, agent.epoll_fd, reinterpret_cast<long>(events), 64,
                             timeout_ms, 0, 8);
    if (n == 0) HasSlept(now, timeout_ms);
    // Here at once: glibc has every thread change its user, and that interrupts the wait. What was
    // made for the old user (a listener that speaks in its name, its hints) must not stay in the
    // hands of a program that has given it up.
    if (agent.listen_fd >= 0 && static_cast<uint32_t>(sys::Call(SYS_geteuid)) != agent.uid)
      GiveUpAgent(Reason::kUserChanged);
    if (n < 0 && n != -EINTR) {
      // Somebody closed our descriptors behind our back: every stream goes back to TCP, and we end.
      EndSharing(Reason::kDescriptorsClosed);
      CloseListenerIfOurs();
      break;
    }
    for (long i = 0; i < n; ++i) OnEvent(events[i]);
    WatchParent();
    TakeOurs(Arena()->service, ServiceSide);
    // Whose reader stood still is the one to know that it goes on: it makes the offer.
    TakeOurs(Arena()->wanted, [](uint32_t slot) {
      AgentSide& note = agent.sides[slot];
      ConsiderSide(slot, note.bypasses != 0 || note.seeks);
      note.seeks = false;
    });
    ServiceDatagrams();
    ServiceParked();
    const Reason ending = agent_shared.ending.load(std::memory_order_acquire);
    if (ending != Reason::kNone) {
      if (LetGoOfAll(ending)) break;
      timeout_ms = 5;
      continue;
    }
    if (MayRest()) break;
    RetryLater();
    agent.timers.Run(AgentNs(), OnTimer);
    DeliverPost();  // last: what all others have made due
    now = AgentNs();
    timeout_ms = agent_shared.rest.load(std::memory_order_acquire) == Rest::kNo
                     ? agent.timers.WaitMs(now)
                     : 1;
  }
  agent_shared.tid.store(0, std::memory_order_release);
  return nullptr;
}

namespace {
int ControlWatch(int operation, int fd, WatchKind kind, uint32_t index, uint32_t generation,
                 uint32_t events) {
  epoll_event event;
  event.events = events;
  event.data.u64 =
      (static_cast<uint64_t>(kind) << 60) | (static_cast<uint64_t>(generation) << 24) | index;
  return static_cast<int>(
      sys::Call(SYS_epoll_ctl, agent.epoll_fd, operation, fd, reinterpret_cast<long>(&event)));
}
}  // namespace

int Watch(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events) {
  return ControlWatch(EPOLL_CTL_ADD, fd, kind, index, generation, events);
}

int WatchAnew(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events) {
  return ControlWatch(EPOLL_CTL_MOD, fd, kind, index, generation, events);
}

void AgentMovePrivate(int fd) {
  // Rare (dup2 onto a number of ours): rather than move a descriptor that a sleeping thread may
  // use, give up sharing.
  EndSharing(Reason::kDescriptorWanted);
  FdTable::Clear(fd);
}

}  // namespace xenloop
