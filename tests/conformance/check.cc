// Child processes and the waits that need more than one call.

#include "tests/conformance/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <string>

namespace conformance {

bool WaitForBytes(int fd, int count) {
  const Stopwatch stopwatch;
  while (stopwatch.ElapsedMs() < kSoonMs) {
    int pending = 0;
    if (ioctl(fd, FIONREAD, &pending) != 0) return false;
    if (pending >= count) return true;
    poll(nullptr, 0, 1);
  }
  return false;
}

void WaitUntilAsleep(pid_t tid) {
  const std::string path = "/proc/" + std::to_string(tid) + "/stat";
  const Stopwatch stopwatch;
  while (stopwatch.ElapsedMs() < kSoonMs) {
    char line[200] = {};
    const FileDescriptor stat(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (read(stat.get(), line, sizeof(line) - 1) <= 0) return;  // it has ended
    const char* name_end = strrchr(line, ')');
    if (name_end != nullptr && name_end[2] == 'S') return;
    poll(nullptr, 0, 1);
  }
}

ChildProcess::ChildProcess(const std::function<bool()>& work) : pid_(fork()) {
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(25);
  _exit(work() ? 0 : 1);
}

ChildProcess::~ChildProcess() {
  if (pid_ <= 0) return;
  Kill();
  waitpid(pid_, nullptr, 0);
}

void ChildProcess::Kill() {
  if (pid_ > 0) kill(pid_, SIGKILL);
}

bool ChildProcess::Succeeded() {
  int status = -1;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool ReportIfFalse(bool condition, const char* what, const char* file, int line) {
  if (!condition) {
    const int error = errno;
    fprintf(stderr, "%s:%d: in a child process: not true: %s (errno %s)\n", file, line, what,
            strerrorname_np(error) ? strerrorname_np(error) : "0");
  }
  return condition;
}

}  // namespace conformance
