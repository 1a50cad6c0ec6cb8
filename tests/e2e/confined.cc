// A server that locks itself in, or is locked in, while a client that is not talks to it.
//
//   confined serve WHEN HOW [ERRNO]  WHEN: middle, before, second; HOW: prctl, syscall, tsync,
//   inline.
//                                    The filter allows what the server calls itself, and kills (or
//                                    answers ERRNO) else
//   confined refuse NUMBER ERRNO PROGRAM...   one system call answers an error in PROGRAM
//   confined forbid NAME PROGRAM...  one of these system calls kills PROGRAM: getppid, kill, tgkill
//   confined record FILE PROGRAM...  notes the system calls that PROGRAM makes
//   confined harden PROGRAM...       with what systemd's options refuse by arguments
//   confined allow FILE PROGRAM...   allows these only, and kills for any other
//   confined traffic                 both ends of a connection in one thread
//   confined children                traffic, and children that inherit its connection and answer
//   confined alone                   what needs a process of one thread, after traffic
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr int kRoundsBefore = 60;
constexpr int kRoundsAfter = 400;
constexpr size_t kBytes = 100;

// As a program without libc makes it.
long Inline(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
#else
  return syscall(number, a, b, c);
#endif
}

void Filter(const char* how, const std::set<int>& numbers, bool allow, unsigned otherwise) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const int number : numbers) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, allow ? SECCOMP_RET_ALLOW : otherwise));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, allow ? otherwise : SECCOMP_RET_ALLOW));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(90);
  const std::string name = how;
  const long mode = SECCOMP_SET_MODE_FILTER;
  long result = -1;
  if (name == "prctl") result = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
  if (name == "syscall") result = syscall(SYS_seccomp, mode, 0, &filter);
  if (name == "tsync") result = syscall(SYS_seccomp, mode, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (name == "inline") result = Inline(SYS_seccomp, mode, 0, reinterpret_cast<long>(&filter));
  if (result != 0) _exit(91);
}

bool Whole(int fd, char* bytes, bool write_them) {
  for (size_t done = 0; done < kBytes;) {
    const ssize_t n =
        write_them ? write(fd, bytes + done, kBytes - done) : read(fd, bytes + done, kBytes - done);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

bool IsReadable(int set) {
  epoll_event event;
  return epoll_wait(set, &event, 1, 20000) == 1 && event.events == EPOLLIN;
}

// One side of some round trips; the client checks what comes back. The server waits in `set`.
bool Rounds(int fd, bool client, int count, int set = -1) {
  for (int i = 0; i < count; ++i) {
    char bytes[kBytes];
    memset(bytes, i, sizeof bytes);
    if (set >= 0 && !IsReadable(set)) return false;
    if (!Whole(fd, bytes, client) || !Whole(fd, bytes, !client)) return false;
    if (client && (bytes[0] != static_cast<char>(i) || bytes[kBytes - 1] != static_cast<char>(i)))
      return false;
  }
  return true;
}

int Listen(sockaddr_in* address) {
  *address = {};
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof *address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(address), length) != 0 || listen(listener, 8) != 0)
    _exit(92);
  getsockname(listener, reinterpret_cast<sockaddr*>(address), &length);
  return listener;
}

int Connect(const sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? fd : -1;
}

int SetOf(int fd) {
  const int set = epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) _exit(97);
  return set;
}

[[noreturn]] void Server(int ready, const std::string& when, const char* how, unsigned otherwise) {
  const std::set<int> calls = {SYS_read,          SYS_write,        SYS_close,      SYS_exit_group,
                               SYS_accept,        SYS_rt_sigreturn, SYS_epoll_wait, SYS_epoll_ctl,
                               SYS_epoll_create1, SYS_dup,          SYS_dup2};
  std::set<int> all = calls;
  all.insert({SYS_socket, SYS_bind, SYS_listen, SYS_getsockname});
  if (when == "before") Filter(how, all, true, otherwise);
  sockaddr_in address;
  const int listener = Listen(&address);
  if (write(ready, &address, sizeof address) != sizeof address) _exit(93);
  int fd = accept(listener, nullptr, nullptr);
  const int set = SetOf(fd);
  if (!Rounds(fd, false, kRoundsBefore, set)) _exit(1);
  if (when != "before") Filter(how, calls, true, otherwise);
  if (!Rounds(fd, false, kRoundsAfter, set)) _exit(2);
  close(fd);
  if (when == "second") {
    const int before = SetOf(listener);  // made before the doubt is over
    dup2(dup(set), before);
    close(set);
    fd = accept(listener, nullptr, nullptr);
    if (!Rounds(fd, false, kRoundsAfter, SetOf(fd))) _exit(3);
    close(fd);
  }
  _exit(0);
}

int Serve(const std::string& when, const char* how, unsigned otherwise) {
  int pipes[2];
  if (pipe(pipes) != 0) return 94;
  signal(SIGPIPE, SIG_IGN);
  const pid_t server = fork();
  if (server == 0) Server(pipes[1], when, how, otherwise);
  sockaddr_in address;
  if (read(pipes[0], &address, sizeof address) != sizeof address) return 95;
  int fd = Connect(address);
  bool good = Rounds(fd, true, kRoundsBefore) && Rounds(fd, true, kRoundsAfter);
  close(fd);
  if (good && when == "second") good = Rounds(fd = Connect(address), true, kRoundsAfter);
  int status = 0;
  waitpid(server, &status, 0);
  printf("%s, server ended with %#x\n", good ? "all answered" : "NOT ANSWERED",
         static_cast<unsigned>(status));
  return good && status == 0 ? 0 : 1;
}

int Forbid(const std::string& name, char** program) {
  const int number = name == "getppid" ? SYS_getppid : name == "kill" ? SYS_kill : SYS_tgkill;
  Filter("prctl", {number}, false, SECCOMP_RET_KILL_PROCESS);
  execvp(program[0], program);
  return 96;
}

int Refuse(int number, unsigned error, char** program) {
  Filter("prctl", {number}, false, SECCOMP_RET_ERRNO | error);
  execvp(program[0], program);
  return 96;
}

// Answers an error where an argument has all of these bits.
void RefuseBits(std::vector<sock_filter>* program, int number, unsigned argument, unsigned bits) {
  const auto at = static_cast<unsigned>(offsetof(seccomp_data, args) + 8 * argument);
  const sock_filter rule[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)};
  program->insert(program->end(), std::begin(rule), std::end(rule));
}

// MemoryDenyWriteExecute=, RestrictSUIDSGID= and RestrictNamespaces=, which has libc do without
// clone3.
int Harden(char** program) {
  std::vector<sock_filter> rules;
  RefuseBits(&rules, SYS_mmap, 2, PROT_WRITE | PROT_EXEC);
  RefuseBits(&rules, SYS_mprotect, 2, PROT_EXEC);
  for (const unsigned bit : {S_ISUID, S_ISGID}) {
    RefuseBits(&rules, SYS_openat, 3, bit);
    RefuseBits(&rules, SYS_mkdirat, 2, bit);
  }
  rules.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  rules.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
  rules.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
  rules.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter{static_cast<unsigned short>(rules.size()), rules.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    return 91;
  }
  execvp(program[0], program);
  return 96;
}

// Follows all children, so that a server which forks is recorded as a whole.
int Record(const char* file, char** program) {
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    execvp(program[0], program);
    _exit(96);
  }
  std::set<long> calls;
  int status = 0;
  waitpid(child, &status, 0);
  ptrace(PTRACE_SETOPTIONS, child, nullptr,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
             PTRACE_O_EXITKILL);
  ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
  int result = 97;
  for (pid_t who; (who = waitpid(-1, &status, __WALL)) > 0;) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (who == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 98;
      continue;
    }
    long deliver = 0;
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      __ptrace_syscall_info info = {};
      if (ptrace(PTRACE_GET_SYSCALL_INFO, who, sizeof info, &info) > 0 &&
          info.op == PTRACE_SYSCALL_INFO_ENTRY)
        calls.insert(static_cast<long>(info.entry.nr));
    } else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
      deliver = WSTOPSIG(status);
    }
    ptrace(PTRACE_SYSCALL, who, nullptr, deliver);
  }
  FILE* const out = fopen(file, "w");
  for (const long call : calls) fprintf(out, "%ld\n", call);
  fclose(out);
  return result;
}

int Allow(const char* file, char** program) {
  std::set<int> calls = {SYS_execve};
  FILE* const in = fopen(file, "r");
  for (int call; in != nullptr && fscanf(in, "%d", &call) == 1;) calls.insert(call);
  Filter("prctl", calls, true, SECCOMP_RET_KILL_PROCESS);
  execvp(program[0], program);
  return 96;
}

// Both ends in one thread, which makes no thread and no child.
int Traffic() {
  sockaddr_in address;
  const int listener = Listen(&address);
  const int client = Connect(address);
  const int server = accept(listener, nullptr, nullptr);
  char bytes[kBytes] = {};
  for (int i = 0; i < kRoundsAfter; ++i) {
    if (!Whole(client, bytes, true) || !Whole(server, bytes, false) ||
        !Whole(server, bytes, true) || !Whole(client, bytes, false)) {
      return 1;
    }
  }
  close(client);
  close(server);
  return 0;
}

// A program that makes children may find out what its filter allows.
int Children() {
  int failed = 0;
  sockaddr_in address;
  const int listener = Listen(&address);
  for (int i = 0; i < 100; ++i) {
    const int client = Connect(address);
    const int server = accept(listener, nullptr, nullptr);
    char bytes[kBytes] = {};
    for (int turn = 0; turn < 40; ++turn)
      failed += Whole(client, bytes, true) && Whole(server, bytes, false) ? 0 : 1;
    const pid_t child = fork();
    if (child == 0) _exit(Whole(server, bytes, true) ? 0 : 1);
    close(server);
    int status = 0;
    failed += waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
    failed += status == 0 && Whole(client, bytes, false) ? 0 : 1;
    close(client);
  }
  printf("%d failed\n", failed);
  return failed != 0;
}

// Echo by a child, and then what the kernel allows to a process of one thread only.
int Alone() {
  sockaddr_in address;
  const int listener = Listen(&address);
  const pid_t server = fork();
  if (server == 0) {
    const int fd = accept(listener, nullptr, nullptr);
    while (Rounds(fd, false, 1)) {
    }
    _exit(0);
  }
  const int fd = Connect(address);
  const bool before = Rounds(fd, true, kRoundsBefore);
  const int own = open("/proc/self/ns/mnt", O_RDONLY);
  const int joined = setns(own, 0);
  printf("setns: %s\n", joined == 0 ? "0" : strerror(errno));
  const bool between = Rounds(fd, true, kRoundsAfter);
  const int alone = unshare(CLONE_NEWUSER);
  printf("unshare: %s\n", alone == 0 ? "0" : strerror(errno));
  const bool after = Rounds(fd, true, kRoundsAfter);
  close(fd);
  waitpid(server, nullptr, 0);
  puts(before && between && after ? "all answered" : "NOT ANSWERED");
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "serve" && count > 3) {
    const unsigned error = count > 4 ? static_cast<unsigned>(atoi(arguments[4])) : 0;
    return Serve(arguments[2], arguments[3],
                 count > 4 ? SECCOMP_RET_ERRNO | error : SECCOMP_RET_KILL_PROCESS);
  }
  if (what == "refuse" && count > 4)
    return Refuse(atoi(arguments[2]), static_cast<unsigned>(atoi(arguments[3])), arguments + 4);
  if (what == "forbid" && count > 3) return Forbid(arguments[2], arguments + 3);
  if (what == "record" && count > 3) return Record(arguments[2], arguments + 3);
  if (what == "harden" && count > 2) return Harden(arguments + 2);
  if (what == "allow" && count > 3) return Allow(arguments[2], arguments + 3);
  if (what == "alone") return Alone();
  if (what == "children") return Children();
  if (what == "traffic") return Traffic();
  return 99;
}
