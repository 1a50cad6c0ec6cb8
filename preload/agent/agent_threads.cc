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
#include "preload/agent/agent_state.h"
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

Side* Follows(uint64_t fd) {
  return fd < static_cast<uint64_t>(FdTable::End()) ? FindSide(static_cast<int>(fd)) : nullptr;
}

// Each: a connection that we follow among those that are waited for, or nullptr.
Side* AmongPolled(uint64_t entries, uint64_t count) {
  pollfd some[64];
  const uint64_t most = sizeof some / sizeof *some;
  const uint64_t n = count < most ? count : most;
  Side* found = nullptr;
  if (n == 0 || !Peek(entries, some, n * sizeof *some)) return nullptr;
  for (uint64_t i = 0; i < n && found == nullptr; ++i) {
    if (some[i].fd >= 0) found = Follows(static_cast<uint64_t>(some[i].fd));
  }
  return found;
}

Side* AmongSelected(uint64_t set, uint64_t count) {
  uint64_t words[16];  // of the kernel's longs
  const uint64_t most = sizeof words * 8;
  const uint64_t n = count < most ? count : most;
  Side* found = nullptr;
  if (set == 0 || n == 0 || !Peek(set, words, (n + 63) / 64 * 8)) return nullptr;
  for (uint64_t fd = 0; fd < n && found == nullptr; ++fd) {
    if ((words[fd / 64] >> (fd % 64) & 1) != 0) found = Follows(fd);
  }
  return found;
}

// By the kernel's account of the set; of a very large one, by its beginning.
Side* InEpollSet(uint64_t epfd) {
  char text[16 * 1024];
  char path[48];
  snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", static_cast<int>(epfd));
  if (ReadProc(path, text, sizeof text) <= 0) return nullptr;
  Side* found = nullptr;
  for (const char* line = strstr(text, "tfd:"); line != nullptr && found == nullptr;
       line = strstr(line, "tfd:")) {
    line += 4;
    found = Follows(NumberAt(line, 10));
  }
  return found;
}

Side* WaitedForBy(const SleepingCall& call) {
  switch (call.number) {
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
      return Follows(call.arguments[0]);
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
      return AmongPolled(call.arguments[0], call.arguments[1]);
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
      return AmongSelected(call.arguments[1], call.arguments[0]);
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      return InEpollSet(call.arguments[0]);
    default:
      return nullptr;
  }
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
  Side* found = nullptr;
  // Not all of these calls were tried under a filter.
  if (LookForFilter() == Filter::kNone) {
    int threads = 0;
    EachNumberIn("/proc/self/task", [&found, &threads](uint32_t thread) {
      SleepingCall call;
      if (CallOf(thread, &call) && !real::IsWhereCallsAreSeen(call.from)) found = WaitedForBy(call);
      return found != nullptr || ++threads >= kMostThreads;
    });
  }
  if (found != nullptr) {
    Conclude(found);
    return kNotAgain;
  }
  return pause_ns < kLastPauseNs ? pause_ns * 2 : kNotAgain;
}

}  // namespace xenloop
