// syscall(2): the other door to everything in interposed_functions.def (libuv closes its sockets
// this way). Calls that concern us go to our function of that name, or mean the same by the raw
// call itself; all others go on unchanged, with six arguments.
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <type_traits>

#include "channel/base/sys.h"
#include "preload/abi/abi.h"
#include "preload/abi/abi_life.h"
#include "preload/abi/abi_message.h"
#include "preload/abi/abi_option.h"
#include "preload/libc/errno.h"
#include "preload/process/handlers.h"
#include "preload/process/inheritance.h"
#include "preload/process/process.h"
#include "preload/process/sandbox.h"
#include "preload/ready/poll.h"
#include "preload/ready/select.h"
#include "preload/side/fd_table.h"
#include "preload/socket/socket.h"
#include "preload/socket/submissions.h"

using namespace xenloop;

namespace {

// A register: becomes whatever type the parameter has.
struct Argument {
  long value;

  template <class Integer, std::enable_if_t<!std::is_pointer_v<Integer>, int> = 0>
  operator Integer() const {
    return static_cast<Integer>(value);
  }
  template <class Pointer, std::enable_if_t<std::is_pointer_v<Pointer>, long> = 0>
  operator Pointer() const {
    return reinterpret_cast<Pointer>(value);
  }
};

bool IsSide(int fd) { return FindSide(fd) != nullptr || FindDatagram(fd) != nullptr; }

// The kernel's signal sets are shorter than libc's.
class SignalMask {
 public:
  SignalMask(const void* kernel_mask, size_t size)
      : given_(kernel_mask != nullptr), readable_(MayRead(kernel_mask, given_ ? size : 0)) {
    sigemptyset(&mask_);
    if (kernel_mask != nullptr && readable_)
      memcpy(&mask_, kernel_mask, size < sizeof mask_ ? size : sizeof mask_);
  }
  const sigset_t* get() const { return given_ ? &mask_ : nullptr; }
  bool is_bad() const { return given_ && !readable_; }

 private:
  const bool given_;
  const bool readable_;
  sigset_t mask_;
};
constexpr size_t kKernelMaskSize = 8;
constexpr long kLandlockRestrictSelf = 446;
constexpr long kOpenAt2 = 437;

template <typename Kernel>
long ForkBy(const Kernel& kernel, unsigned long flags) {
  if ((flags & CLONE_VM) != 0) {
    if ((flags & (CLONE_FILES | CLONE_VFORK)) == 0) BeforeOtherDescriptors();
    if ((flags & CLONE_THREAD) == 0) BeforeLending();
    return kernel();
  }
  BeforeRawFork();
  const long child = kernel();
  AfterRawFork(static_cast<pid_t>(child));
  return child;
}

// An action as the kernel has it.
struct KernelAction {
  HandlerAction fields;
  uintptr_t restorer;
  uint64_t mask;
};

// No signal has that number: the kernel looks at the action, and refuses. (Before the first socket
// MayRead() would believe every pointer.)
bool IsThere(const KernelAction* action) {
  constexpr int kNoSignal = 0;
  return sys::Call(SYS_rt_sigaction, kNoSignal, sys::Word(action), 0, kKernelMaskSize) != -EFAULT;
}

template <typename Kernel>
long ChangeAction(int signal, const KernelAction* action, KernelAction* before, long mask_size,
                  const Kernel& kernel) {
  if (mask_size != static_cast<long>(kKernelMaskSize) || (action != nullptr && !IsThere(action)))
    return kernel(action);
  KernelAction given{};
  if (action != nullptr) given = *action;
  const HandlerChange change(signal, action != nullptr ? &given.fields : nullptr);
  const long result = kernel(action != nullptr ? &given : nullptr);
  if (result < 0) return result;
  if (before != nullptr) AsProgramsOwn(signal, &before->fields);
  change.Succeeded();
  return result;
}

template <typename Kernel>
long EnterRing(int fd, uint32_t count, uint32_t flags, const Kernel& kernel) {
  const Submitted submitted = BeforeSubmissions(fd, count, flags);
  if (submitted.ended)
    return submitted.error != 0 ? ReturnToLibc(submitted.error) : submitted.count;
  const long result = kernel(count - submitted.count);
  if (submitted.count == 0) return result;
  return result < 0 ? submitted.count : submitted.count + result;
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): one switch, a case for each call
XENLOOP_EXPORT long syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  const Argument a{va_arg(arguments, long)};
  const Argument b{va_arg(arguments, long)};
  const Argument c{va_arg(arguments, long)};
  const Argument d{va_arg(arguments, long)};
  const Argument e{va_arg(arguments, long)};
  const Argument f{va_arg(arguments, long)};
  va_end(arguments);
  const auto kernel = [&] {
    return real::syscall(number, a.value, b.value, c.value, d.value, e.value, f.value);
  };

  // A library behind us in LD_PRELOAD carries out a call that we have made: we see to it already.
  if (real::IsFromNextPreload(__builtin_return_address(0))) return kernel();

  switch (number) {
    // Bytes.
    case SYS_read:
      return IsSide(a) ? read(a, b, c) : OnUnknown(kernel);
    case SYS_readv:
      return IsSide(a) ? readv(a, b, c) : OnUnknown(kernel);
    case SYS_preadv2:
      return IsSide(a) ? preadv2(a, b, c, d, f) : OnUnknown(kernel);
    case SYS_recvfrom:
      return IsSide(a) ? recvfrom(a, b, c, d, e, f) : OnUnknown(kernel);
    case SYS_recvmsg:
      return IsSide(a) ? recvmsg(a, b, c) : ReceivedBy(a, static_cast<const msghdr*>(b), c, kernel);
    case SYS_recvmmsg:
      return IsSide(a) ? recvmmsg(a, b, c, d, e)
                       : ReceivedBy(a, static_cast<const mmsghdr*>(b), d, kernel);
    case SYS_write:
      return IsSide(a) ? write(a, b, c) : OnUnknown(kernel);
    case SYS_writev:
      return IsSide(a) ? writev(a, b, c) : OnUnknown(kernel);
    case SYS_pwritev2:
      return IsSide(a) ? pwritev2(a, b, c, d, f) : OnUnknown(kernel);
    case SYS_sendto:
      return IsSide(a) ? sendto(a, b, c, d, e, f) : OnUnknown(kernel);
    case SYS_sendmsg:
      return sendmsg(a, b, c);  // may carry sockets of ours
    case SYS_sendmmsg:
      return sendmmsg(a, b, c, d);
    case SYS_sendfile:
      return IsSide(a) || IsSide(b) ? sendfile(a, b, c, d) : OnUnknown(kernel);
    case SYS_splice:
      return IsSide(a) || IsSide(c) ? splice(a, b, c, d, e, f) : OnUnknown(kernel);

    // Sockets.
    case SYS_socket:
      return SocketBy(a, b, c, kernel);
    case SYS_connect:
      return ConnectBy(a, b, c, kernel);
    case SYS_accept:
      return AcceptBy(a, b, c, 0, [=](sockaddr* name, const socklen_t* length) {
        return real::syscall(SYS_accept, a.value, name, length);
      });
    case SYS_accept4:
      return AcceptBy(a, b, c, d, [=](sockaddr* name, const socklen_t* length) {
        return real::syscall(SYS_accept4, a.value, name, length, d.value);
      });
    case SYS_shutdown:
      return ShutdownBy(a, b, kernel);
    case SYS_getsockopt:
      return GetOptionBy(a, b, c, d, e, kernel);
    case SYS_setsockopt:
      return SetOptionBy(a, b, c, d, e, kernel);
    case SYS_ioctl:
      return IoctlBy(a, b, c, kernel);
    case SYS_bpf:
      BeforeBpf(a, b, c);
      return kernel();

    // Descriptors. Who closes this way wants no cancellation point.
    case SYS_close:
      return CloseOr(a, kernel);
    case SYS_close_range:
      return close_range(a, b, c);
    case SYS_dup:
      BeforeCallOn(a);
      return DuplicatedAs(a, Numbered(kernel));
    case SYS_openat:
    case kOpenAt2:
    case SYS_eventfd2:
    case SYS_memfd_create:
    case SYS_timerfd_create:
    case SYS_inotify_init1:
    case SYS_fanotify_init:
    case SYS_pidfd_open:
    case SYS_pidfd_getfd:
    case SYS_open_by_handle_at:
    case SYS_mq_open:
    case SYS_perf_event_open:
    case SYS_userfaultfd:
      return MadeBy(kernel);
    case SYS_signalfd4:
      return SignalsBy(a, kernel);
    case SYS_pipe2:
      return BothMadeBy(a, kernel);
    case SYS_socketpair:
      return BothMadeBy(d, kernel);
    case SYS_dup3:
      return DuplicateOnto(a, b, (c.value & ~O_CLOEXEC) == 0, kernel);
    case SYS_fcntl: {
      const int command = b;
      const bool ours = command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_SETFD ||
                        command == F_SETFL;
      return ours ? FcntlBy(a, command, c.value, kernel) : kernel();
    }

    // Readiness.
    case SYS_ppoll: {
      pollfd* const fds = a;
      if ((d.value != 0 && e.value != kKernelMaskSize) || !PollConcernsUs(fds, b, PollCall::kPpoll))
        return kernel();
      const SignalMask mask(d, kKernelMaskSize);
      if (mask.is_bad() || !IsUsable(static_cast<const timespec*>(c))) return kernel();
      return ReturnToLibc(Poll(fds, b, c, mask.get(), PollCall::kPpoll));
    }
    case SYS_pselect6: {
      struct MaskAndSize {
        const void* mask;
        size_t size;
      };
      const MaskAndSize* const given = f;
      if (!SelectConcernsUs(a, b, c, d) || !IsUsable(static_cast<const timespec*>(e)) ||
          (given != nullptr && !MayRead(given, sizeof *given)))
        return kernel();
      const SignalMask mask(given != nullptr ? given->mask : nullptr, kKernelMaskSize);
      if (mask.is_bad()) return kernel();
      timespec* const timeout = e;
      const timespec allowed = timeout != nullptr ? *timeout : timespec{};
      return ReturnToLibc(Select(SelectName::kPselect, a, b, c, d,
                                 timeout != nullptr ? &allowed : nullptr, timeout, mask.get()));
    }
    case SYS_epoll_create1:
      return epoll_create1(a);
    case SYS_epoll_ctl:
      return epoll_ctl(a, b, c, d);
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2: {
      if (FindEpollSet(a) == nullptr) return kernel();
      const SignalMask mask(e, kKernelMaskSize);
      if (mask.is_bad()) return kernel();
      return number == SYS_epoll_pwait ? epoll_pwait(a, b, c, d, mask.get())
                                       : epoll_pwait2(a, b, c, d, mask.get());
    }

    // Processes.
    case SYS_clone:
      return ForkBy(kernel, a);
    case SYS_clone3: {
      const clone_args* const request = a;
      return request != nullptr && MayRead(request, sizeof request->flags)
                 ? ForkBy(kernel, request->flags)
                 : kernel();
    }
    case SYS_execve:
      return ExecBy(ProgramAt(AT_FDCWD, a, 0), kernel);
    case SYS_execveat:
      return ExecBy(ProgramAt(a, b, e), kernel);
    case SYS_seccomp:
      if (a.value == SECCOMP_SET_MODE_STRICT || a.value == SECCOMP_SET_MODE_FILTER) BeforeSandbox();
      return kernel();
    case SYS_prctl:
      if (a.value == PR_SET_SECCOMP) BeforeSandbox();
      if (a.value == PR_SET_NO_NEW_PRIVS && b.value == 1) BeforeNoNewPrivileges();
      return kernel();
    // libc makes the first of these in every thread; raw, they are for one thread.
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
    case SYS_capset:
    case SYS_setns:
    case kLandlockRestrictSelf:
      return OneThreadBy(kernel);
    case SYS_unshare:
      return unshare(a);
    case SYS_rt_sigaction:
      return ChangeAction(a, b, c, d.value, [=](const KernelAction* action) {
        return real::syscall(SYS_rt_sigaction, a.value, action, c.value, d.value);
      });
    case SYS_exit_group:
      SayFarewell();
      return kernel();

    case SYS_io_uring_setup: {
      const long ring = kernel();
      const KeepErrno keep_errno;
      if (ring >= 0) SubmissionsSetUp(static_cast<int>(ring), b);
      return ring;
    }
    case SYS_io_uring_enter:
      return EnterRing(a, b, d, [=](uint32_t count) {
        return real::syscall(SYS_io_uring_enter, a.value, count, c.value, d.value, e.value,
                             f.value);
      });
    case SYS_io_uring_register:
      BeforeRingRegister(b, c, d);
      return kernel();

      // Older forms, which newer architectures do not have.
#ifdef SYS_fork
    case SYS_fork:
      return ForkBy(kernel, 0);
#endif
#ifdef SYS_open
    case SYS_open:
    case SYS_creat:
    case SYS_eventfd:
    case SYS_inotify_init:
      return MadeBy(kernel);
    case SYS_signalfd:
      return SignalsBy(a, kernel);
    case SYS_pipe:
      return BothMadeBy(a, kernel);
#endif
#ifdef SYS_dup2
    case SYS_dup2:
      return DuplicateOnto(a, b, /*valid=*/true, kernel);
#endif
#ifdef SYS_poll
    case SYS_poll: {
      pollfd* const fds = a;
      return PollConcernsUs(fds, b, PollCall::kPoll) ? poll(fds, b, c) : kernel();
    }
#endif
#ifdef SYS_select
    case SYS_select:
      return SelectConcernsUs(a, b, c, d) ? select(a, b, c, d, e) : kernel();
#endif
#ifdef SYS_epoll_create
    case SYS_epoll_create:
      return epoll_create(a);
#endif
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
      return epoll_wait(a, b, c, d);
#endif
    default:
      return kernel();
  }
}
