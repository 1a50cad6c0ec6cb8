// Every way to make a process, to become another program, and to leave.
#include <dlfcn.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/abi/calls.h"

extern char** environ;

static int StatusOf(pid_t child) {
  int status = 0;
  if (child <= 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

// A socket that a child and its parent both have, and that must survive what the child does to its
// own copy.
static struct Pair shared;
static void ExpectSharedWorks(void) { ExpectConnected(shared.fds[1], shared.fds[0]); }

static int LeaveWith7(void* argument) {
  close(shared.fds[1]);
  _exit(argument == &shared ? 7 : 8);
}

static void TestForks(void) {
  ENTRY_LIKE(_Fork, fork);
  pid_t child = call__Fork();
  if (child == 0) LeaveWith7(&shared);
  EXPECT(StatusOf(child), 7);
  ExpectSharedWorks();
  child = (pid_t)syscall(SYS_fork);
  if (child == 0) LeaveWith7(&shared);
  EXPECT(StatusOf(child), 7);
  child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
  if (child == 0) LeaveWith7(&shared);
  EXPECT(StatusOf(child), 7);
  ExpectSharedWorks();
}

// By their names and not by pointers: the compiler has to know that these return twice.
extern pid_t __vfork(void) __attribute__((returns_twice));

static void TestVforks(void) {
  static char* const arguments[] = {"sh", "-c", "exit 9", NULL};
  Entry("vfork");
  Entry("__vfork");
  pid_t child = vfork();
  if (child == 0) {
    close(shared.fds[1]);
    dup2(2, shared.fds[0]);
    _exit(7);
  }
  EXPECT(StatusOf(child), 7);
  ExpectSharedWorks();
  child = __vfork();
  if (child == 0) {
    close_range(3, ~0U, 0);
    execve("/bin/sh", arguments, environ);
    _exit(1);
  }
  EXPECT(StatusOf(child), 9);
  ExpectSharedWorks();
  child = vfork();
  if (child == 0) {
    execve("/nonexistent", arguments, environ);
    _exit(errno == ENOENT ? 7 : 8);
  }
  EXPECT(StatusOf(child), 7);
  ExpectSharedWorks();
}

static void TestClones(void) {
  ENTRY(clone);
  ENTRY_LIKE(__clone, clone);
  static char stack[65536] __attribute__((aligned(16)));
  char* const top = stack + sizeof stack;
  pid_t parent_tid = 0;
  EXPECT(StatusOf(call_clone(LeaveWith7, top, SIGCHLD, &shared)), 7);
  ExpectSharedWorks();
  const pid_t child =
      call___clone(LeaveWith7, top, CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD, &shared,
                   &parent_tid, NULL, NULL);
  EXPECT(StatusOf(child), 7);
  EXPECT_TRUE(parent_tid == child);
  ExpectSharedWorks();
  EXPECT(call_clone(NULL, top, SIGCHLD, NULL), -EINVAL);
}

// A libc without it: the library answers as a kernel without pidfds does.
static void TestPidfdSpawn(const char* name, const char* program) {
  static char* const arguments[] = {"sh", "-c", "exit 9", NULL};
  if (IsNewerThanLibc(name) && dlsym(RTLD_DEFAULT, name) == NULL) return;
  int (*const spawn)(int*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                     char* const*, char* const*) = Entry(name);
  int pidfd = -1;
  if (IsNewerThanLibc(name)) {
    EXPECT_TRUE(spawn(&pidfd, program, NULL, NULL, arguments, environ) == ENOSYS);
    return;
  }
  siginfo_t end = {.si_status = -1};
  EXPECT_TRUE(spawn(&pidfd, program, NULL, NULL, arguments, environ) == 0);
  EXPECT(waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED), 0);
  EXPECT(end.si_status, 9);
  EXPECT(close(pidfd), 0);
}

static void TestSpawns(void) {
  TestPidfdSpawn("pidfd_spawn", "/bin/sh");
  TestPidfdSpawn("pidfd_spawnp", "sh");

  ENTRY(posix_spawn);
  ENTRY(posix_spawnp);
  ENTRY(posix_spawn_file_actions_adddup2);
  ENTRY(system);
  ENTRY(popen);
  ENTRY_LIKE(_IO_popen, popen);
  static char* const arguments[] = {"sh", "-c", "exit 9", NULL};
  pid_t child = -1;
  EXPECT_TRUE(call_posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
  EXPECT(StatusOf(child), 9);
  EXPECT_TRUE(call_posix_spawnp(&child, "sh", NULL, NULL, arguments, environ) == 0);
  EXPECT(StatusOf(child), 9);
  posix_spawn_file_actions_t actions;
  EXPECT(posix_spawn_file_actions_init(&actions), 0);
  EXPECT(call_posix_spawn_file_actions_adddup2(&actions, 2, 1), 0);
  EXPECT_TRUE(call_posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environ) == 0);
  EXPECT(StatusOf(child), 9);
  EXPECT(posix_spawn_file_actions_destroy(&actions), 0);
  EXPECT_TRUE(call_posix_spawn(&child, "/nonexistent", NULL, NULL, arguments, environ) == ENOENT);
  EXPECT_TRUE(WEXITSTATUS(call_system("exit 5")) == 5);
  EXPECT_TRUE(call_system(NULL) != 0);
  for (int old_name = 0; old_name < 2; ++old_name) {
    char line[16] = "";
    FILE* const from = old_name ? call__IO_popen("echo popen", "r") : call_popen("echo popen", "r");
    EXPECT_TRUE(from != NULL && fgets(line, sizeof line, from) != NULL);
    EXPECT_TRUE(strcmp(line, "popen\n") == 0);
    EXPECT(pclose(from), 0);
  }
  ExpectSharedWorks();
}

// Out of a handler, and out of the receive that it interrupted: the socket is as before.
static sigjmp_buf way_out;
static void (*jump)(sigjmp_buf, int);
static void JumpOut(int signal) { jump(way_out, signal); }

static void JumpBy(void (*by)(sigjmp_buf, int)) {
  struct Pair pair = MakePair(kTcp);
  struct sigaction action = {.sa_handler = JumpOut, .sa_flags = SA_NODEFER}, before;
  sigaction(SIGALRM, &action, &before);
  jump = by;
  const int came = sigsetjmp(way_out, 1);
  if (came == 0) {
    char byte;
    ualarm(20000, 0);
    recv(pair.fds[0], &byte, 1, 0);
  }
  EXPECT(came, SIGALRM);
  sigaction(SIGALRM, &before, NULL);
  ExpectConnected(pair.fds[1], pair.fds[0]);
  ClosePair(&pair);
}

static void TestJumps(void) {
  static const char* const kJumps[] = {"longjmp", "_longjmp", "siglongjmp", "__longjmp_chk"};
  for (size_t i = 0; i < sizeof kJumps / sizeof kJumps[0]; ++i)
    JumpBy((void (*)(sigjmp_buf, int))Entry(kJumps[i]));
}

static ucontext_t context_out;
static volatile sig_atomic_t arrived;
static int (*set_context)(const ucontext_t*);
static void LeaveByContext(int signal) {
  arrived = signal;
  set_context(&context_out);
}

static void TestSetContext(void) {
  set_context = (int (*)(const ucontext_t*))Entry("setcontext");
  struct Pair pair = MakePair(kTcp);
  struct sigaction action = {.sa_handler = LeaveByContext}, before;
  sigaction(SIGALRM, &action, &before);
  arrived = 0;
  getcontext(&context_out);
  if (arrived == 0) {
    char byte;
    ualarm(20000, 0);
    recv(pair.fds[0], &byte, 1, 0);
  }
  EXPECT(arrived, SIGALRM);
  sigaction(SIGALRM, &before, NULL);
  ExpectConnected(pair.fds[1], pair.fds[0]);
  ClosePair(&pair);
}

static void TestPrctl(void) {
  ENTRY(prctl);
  char name[16] = "";
  EXPECT(call_prctl(PR_SET_NAME, "calls"), 0);
  EXPECT(call_prctl(PR_GET_NAME, name), 0);
  EXPECT_TRUE(strcmp(name, "calls") == 0);
  EXPECT(call_prctl(-1, 0, 0, 0, 0), -EINVAL);
}

static void TestThreadChanges(void) {
  ENTRY(unshare);
  ENTRY(setns);
  __typeof__(int(void*, const void*))* const call_capset = Entry("capset");
  EXPECT(call_unshare(1 << 3), -EINVAL);
  EXPECT(call_setns(-1, 0), -EBADF);
  EXPECT(call_capset(NULL, NULL), -EFAULT);
}

void TestProcesses(void) {
  shared = MakePair(kTcp);
  TestForks();
  TestVforks();
  TestJumps();
  TestSetContext();
  TestPrctl();
  TestThreadChanges();
  TestClones();
  TestSpawns();
  ClosePair(&shared);
}

// Runs `exit $1` with V in its environment telling whether that was handed over. Form 100 and more:
// cannot succeed.
static void ExecBy(void* argument) {
  const long form = (long)argument % 100;
  const bool fails = (long)argument >= 100;
  const char* const path = fails ? "/nonexistent" : "/bin/sh";
  const char* const file = fails ? "nonexistent-program" : "sh";
  static char* const values[] = {"sh", "-c", "exit $(($1 + ${V:-0}))", "sh", "20", NULL};
  static char* const with_value[] = {"V=1", NULL};
  setenv("V", "2", 1);
  struct Pair pair = MakePair(kTcp);
  const int file_fd = fails ? -1 : open("/bin/sh", O_RDONLY | O_CLOEXEC);
  ENTRY(execve);
  ENTRY(execv);
  ENTRY(execvp);
  ENTRY(execvpe);
  ENTRY(execl);
  ENTRY(execle);
  ENTRY(execlp);
  ENTRY(fexecve);
  ENTRY(execveat);
  long result = 99;
  errno = 0;
  switch (form) {
    case 0:
      result = call_execve(path, values, with_value);
      break;
    case 1:
      result = call_execv(path, values);
      break;
    case 2:
      result = call_execvp(file, values);
      break;
    case 3:
      result = call_execvpe(file, values, with_value);
      break;
    case 4:
      result = call_execl(path, "sh", "-c", values[2], "sh", "20", NULL);
      break;
    case 5:
      result = call_execle(path, "sh", "-c", values[2], "sh", "20", NULL, with_value);
      break;
    case 6:
      result = call_execlp(file, "sh", "-c", values[2], "sh", "20", NULL);
      break;
    case 7:
      result = call_fexecve(file_fd, values, with_value);
      break;
    case 8:
      result = call_execveat(AT_FDCWD, path, values, with_value, 0);
      break;
    case 9:
      result = syscall(SYS_execve, path, values, with_value);
      break;
    case 10:
      result = syscall(SYS_execveat, (long)AT_FDCWD, path, values, with_value, 0L);
      break;
  }
  // execvp and its kin say EACCES if PATH names a directory that this user may not search.
  const bool by_path = form == 2 || form == 3 || form == 6;
  EXPECT_TRUE(result == -1 &&
              (errno == (form == 7 ? EINVAL : ENOENT) || (by_path && errno == EACCES)));
  ExpectConnected(pair.fds[1], pair.fds[0]);
}

static void LeaveBy(void* argument) {
  ENTRY(_exit);
  ENTRY(_Exit);
  ENTRY(quick_exit);
  switch ((long)argument) {
    case 0:
      call__exit(40);
    case 1:
      call__Exit(40);
    case 2:
      call_quick_exit(40);
    default:
      syscall(SYS_exit_group, 40L);
  }
}

void TestExec(void) {
  static const char* const kInChildren[] = {"execve",   "execv",  "execvp", "execvpe",
                                            "execl",    "execle", "execlp", "fexecve",
                                            "execveat", "_exit",  "_Exit",  "quick_exit"};
  for (size_t i = 0; i < sizeof kInChildren / sizeof kInChildren[0]; ++i) Entry(kInChildren[i]);
  static const int kAdded[] = {1, 2, 2, 1, 2, 1, 2, 1, 1, 1, 1};
  for (long form = 0; form <= 10; ++form) {
    EXPECT(InChild(ExecBy, (void*)form), 20 + kAdded[form]);
    EXPECT(InChild(ExecBy, (void*)(form + 100)), 0);
  }
  for (long form = 0; form <= 3; ++form) EXPECT(InChild(LeaveBy, (void*)form), 40);
}
