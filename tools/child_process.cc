// fork, exec, forward signals, wait; see child_process.h.

#include "tools/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace xenloop::tools {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& program) {
  std::vector<char*> pointers;
  pointers.reserve(program.size() + 1);
  for (const std::string& word : program) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// All but those that a parent must not take away from the system: job control, which the terminal
// sends to both of us, and faults, which are our own.
sigset_t SignalsToForward() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int own : {SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGSEGV, SIGBUS,
                        SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) {
    sigdelset(&signals, own);
  }
  return signals;
}

// Waits for the child's end; SIGCHLD is among the blocked `signals`.
int WaitAndForward(pid_t child, const sigset_t& signals) {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (ended < 0 && errno != EINTR) return 1;  // cannot be: it is our child and SIGCHLD is default
    siginfo_t info;
    const int signal = sigwaitinfo(&signals, &info);
    if (signal <= 0 || signal == SIGCHLD) continue;
    // What the kernel sends (Ctrl-C) went to the whole foreground group: the child has it already.
    if (info.si_code != SI_KERNEL) kill(child, signal);
  }
}

}  // namespace

int ExecuteProgram(const std::vector<std::string>& program) {
  execvp(program[0].c_str(), Pointers(program).data());
  return errno;
}

ChildEnd RunAndWait(const std::vector<std::string>& program) {
  ChildEnd end;
  const std::vector<char*> arguments = Pointers(program);
  int failure[2];  // carries errno if exec fails, and end-of-file if it succeeds
  if (pipe2(failure, O_CLOEXEC) != 0) {
    end.execute_errno = errno;
    return end;
  }
  // An ignored SIGCHLD (inherited) would take the exit status away.
  struct sigaction reap = {};
  struct sigaction inherited_reap = {};
  reap.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &reap, &inherited_reap);
  // Blocked before fork: a signal in between waits and is forwarded.
  const sigset_t signals = SignalsToForward();
  sigset_t inherited_mask;
  sigprocmask(SIG_BLOCK, &signals, &inherited_mask);

  const pid_t child = fork();
  if (child == 0) {
    sigaction(SIGCHLD, &inherited_reap, nullptr);
    sigprocmask(SIG_SETMASK, &inherited_mask, nullptr);
    execvp(arguments[0], arguments.data());
    const int error = errno;
    if (write(failure[1], &error, sizeof(error)) != sizeof(error)) _exit(126);
    _exit(127);
  }
  if (child < 0) end.execute_errno = errno;
  close(failure[1]);
  if (child > 0) {
    int error = 0;
    ssize_t got;
    do {
      got = read(failure[0], &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
    if (got == sizeof(error)) end.execute_errno = error;
    end.exit_status = WaitAndForward(child, signals);
  }
  close(failure[0]);
  // What came too late for the child must not kill us before the statistics are out: the mask stays
  // as it is until the tool ends, which is soon.
  return end;
}

}  // namespace xenloop::tools
