// Does a thread of this program wait by calls that do not pass through us? The peer has left its
// FIFO because nobody had taken what lay in it (agent_unread.cc). If a thread sleeps in a read, a
// poll or an epoll set that concerns a connection of ours, and the instruction that brought it
// there belongs to nobody whose calls we see, then the program makes its system calls in line: it
// would be told late again and again, and of every connection. The kernel says in /proc what each
// thread of ours sleeps in; we look some times after such an event, and no more when nothing came
// of it.
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "channel/base/number.h"
#include "channel/base/time.h"
#include "preload/agent/agent_datagram_probe.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/proc_files.h"
#include "preload/libc/real.h"
#include "preload/settings/config.h"
#include "preload/side/confinement.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr uint64_t kFirstPauseNs = 10 * kNsPerMs;
constexpr uint64_t kLastPauseNs = 640 * kNsPerMs;
constexpr uint32_t kMostInVain = 8;
constexpr int kMostThreads = 256;

struct SleepingCall {
  long number = -1;
  uint64_t arguments[6] = {};
  const void* from = nullptr;  // the instruction behind the call
};

uint64_t HexAt(const char** at) {
  while (**at == ' ') ++*at;
  if (strncmp(*at, "0x", 2) == 0) *at += 2;
  return ReadNumber(at, 16);
}

// False: it runs, or is gone, or sleeps elsewhere.
bool CallOf(uint32_t thread, SleepingCall* call) {
  char path[64];
  char text[256];
  snprintf(path, sizeof path, "/proc/self/task/%u/syscall", thread);
  if (ReadProc(path, text, sizeof text) <= 0 || text[0] < '0' || text[0] > '9') return false;
  const char* at = text;
  call->number = static_cast<long>(ReadNumber(&at, 10));
  for (uint64_t& argument : call->arguments) argument = HexAt(&at);
  HexAt(&at);  // the stack
  call->from = reinterpret_cast<const void*>(HexAt(&at));
  return true;
}

// What the call was given, which its thread may give back at any moment.
bool Peek(uint64_t address, void* to, size_t bytes) {
  const iovec here{to, bytes};
  const iovec there{reinterpret_cast<void*>(address), bytes};
  return sys::Call(SYS_process_vm_readv, process_state.pid, sys::Word(&here), 1, sys::Word(&there),
                   1, 0) == static_cast<long>(bytes);
}

// Each: is there one among those that are waited for that `follows(fd, events)`?
template <typename Follows>
bool AmongPolled(uint64_t entries, uint64_t count, Follows follows) {
  pollfd some[64];
  const uint64_t most = sizeof some / sizeof *some;
  const uint64_t n = count < most ? count : most;
  if (n == 0 || !Peek(entries, some, n * sizeof *some)) return false;
  for (uint64_t i = 0; i < n; ++i) {
    if (follows(some[i].fd, some[i].events)) return true;
  }
  return false;
}

template <typename Follows>
bool AmongSelected(uint64_t set, uint64_t count, Follows follows) {
  uint64_t words[16];  // of the kernel's longs
  const uint64_t most = sizeof words * 8;
  const uint64_t n = count < most ? count : most;
  if (set == 0 || n == 0 || !Peek(set, words, (n + 63) / 64 * 8)) return false;
  for (uint64_t fd = 0; fd < n; ++fd) {
    if ((words[fd / 64] >> (fd % 64) & 1) != 0 && follows(static_cast<int>(fd), POLLIN))
      return true;
  }
  return false;
}

// By the kernel's account of the set; of a very large one, by its beginning.
template <typename Follows>
bool InEpollSet(uint64_t epfd, Follows follows) {
  char text[16 * 1024];
  char path[48];
  snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", static_cast<int>(epfd));
  if (ReadProc(path, text, sizeof text) <= 0) return false;
  for (const char* line = strstr(text, "tfd:"); line != nullptr; line = strstr(line, "tfd:")) {
    line += 4;
    if (follows(static_cast<int>(NumberAt(line, 10)), POLLIN)) return true;
  }
  return false;
}

enum class In : uint8_t { kNoWait, kCall, kEpollSet };
template <typename Follows>
In WaitsIn(const SleepingCall& call, Follows follows) {
  bool found = false;
  switch (call.number) {
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
      found = follows(static_cast<int>(call.arguments[0]), POLLIN);
      break;
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
      found = AmongPolled(call.arguments[0], call.arguments[1], follows);
      break;
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
      found = AmongSelected(call.arguments[1], call.arguments[0], follows);
      break;
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      return InEpollSet(call.arguments[0], follows) ? In::kEpollSet : In::kNoWait;
    default:
      break;
  }
  return found ? In::kCall : In::kNoWait;
}

// Is there a thread that sleeps in a call of which `tells(call)`?
template <typename Tells>
bool AnyThread(Tells tells) {
  // Not all of the calls that this takes were tried under a filter.
  if (LookForFilterAsOurs() != Filter::kNone) return false;
  bool found = false;
  int threads = 0;
  EachNumberIn("/proc/self/task", [&](uint32_t thread) {
    SleepingCall call;
    found = CallOf(thread, &call) && tells(call);
    return found || ++threads >= kMostThreads;
  });
  return found;
}

void Conclude(Side* side) {
  side->pinned.store(1, std::memory_order_relaxed);
  FallBack(side->fd.load(std::memory_order_acquire), side, Reason::kWaitsUnseen);
  side->reason.store(Reason::kWaitsUnseen, std::memory_order_relaxed);
  // Tests do so at one connection and go on with others.
  if (!GetConfig().test_points) EndSharing(Reason::kWaitsUnseen);
}

}  // namespace

void SuspectUnseenWaits() {
  // Counted before: whoever says so again and again must not keep us looking.
  if (agent.looks_in_vain++ < kMostInVain)
    agent.timers.StartWithin(Timer::kThreads, AgentNs(), kFirstPauseNs);
}

uint64_t LookAtThreads(uint64_t pause_ns) {
  Side* side = nullptr;
  const auto follows = [&side](int fd, short) {
    side = fd >= 0 && fd < FdTable::End() ? FindSide(fd) : nullptr;
    return side != nullptr;
  };
  if (AnyThread([&follows](const SleepingCall& call) {
        return !real::IsWhereCallsAreSeen(call.from) && WaitsIn(call, follows) != In::kNoWait;
      })) {
    Conclude(side);
    return kNotAgain;
  }
  return pause_ns < kLastPauseNs ? pause_ns * 2 : kNotAgain;
}

bool WaitsUnseen(const DatagramSide* side) {
  const auto follows = [side](int fd, short events) {
    return (events & (POLLIN | POLLRDNORM)) != 0 && fd >= 0 && fd < FdTable::End() &&
           FindDatagram(fd) == side;
  };
  return AnyThread([&follows](const SleepingCall& call) {
    const bool seen = real::IsWhereCallsAreSeen(call.from);
    // A ring of which we know nothing may be its reader.
    if (call.number == SYS_io_uring_enter) return !seen;
    const In where = WaitsIn(call, follows);
    return where == In::kCall || (where == In::kEpollSet && !seen);
  });
}

}  // namespace xenloop
