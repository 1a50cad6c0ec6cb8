// Birth and death of processes, as far as libc shows them. fork itself is not here: process.cc has
// atfork handlers. What libc starts unseen (posix_spawn, system, popen, vfork) is announced before;
// vfork is in abi_vfork.S.
#include <alloca.h>
#include <stdarg.h>

#include "preload/abi/abi.h"
#include "preload/process/inheritance.h"
#include "preload/process/process.h"
#include "preload/process/sandbox.h"
#include "preload/ready/epoll.h"
#include "preload/socket/socket.h"

using namespace xenloop;

namespace {

struct CloneStart {
  int (*function)(void*);
  void* argument;
};

int StartClone(void* start) {
  AfterRawFork(0);
  const CloneStart& program = *static_cast<CloneStart*>(start);
  return program.function(program.argument);
}

// The arguments of execl and its like: how many, up to and with the null pointer.
size_t CountArguments(const char* first, va_list* rest) {
  size_t count = 1;
  for (const char* argument = first; argument != nullptr; ++count) argument = va_arg(*rest, char*);
  return count;
}

void TakeArguments(char** argv, const char* first, va_list* rest) {
  *argv = const_cast<char*>(first);
  while (*argv != nullptr) *++argv = va_arg(*rest, char*);
}

}  // namespace

XENLOOP_EXPORT pid_t _Fork() {
  BeforeRawFork();
  const pid_t child = real::_Fork();
  AfterRawFork(child);
  return child;
}

// Called by vfork in abi_vfork.S, which then jumps to what is returned.
extern "C" __attribute__((visibility("hidden"))) void* xenloop_before_vfork();
void* xenloop_before_vfork() {
  BeforeLending();
  return reinterpret_cast<void*>(real::vfork.Get());
}

XENLOOP_EXPORT int clone(int (*function)(void*), void* stack, int flags, void* argument, ...) {
  va_list arguments;
  va_start(arguments, argument);
  auto* const parent_tid = va_arg(arguments, pid_t*);
  void* const tls = va_arg(arguments, void*);
  auto* const child_tid = va_arg(arguments, pid_t*);
  va_end(arguments);
  // Without CLONE_VM the child has a copy of this frame, and of our tables.
  CloneStart start{function, argument};
  if ((flags & CLONE_VM) == 0 && function != nullptr) {
    BeforeRawFork();
    const int child = real::clone(&StartClone, stack, flags, &start, parent_tid, tls, child_tid);
    AfterRawFork(child);
    return child;
  }
  if (function != nullptr && (flags & CLONE_VM) != 0) {
    if ((flags & (CLONE_FILES | CLONE_VFORK)) == 0) BeforeOtherDescriptors();
    if ((flags & CLONE_THREAD) == 0) BeforeLending();
  }
  return real::clone(function, stack, flags, argument, parent_tid, tls, child_tid);
}
XENLOOP_ALIAS(__clone, clone);

// The spawned program gets the descriptor under another number, close-on-exec or not.
XENLOOP_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* actions, int from,
                                                    int to) {
  KeptForAnotherProgram(from);
  return real::posix_spawn_file_actions_adddup2(actions, from, to);
}

XENLOOP_EXPORT int posix_spawn(pid_t* pid, const char* path,
                               const posix_spawn_file_actions_t* actions,
                               const posix_spawnattr_t* attributes, char* const argv[],
                               char* const environment[]) {
  const ProgramStarts starts;
  BeforeSpawn();
  return real::posix_spawn(pid, path, actions, attributes, argv, environment);
}

XENLOOP_EXPORT int posix_spawnp(pid_t* pid, const char* file,
                                const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, char* const argv[],
                                char* const environment[]) {
  const ProgramStarts starts;
  BeforeSpawn();
  return real::posix_spawnp(pid, file, actions, attributes, argv, environment);
}

// Since glibc 2.39. A program that finds them by weak reference or dlsym finds ours also where libc
// has none: the answer is then that of a kernel without pidfds.
XENLOOP_EXPORT int pidfd_spawn(int* pidfd, const char* path,
                               const posix_spawn_file_actions_t* actions,
                               const posix_spawnattr_t* attributes, char* const argv[],
                               char* const environment[]) {
  if (!real::pidfd_spawn.IsAvailable()) return ENOSYS;
  const ProgramStarts starts;
  BeforeSpawn();
  return real::pidfd_spawn(pidfd, path, actions, attributes, argv, environment);
}

XENLOOP_EXPORT int pidfd_spawnp(int* pidfd, const char* file,
                                const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, char* const argv[],
                                char* const environment[]) {
  if (!real::pidfd_spawnp.IsAvailable()) return ENOSYS;
  const ProgramStarts starts;
  BeforeSpawn();
  return real::pidfd_spawnp(pidfd, file, actions, attributes, argv, environment);
}

XENLOOP_EXPORT int system(const char* command) {
  const ProgramStarts starts;
  BeforeSpawn();
  return real::system(command);
}

XENLOOP_EXPORT FILE* popen(const char* command, const char* type) {
  const ProgramStarts starts;
  BeforeSpawn();
  return real::popen(command, type);
}
XENLOOP_ALIAS(_IO_popen, popen);

XENLOOP_EXPORT int execve(const char* path, char* const argv[], char* const environment[]) {
  return ExecBy(ProgramAt(AT_FDCWD, path, 0),
                [=] { return real::execve(path, argv, environment); });
}

XENLOOP_EXPORT int execv(const char* path, char* const argv[]) {
  return ExecBy(ProgramAt(AT_FDCWD, path, 0), [=] { return real::execv(path, argv); });
}

XENLOOP_EXPORT int execvp(const char* file, char* const argv[]) {
  return ExecBy(ProgramInPath(file), [=] { return real::execvp(file, argv); });
}

XENLOOP_EXPORT int execvpe(const char* file, char* const argv[], char* const environment[]) {
  return ExecBy(ProgramInPath(file), [=] { return real::execvpe(file, argv, environment); });
}

XENLOOP_EXPORT int fexecve(int fd, char* const argv[], char* const environment[]) {
  return ExecBy(ProgramAt(fd, "", AT_EMPTY_PATH),
                [=] { return real::fexecve(fd, argv, environment); });
}

XENLOOP_EXPORT int execveat(int directory, const char* path, char* const argv[],
                            char* const environment[], int flags) {
  return ExecBy(ProgramAt(directory, path, flags),
                [=] { return real::execveat(directory, path, argv, environment, flags); });
}

XENLOOP_EXPORT int execl(const char* path, const char* first, ...) {
  va_list arguments;
  va_start(arguments, first);
  const size_t count = CountArguments(first, &arguments);
  va_end(arguments);
  auto** const argv = static_cast<char**>(alloca(count * sizeof(char*)));
  va_start(arguments, first);
  TakeArguments(argv, first, &arguments);
  va_end(arguments);
  return execv(path, argv);
}

XENLOOP_EXPORT int execlp(const char* file, const char* first, ...) {
  va_list arguments;
  va_start(arguments, first);
  const size_t count = CountArguments(first, &arguments);
  va_end(arguments);
  auto** const argv = static_cast<char**>(alloca(count * sizeof(char*)));
  va_start(arguments, first);
  TakeArguments(argv, first, &arguments);
  va_end(arguments);
  return execvp(file, argv);
}

XENLOOP_EXPORT int execle(const char* path, const char* first, ...) {
  va_list arguments;
  va_start(arguments, first);
  const size_t count = CountArguments(first, &arguments);
  va_end(arguments);
  auto** const argv = static_cast<char**>(alloca(count * sizeof(char*)));
  va_start(arguments, first);
  TakeArguments(argv, first, &arguments);
  auto* const environment = va_arg(arguments, char**);  // follows the null pointer
  va_end(arguments);
  return execve(path, argv, environment);
}

XENLOOP_EXPORT void _exit(int status) {
  SayFarewell();
  real::_exit(status);
  __builtin_unreachable();
}
XENLOOP_ALIAS(_Exit, _exit);

XENLOOP_EXPORT int prctl(int option, ...) {
  va_list arguments;
  va_start(arguments, option);
  const unsigned long a = va_arg(arguments, unsigned long);
  const unsigned long b = va_arg(arguments, unsigned long);
  const unsigned long c = va_arg(arguments, unsigned long);
  const unsigned long d = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (option == PR_SET_SECCOMP) BeforeSandbox();
  if (option == PR_SET_NO_NEW_PRIVS && a == 1) BeforeNoNewPrivileges();
  return real::prctl(option, a, b, c, d);
}

XENLOOP_EXPORT int unshare(int flags) noexcept {
  const bool of_descriptors = (flags & CLONE_FILES) != 0;
  return OneThreadBy(
      [=] {
        if (of_descriptors) BeforeOwnDescriptors();
        return real::unshare(flags);
      },
      of_descriptors);
}

XENLOOP_EXPORT int capset(void* header, const void* data) noexcept {
  return OneThreadBy([=] { return real::capset(header, data); });
}

XENLOOP_EXPORT int setns(int fd, int type) noexcept {
  return OneThreadBy([=] { return real::setns(fd, type); });
}

XENLOOP_EXPORT void quick_exit(int status) {
  SayFarewell();
  real::quick_exit(status);
  __builtin_unreachable();
}
