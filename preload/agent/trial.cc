// A system call filter that came with the program, from a container or a service manager, may allow
// all that we need or nothing of it, and may kill for it. Only a process that may be killed can
// find out: a child makes each call of ours once, with arguments that do nothing.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "channel/base/sys.h"
#include "preload/agent/agent_tasks.h"
#include "preload/libc/threads.h"
#include "preload/side/confinement.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// What the agent calls, and what a thread of libc calls. Each answers these arguments by an error
// of its own, without effect.
constexpr int kCalls[] = {SYS_accept4,
                          SYS_bind,
                          SYS_clock_gettime,
                          SYS_connect,
                          SYS_dup3,
                          SYS_epoll_ctl,
                          SYS_epoll_pwait,
                          SYS_epoll_create1,
                          SYS_eventfd2,
                          SYS_faccessat,
                          SYS_fcntl,
                          SYS_fstat,
                          SYS_fstatfs,
                          SYS_ftruncate,
                          SYS_getdents64,
                          SYS_getpeername,
                          SYS_getrandom,
                          SYS_getsockname,
                          SYS_getsockopt,
                          SYS_ioctl,
                          SYS_listen,
                          SYS_lseek,
                          SYS_madvise,
                          SYS_memfd_create,
                          SYS_mremap,
                          SYS_munmap,
                          SYS_nanosleep,
                          SYS_newfstatat,
                          SYS_ppoll,
                          SYS_pread64,
                          SYS_prlimit64,
                          SYS_process_vm_readv,
                          SYS_pwrite64,
                          SYS_read,
                          SYS_readlinkat,
                          SYS_recvfrom,
                          SYS_recvmsg,
                          SYS_rt_sigprocmask,
                          SYS_sched_getaffinity,
                          SYS_sendmsg,
                          SYS_sendto,
                          SYS_set_robust_list,
                          SYS_setsockopt,
                          SYS_shutdown,
                          SYS_socket,
                          SYS_socketpair,
                          SYS_sigaltstack,
                          SYS_tgkill,
                          SYS_tkill,
                          SYS_write,
                          SYS_writev};

// Filters of service managers look at these arguments (memory to write and to run, files of
// another user's rights), so they are what the library says; others still let each call fail. (kill
// of -1 would mean every process.)
constexpr long kNoProcess = 0x7fffffff;
constexpr long kCallsInFull[][5] = {
    {SYS_kill, kNoProcess, 0, 0, 0},
    {SYS_mkdirat, -1, -1, 0700, 0},
    {SYS_mmap, -1, 0, PROT_READ | PROT_WRITE, MAP_SHARED},
    {SYS_mprotect, -1, 0, PROT_READ, 0},
    {SYS_openat, -1, -1, O_RDWR | O_CREAT | O_CLOEXEC, 0600},
};

bool IsRefusal(long answer) { return answer == -ENOSYS || answer == -EPERM || answer == -EACCES; }

[[noreturn]] void TryAll() {
  bool refused = false;
  // No core file of this.
  sys::Call(SYS_prctl, PR_SET_DUMPABLE, 0);
  for (const int number : kCalls)
    refused = refused || IsRefusal(sys::Call(number, -1, -1, -1, -1, -1, -1));
  for (const auto& call : kCallsInFull)
    refused = refused || IsRefusal(sys::Call(call[0], call[1], call[2], call[3], call[4], -1, -1));
  // Without clone3 libc makes its threads by clone; where that is refused for another reason, it
  // does not.
  const long cloned = sys::Call(SYS_clone3, -1, -1);
  refused = refused || (cloned != -ENOSYS && IsRefusal(cloned));
  uint32_t word = 0;
  refused = refused || IsRefusal(sys::Call(SYS_futex, sys::Word(&word), FUTEX_WAKE, 1));
  for (const int number : {SYS_geteuid, SYS_getpid, SYS_getppid, SYS_gettid, SYS_sched_yield})
    refused = refused || IsRefusal(sys::Call(number));
  for (;;) sys::Call(SYS_exit_group, refused ? 1 : 0);
}

bool TrialPasses() {
  const sys::SignalsBlocked blocked;
  const long child = sys::Call(SYS_clone, 0, 0, 0, 0, 0);  // its end sends the program no signal
  if (child == 0) TryAll();
  int status = -1;
  long ended = -EINTR;
  while (child > 0 && ended == -EINTR)
    ended = sys::Call(SYS_wait4, child, sys::Word(&status), __WALL, 0);
  return ended == child && child > 0 && status == 0;
}

}  // namespace

Reason FilterInTheWay() {
  if (HasPreparedLook()) {
    if (TakePreparedLook() == Filter::kNone) return Reason::kNone;
    process_state.sandboxed = true;
    return Reason::kSandbox;
  }
  if (LookForFilter() == Filter::kNone) return Reason::kNone;
  // The trial takes a child, so this must be something that the program does as well.
  if (!process_state.forks && !threads::Several()) return Reason::kFilterUntried;
  return TrialPasses() ? Reason::kNone : Reason::kFilterForbids;
}

}  // namespace xenloop
