// sigaction and what libc makes of it: the program's handlers are entered through us
// (process/handlers.h). libc's other functions call its own sigaction unseen, so they are done here
// by that one.
#include <signal.h>
#include <string.h>

#include "preload/abi/abi.h"
#include "preload/process/handlers.h"

using namespace xenloop;

namespace {

__sighandler_t Refused() { return ReturnToLibc(-EINVAL) < 0 ? SIG_ERR : nullptr; }

bool IsSignalOfPrograms(int signal) {
  // Between the classic signals and SIGRTMIN are libc's own.
  return signal >= 1 && signal < NSIG && (signal < 32 || signal >= SIGRTMIN);
}

uintptr_t HandlerOf(const struct sigaction& action) {
  return reinterpret_cast<uintptr_t>(action.sa_handler);
}

// The action's two fields that we change; the mask and what else there is stay as they are.
void Put(const HandlerAction& fields, struct sigaction* action) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  action->sa_handler = reinterpret_cast<__sighandler_t>(fields.handler);
  action->sa_flags = static_cast<int>(fields.flags);
}
HandlerAction Get(const struct sigaction& action) {
  return {HandlerOf(action), static_cast<uint32_t>(action.sa_flags)};
}

// As signal() and its like: the old handler, or SIG_ERR.
__sighandler_t Handle(int signal, __sighandler_t handler, int flags, bool masks_itself) {
  if (handler == SIG_ERR || !IsSignalOfPrograms(signal)) return Refused();
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  if (masks_itself) sigaddset(&action.sa_mask, signal);
  return sigaction(signal, &action, &before) < 0 ? SIG_ERR : before.sa_handler;
}

}  // namespace

XENLOOP_EXPORT int sigaction(int signal, const struct sigaction* action,
                             struct sigaction* before) noexcept {
  HandlerAction fields{0, 0};
  struct sigaction given;
  if (action != nullptr) {
    given = *action;
    fields = Get(given);
  }
  const HandlerChange change(signal, action != nullptr ? &fields : nullptr);
  if (action != nullptr) Put(fields, &given);
  const int result = real::sigaction(signal, action != nullptr ? &given : nullptr, before);
  if (result < 0) return result;
  if (before != nullptr) {
    HandlerAction found = Get(*before);
    AsProgramsOwn(signal, &found);
    Put(found, before);
  }
  change.Succeeded();
  return result;
}
XENLOOP_ALIAS(__sigaction, sigaction);

XENLOOP_EXPORT __sighandler_t signal(int number, __sighandler_t handler) noexcept {
  return Handle(number, handler, Interrupts(number) ? 0 : SA_RESTART, /*masks_itself=*/true);
}
XENLOOP_ALIAS(bsd_signal, signal);
XENLOOP_ALIAS(ssignal, signal);

XENLOOP_EXPORT __sighandler_t __sysv_signal(int number, __sighandler_t handler) noexcept {
  return Handle(number, handler, static_cast<int>(SA_RESETHAND) | SA_NODEFER | SA_INTERRUPT,
                /*masks_itself=*/false);
}
XENLOOP_ALIAS(sysv_signal, __sysv_signal);

XENLOOP_EXPORT __sighandler_t sigset(int number, __sighandler_t handler) noexcept {
  if (handler == SIG_ERR || number < 1 || number >= NSIG) return Refused();
  sigset_t only;
  sigset_t was;
  sigemptyset(&only);
  if (sigaddset(&only, number) < 0) return SIG_ERR;
  __sighandler_t before;
  if (handler == SIG_HOLD) {
    struct sigaction now;
    if (sigprocmask(SIG_BLOCK, &only, &was) < 0 || sigaction(number, nullptr, &now) < 0)
      return SIG_ERR;
    before = now.sa_handler;
  } else {
    before = Handle(number, handler, 0, /*masks_itself=*/false);
    if (before == SIG_ERR || sigprocmask(SIG_UNBLOCK, &only, &was) < 0) return SIG_ERR;
  }
  return sigismember(&was, number) == 1 ? SIG_HOLD : before;
}

XENLOOP_EXPORT int siginterrupt(int number, int interrupt) noexcept {
  const int result = real::siginterrupt(number, interrupt);
  if (result < 0) return result;
  SetInterrupts(number, interrupt != 0);
  struct sigaction now;
  const KeepErrno keep_errno;
  if (real::sigaction(number, nullptr, &now) == 0) RestartsChanged(number, Get(now));
  return result;
}
