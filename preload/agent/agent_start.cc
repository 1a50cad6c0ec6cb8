// Starting the agent: everything that it needs, and its thread.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "channel/base/descriptor.h"
#include "channel/local/local_transport.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/threads.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bare_wait.h"
#include "preload/side/bells.h"
#include "preload/side/log.h"
#include "preload/side/private_fd.h"
#include "preload/side/processors.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr size_t kStackBytes = 256 * 1024;

uint64_t RandomNumber() {
  uint64_t number = 0;
  if (sys::Call(SYS_getrandom, reinterpret_cast<long>(&number), sizeof number, 0) !=
          sizeof number ||
      number == 0) {
    number = sys::MonotonicNs() ^ (static_cast<uint64_t>(process_state.pid) << 40) ^ 1;
  }
  return number;
}

int OpenListener() {
  const Config& config = GetConfig();
  const long fd =
      sys::MakeDescriptor(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return static_cast<int>(fd);
  sockaddr_un address;
  const socklen_t length =
      AgentAddress(config.realm ? config.runtime_dir : "", agent.uid, agent.id, &address);
  long result = length == 0 ? -ENAMETOOLONG
                            : sys::Call(SYS_bind, fd, reinterpret_cast<long>(&address), length);
  if (result == 0) result = sys::Call(SYS_listen, fd, 256);
  if (result < 0) {
    sys::Close(static_cast<int>(fd));
    return static_cast<int>(result);
  }
  const long tcp = sys::MakeDescriptor(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (tcp >= 0) {
    agent.netns_cookie = NetnsCookieOf(static_cast<int>(tcp));
    sys::Close(static_cast<int>(tcp));
  }
  return static_cast<int>(fd);
}

// Everything the agent needs but its thread. kNone, or why not.
Reason Prepare() {
  Reason reason = Reason::kNone;
  agent.uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  agent.id = RandomNumber();
  const Reason rule = RuleAgainstUser(GetConfig().rules, agent.uid);
  if (rule != Reason::kNone) return rule;
  if (agent.registry.Open(GetConfig().runtime_dir, agent.uid, &reason) != 0) return reason;
  agent.registry.MoveDescriptor(MakePrivate(agent.registry.descriptor()));
  if (!MapAgentMemory()) return Reason::kAgentNoMemory;
  agent.epoll_fd = MakePrivateBy(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (agent.epoll_fd < 0) return Reason::kAgentNoDescriptors;
  const int poke = MakePrivateBy(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (poke < 0) return Reason::kAgentNoDescriptors;
  agent_shared.unread.store(0, std::memory_order_relaxed);  // of an agent that has ended
  agent_shared.poke_fd.store(poke, std::memory_order_release);
  agent.listen_fd = MakePrivate(OpenListener());
  if (agent.listen_fd < 0) return Reason::kAgentNoSocket;
  Ticket ticket;
  if (LocalTransport().create_doorbell(&agent_shared.doorbell, &ticket) != 0)
    return Reason::kAgentNoDescriptors;
  const int bell = MakePrivate(ticket.fds[0]);
  const int page = MakePrivate(ticket.fds[1]);
  if (bell < 0 || page < 0) return Reason::kAgentNoDescriptors;
  agent_shared.doorbell.fd = bell;
  agent.page_fd = page;
  MakeCommonBell(LocalTransport());
  Watch(poke, WatchKind::kPoke, 0, 0, EPOLLIN);
  Watch(agent.listen_fd, WatchKind::kListener, 0, 0, EPOLLIN | EPOLLET);
  return Reason::kNone;
}

void Unprepare() {
  for (int* fd : {&agent.epoll_fd, &agent.listen_fd, &agent_shared.doorbell.fd, &agent.page_fd}) {
    if (*fd >= 0) ClosePrivate(*fd);
    *fd = -1;
  }
  const int poke = agent_shared.poke_fd.exchange(-1, std::memory_order_acq_rel);
  if (poke > 0) ClosePrivate(poke);
  CloseOwnBells();
  CloseRegistry();
}

}  // namespace

bool EnsureAgent() {
  if (process_state.sandboxed ||
      agent_shared.ending.load(std::memory_order_acquire) != Reason::kNone)
    return false;
  int state = 0;
  // The calls that go on behind the handler that we are in are counted nowhere.
  if (agent_shared.started.load(std::memory_order_acquire) == 0 && BareWait::IsInTheWay())
    return false;
  if (!agent_shared.started.compare_exchange_strong(state, 1, std::memory_order_acq_rel))
    return state == 1 || state == 2;
  sys::SignalsBlocked blocked;  // the thread inherits this mask for good
  process_state.processors = CountProcessors();
  Reason failure = threads::Find() ? Prepare() : Reason::kAgentNoThreadLibrary;
  if (failure == Reason::kNone) {
    // What an agent leaves behind, as tags in epoll sets, outlives it; and a later libc may say
    // once more that there is one thread.
    BareWait::Forbid();
    agent_shared.tid.store(0, std::memory_order_relaxed);
    agent_shared.started.store(2, std::memory_order_release);
    if (threads::CreateDetached(kStackBytes, AgentMain) != 0) failure = Reason::kAgentNoThread;
  }
  if (failure == Reason::kNone) {
    BelieveProgramMemory(false);  // there is no filter: calls of ours were tried
    return true;
  }
  Unprepare();
  agent_shared.start_failure.store(failure, std::memory_order_relaxed);
  agent_shared.started.store(kAgentFailed, std::memory_order_release);
  Log("agent not started: %s", ReasonText(failure));
  return false;
}

Reason OpenRealmAnew() {
  if (!GetConfig().realm) return Reason::kNone;
  Reason reason = Reason::kNone;
  Registry fresh;
  if (fresh.Open(GetConfig().runtime_dir, agent.uid, &reason) != 0) return reason;
  agent.id = RandomNumber();  // our name of an earlier stay may still be there, and hints with it
  const int listener = MakePrivate(OpenListener());
  if (listener < 0) {
    fresh.Close();
    return Reason::kAgentNoSocket;
  }
  CloseRegistry();
  agent.registry = fresh;
  agent.registry.MoveDescriptor(MakePrivate(agent.registry.descriptor()));
  ClosePrivate(agent.listen_fd);
  agent.listen_fd = listener;
  Watch(agent.listen_fd, WatchKind::kListener, 0, 0, EPOLLIN | EPOLLET);
  return Reason::kNone;
}

uint64_t NetnsCookieOf(int fd) {
  constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, kNetnsCookie, reinterpret_cast<long>(&cookie),
            reinterpret_cast<long>(&size));
  return cookie;
}

}  // namespace xenloop
