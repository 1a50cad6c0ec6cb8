// Listeners whose lives wait in a queue of ours (side/parked.h): published, looked after while
// something waits there, and as before when nothing is left.
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "channel/base/descriptor.h"
#include "discovery/owner.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_park.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll.h"
#include "preload/side/agent_asks.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/parked.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/socket_options.h"

namespace xenloop {

int OptionOf(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  const long result =
      sys::Call(SYS_getsockopt, fd, level, name, sys::Word(&value), sys::Word(&length));
  return result == 0 ? value : 0;
}

namespace {

bool IsPolled(const Side* listener, int fd) {
  return EpollKnowsBy(listener, fd) ||
         (listener->options_set.load(std::memory_order_relaxed) & kSeenInPoll) != 0;
}

// kNone: nothing about the listener changes what accept() would bring, or whose it is.
Reason WhyNoQueue(const Side* listener, int fd) {
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFL);
  if (listener->holders.load(std::memory_order_relaxed) != 1) return Reason::kParkShared;
  if (flags < 0 || FindSide(fd) != listener || OptionOf(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0)
    return Reason::kParkListenerKind;
  if (OptionOf(fd, SOL_SOCKET, SO_REUSEPORT) != 0) return Reason::kParkReusePort;
  // Who waits for it by inline system calls would not be woken (D-22): it waits in our accept, or
  // was seen in our poll or epoll. And not both: a poll may tell of a connection that agents make,
  // and the accept behind it would sleep.
  const bool blocks = (flags & O_NONBLOCK) == 0;
  if (IsPolled(listener, fd) == blocks) return blocks ? Reason::kParkBlocks : Reason::kParkUnseen;
  return listener->references.load(std::memory_order_acquire) == 1 &&
                 listener->pinned.load(std::memory_order_relaxed) == 0 &&
                 OptionOf(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 0 &&
                 OptionOf(fd, IPPROTO_TCP, TCP_FASTOPEN) == 0 &&
                 OptionOf(fd, SOL_SOCKET, SO_LINGER) == 0 && AskOptions(fd) == Reason::kNone &&
                 NetnsCookieOf(fd) == agent.netns_cookie
             ? Reason::kNone
             : Reason::kParkListenerKind;
}

// Its threads look at the virtual queue from now on, wherever they wait.
bool BecomesAware(ListenerQueue* queue) {
  Side* const listener = queue->listener;
  listener->owner_pid.store(process_state.pid, std::memory_order_release);
  // seq_cst: who goes to wait in the kernel counts himself, and then looks.
  listener->queue.store(static_cast<uint32_t>(queue - parked.queues) + 1,
                        std::memory_order_seq_cst);
  if (PrepareRegistrations(listener)) {
    WriteBell(listener);
    return true;
  }
  RestoreRegistrations(listener);
  listener->queue.store(0, std::memory_order_seq_cst);
  return false;
}

void PublishListener(ListenerQueue* queue) {
  Side* const listener = queue->listener;
  const int fd = listener->fd.load(std::memory_order_acquire);
  const AgentAsks asks(fd);
  tcp_info info;
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  Reason why = asks.May() ? WhyNoQueue(listener, fd) : Reason::kParkListenerKind;
  if (why == Reason::kNone &&
      (TcpInfoOf(fd, &info) != 0 ||
       sys::Call(SYS_getsockname, fd, sys::Word(&name), sys::Word(&length)) != 0 ||
       !ToEndpoint(name, &queue->name) || !(QueueOf(listener) == queue || BecomesAware(queue))))
    why = Reason::kParkListenerKind;
  queue->why.store(why, std::memory_order_relaxed);
  if (why != Reason::kNone) {
    Log("listener %d: %s", fd, ReasonText(why));
    uint32_t over = kQueueOverForGood;
    if (why == Reason::kParkShared) over = kQueueOverForNow;
    if (why == Reason::kParkBlocks) {
      listener->nonblocking.store(0, std::memory_order_relaxed);
      over = kQueueOverWhileItBlocks;
    }
    queue->over.store(over, std::memory_order_relaxed);
    return;
  }
  queue->ipv6_only = name.ss_family == AF_INET6 && OptionOf(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
  queue->backlog = info.tcpi_sacked;  // of a listener: how many may wait
  queue->blocks = (sys::Call(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK) == 0;
  // A thread that is in there and knows nothing: another time. (Of one that blocks it is known.)
  const bool unaware = !queue->blocks && listener->receive.kernel_users.Any();
  const bool told =
      !unaware && agent.registry.Publish(HashOf(ListenerHint(queue->name)), agent.id) == 0;
  queue->published.store(told ? 2 : 0, std::memory_order_release);
}

// The listener is as it was before, once no connection of its queue is left.
void EndEmptyQueues() {
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) == 0 || queue.over.load() == 0 ||
        queue.pairs.load(std::memory_order_acquire) != 0 || QueueOf(queue.listener) != &queue)
      continue;
    RestoreRegistrations(queue.listener);
    queue.listener->queue.store(0, std::memory_order_seq_cst);
  }
}

// How much of `name` the listener at `queue` is bound to, as the kernel weighs it; 0: it is
// another's.
int MatchOf(const ListenerQueue& queue, const Endpoint& name) {
  if (queue.name.port != name.port) return 0;
  if (SameEndpoint(queue.name, name)) return 3;
  if (name.IsV4() && SameEndpoint(queue.name, AnyAddress(name.port))) return 2;
  const bool other_family = name.IsV4() && queue.ipv6_only;
  return SameEndpoint(queue.name, Endpoint{{}, name.port}) && !other_family ? 1 : 0;
}

// Each may stand in the kernel's queue: the program does not accept, or clients were killed.
bool TooManyOrphans() {
  constexpr int kMost = 8;
  int orphans = 0;
  for (const ParkedPair& pair : parked.pairs) orphans += IsOrphan(pair) ? 1 : 0;
  return orphans >= kMost;
}

// A connection to the listener, that the program's accept takes away: whoever waits for it by a way
// that we do not see is woken. It is closed at once, and waits there all the same.
void Kick(const ListenerQueue& queue) {
  sockaddr_storage to = {};
  socklen_t length = sizeof to;
  const int listener = queue.listener->fd.load(std::memory_order_acquire);
  ParkedPair* const pair = TakePair(Role::kServer);
  if (pair == nullptr) return;
  bool known = false;
  {
    const AgentAsks asks(listener);
    known =
        asks.May() && sys::Call(SYS_getsockname, listener, sys::Word(&to), sys::Word(&length)) == 0;
  }
  const int fd =
      known ? MakePrivateBy(SYS_socket, to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
            : -1;
  // To an address of no machine the kernel connects by the loopback one, from the same.
  sockaddr_storage from = to;
  if (to.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(from);
    if (v4.sin_addr.s_addr == 0) v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4.sin_port = 0;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(from);
    if (IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr)) v6.sin6_addr.s6_addr[15] = 1;
    v6.sin6_port = 0;
  }
  sockaddr_storage own = {};
  socklen_t own_length = sizeof own;
  if (fd >= 0 && sys::Call(SYS_bind, fd, sys::Word(&from), length) == 0 &&
      sys::Call(SYS_getsockname, fd, sys::Word(&own), sys::Word(&own_length)) == 0 &&
      ToEndpoint(own, &pair->tuple.peer)) {
    pair->tuple.local = queue.name;
    memcpy(pair->tuple.local.address, pair->tuple.peer.address, sizeof pair->tuple.local.address);
    parked.expected.fetch_add(1, std::memory_order_seq_cst);
    sys::Call(SYS_connect, fd, sys::Word(&to), length);
  } else {
    pair->stage.store(PairStage::kFree, std::memory_order_release);
  }
  if (fd >= 0) ClosePrivate(fd);
}

// What waits has waited for half a second. Nobody may have heard of it; so it becomes an ordinary
// connection, the kernel tells of the listener, and the next ones are the kernel's.
void EndIfNobodyLooks(ListenerQueue* queue) {
  constexpr uint32_t kLooks = 2;
  constexpr uint32_t kMostKicks = 4;  // then it is not for us
  uint64_t news = 0;
  if (!QueueHolds(queue->listener, &news)) {
    queue->seen_looks = 0;
    return;
  }
  if (queue->seen_looks == 0 || news != queue->seen_news) queue->seen_looks = 0;
  queue->seen_news = news;
  if (queue->seen_looks++ != kLooks) return;
  Log("listener %d: nobody accepts", queue->listener->fd.load());
  EndQueue(queue->listener, QueueEnd::kGoesOn);
  if (++queue->kicks >= kMostKicks) {
    queue->why.store(Reason::kParkUnseen, std::memory_order_relaxed);
    queue->over.store(kQueueOverForGood, std::memory_order_seq_cst);
  }
  Kick(*queue);
}

}  // namespace

ListenerQueue* QueueFor(const Endpoint& name) {
  ListenerQueue* best = nullptr;
  int most = 0;
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) == 0 || queue.over.load() != 0 ||
        queue.published.load(std::memory_order_acquire) != 2 || QueueOf(queue.listener) != &queue)
      continue;
    const int match = MatchOf(queue, name);
    if (match <= most) continue;
    best = &queue;
    most = match;
  }
  return best;
}

// The kernel would bring the connection to that listener and to no other, of this process or
// another; the program accepts; and no more lives might wait than there is room for in the kernel.
bool MayBeAskedOf(const ListenerQueue& queue, const Tuple& tuple) {
  Arrival arrival;
  struct stat own = {};
  const int fd = queue.listener->fd.load(std::memory_order_acquire);
  return queue.pairs.load() < queue.backlog && !TooManyOrphans() &&
         !(queue.blocks && IsPolled(queue.listener, fd)) &&
         sys::Call(SYS_fstat, fd, sys::Word(&own)) == 0 && ArrivalOf(tuple, &arrival) == 0 &&
         arrival.is_listener && arrival.inode == static_cast<uint32_t>(own.st_ino);
}

void ServiceQueues() {
  EndEmptyQueues();
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0 && queue.over.load() == 0 &&
        queue.published.load(std::memory_order_acquire) == 1)
      PublishListener(&queue);
  }
}

void LookAtQueues() {
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0) EndIfNobodyLooks(&queue);
  }
  EndEmptyQueues();
}

}  // namespace xenloop
